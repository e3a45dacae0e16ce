"""How many nodes a flow-matching model takes: ``python -m benchmarks.twin``.

A twin of the shipped model of digits, of the same network and data, is trained by flow matching: x_t = (1 - t) x_0 +
t eps, with the velocity eps - x_0 for a target. Its likelihoods by dopri5 and by the default solver, with nodes uniform
in log-SNR and at the times of a sampler, are compared with those of many nodes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.tables import RESULTS, publish
from dmlik_pl.data.digits import Digits
from dmlik_pl.flow import (
    Condition,
    Exact,
    Multistep,
    ProbabilityFlow,
    RectifiedFlow,
    TorchDiffEq,
    log_likelihood,
)
from dmlik_pl.modules.training.pixel_diffusion import SMALL_UNET

__all__ = ["main", "train_twin"]

TRAINED = 999.0  # what the network is told at t = 1, so that its embedding of steps resolves times
SHIFT = 3.0  # of the sampler whose times are tried for nodes, as in Stable Diffusion 3
REFERENCE = TorchDiffEq("dopri5", "angle", rtol=1e-6, atol=1e-6)  # 794 calls; 257 nodes are within 3e-4 of it
FORMATS = {"mean": ".1e", "largest": ".1e"}
NOTES = (
    "Differences of bits/dim from dopri5 at a tolerance of 1e-6, all with exact traces; state float64.",
    "Calls: evaluations of the network per sample; each has a trace.",
    f"Sampler spacing: equal steps of the sampler's time, at shift {SHIFT:g}.",
)


def train_twin(steps: int, seed: int = 0) -> Any:
    """The network of the twin, by so many steps of 64 digits with uniform times; its average over the last of them."""
    from diffusers import UNet2DModel
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(seed)
    images, labels = _digits("train")
    unet = UNet2DModel(**{**SMALL_UNET, "dropout": 0.2, "num_class_embeds": 11})
    average = AveragedModel(unet, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.AdamW(unet.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        x, label = images[chosen], torch.where(torch.rand(64) < 0.1, 10, labels[chosen])
        t, noise = torch.rand(64), torch.randn_like(x)
        at = t[:, None, None, None]
        velocity = unet((1 - at) * x + at * noise, TRAINED * t, label).sample
        loss = (velocity - (noise - x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(unet)
    return average.module.eval().requires_grad_(False).double()


def _digits(part: str) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 8, 8] and labels of the training or test digits."""
    data = Digits()
    data.setup("fit" if part == "train" else "test")
    batches = data.train_dataloader() if part == "train" else data.test_dataloader()
    found = [batch for each in batches for batch in getattr(each, "batches", [each])]
    labels = torch.tensor([int(prompt) for batch in found for prompt in batch.prompt])
    return torch.cat([batch.image for batch in found]), labels


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1500, help="training steps of the twin")
    parser.add_argument("--samples", type=int, default=2, help="test digits")
    parser.add_argument("--nodes", type=int, nargs="+", default=[17, 33, 49, 65, 81, 97, 129])
    parser.add_argument("--quick", action="store_true", help="one digit and a twin that is hardly trained")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    quick = options.quick
    images, labels = _digits("test")
    count = 1 if quick else options.samples
    x, label = images[:count].double(), labels[:count]
    twin = train_twin(5 if quick else options.steps)

    def network(x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        output: Tensor = twin(x, TRAINED * time, inputs["label"]).sample
        return output

    flow = ProbabilityFlow(network, RectifiedFlow(shift=SHIFT), "velocity")
    condition = Condition({"label": label})
    closest: Any = Multistep(9) if quick else REFERENCE
    reference = log_likelihood(flow, x, condition, solver=closest, divergence=Exact())
    adaptive = [TorchDiffEq("dopri5", "angle", rtol=10**-power, atol=10**-power) for power in (3, 4)]
    trials: list[Any] = [*adaptive, *(Multistep(nodes) for nodes in options.nodes)]
    trials += [Multistep(nodes, spacing="sampler") for nodes in options.nodes]
    rows = []
    for solver in trials[-1:] if quick else trials:
        found = log_likelihood(flow, x, condition, solver=solver, divergence=Exact(), on_failure="record")
        error = (found.bpd - reference.bpd).abs()
        row = {"problem": "digits by flow matching", "solver": solver.describe(), "calls": found.nfe.forward}
        rows.append({**row, "mean": float(error.mean()), "largest": float(error.max())})
    frame = pd.DataFrame(rows)
    title = f"Nodes that a flow-matching model takes, {count} samples"
    publish(options.output, "flow_matching", frame, FORMATS, title, NOTES)
    return frame


if __name__ == "__main__":
    main()
