"""The bank of problems: a flow, samples with their conditions, and what their likelihoods truly are."""

import copy
import math
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from dmlik_pl.data.base import EvaluationData, collate
from dmlik_pl.flow import Condition, DiscreteVP, LinearVP, ProbabilityFlow, Schedule
from dmlik_pl.models.closed_form import GaussianMixture

__all__ = ["NETWORKS", "PROBLEMS", "Problem", "attention", "digits", "mixture", "rough", "shapes", "tiny_sdxl"]


@dataclass(frozen=True)
class Problem:
    """Samples and a flow that scores them.

    Attributes:
        name: Name for tables.
        flow: The model in the precision in which it is measured.
        x: Samples [B, ...].
        condition: What they are conditioned on.
        rival: A wrong condition of the same samples, to compare with the true one.
        precise: The same model in float64, for references.
        samples: Names of the samples, which key the probes.
        log_snr_rate: d lambda / dt of the (variance preserving) schedule, in closed form for the methods that need it.
    """

    name: str
    flow: ProbabilityFlow
    x: Tensor
    condition: Condition
    rival: Condition
    precise: ProbabilityFlow
    samples: Sequence[str]
    log_snr_rate: Callable[[float], float]

    @property
    def dims(self) -> int:
        """D."""
        return self.x[0].numel()

    @property
    def bits(self) -> float:
        """Bits per dimension that a nat is worth."""
        return 1 / (self.dims * math.log(2))

    def in_double(self) -> "Problem":
        """The same problem with model, samples and conditions in float64."""
        return replace(
            self,
            flow=self.precise,
            x=self.x.double(),
            condition=self.condition.map(_double),
            rival=self.rival.map(_double),
        )


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _linear_rate(t: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """d lambda / dt = -beta / sigma^2 of the linear schedule."""
    return -(beta_min + (beta_max - beta_min) * t) / -math.expm1(-(beta_min * t + 0.5 * (beta_max - beta_min) * t**2))


def _spline_rate(schedule: Schedule) -> Callable[[float], float]:
    """d lambda / dt of a discrete schedule: the derivative of the cubic spline through its steps."""
    t = torch.linspace(0, schedule.t_max, round(schedule.t_max * 999) + 1, dtype=torch.float64)
    derivative = CubicSpline(t.numpy(), schedule.log_snr(t).numpy()).derivative()
    return lambda time: float(derivative(time))


def mixture(count: int = 8, dims: int = 64, components: int = 8) -> Problem:
    """A closed form: full covariances with power-law spectra, no two of which commute."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    bases = torch.linalg.qr(normal(components, dims, dims))[0]
    spectrum = torch.arange(1, dims + 1, dtype=torch.float64) ** -1.0
    covariances = torch.einsum("kij,j,klj->kil", bases, spectrum * dims / 2 / spectrum.sum(), bases)
    model = GaussianMixture(0.5 * normal(components, dims), covariances)
    x, shift, wrong = model.sample(count, generator), 0.1 * normal(count, dims), 0.1 * normal(count, dims)
    flow = model.flow(LinearVP(beta_min=0.1, beta_max=20.0))
    names = [f"draw-{i}" for i in range(count)]
    return Problem(
        name=f"closed-form mixture, D={dims}",
        flow=flow,
        x=x + shift,
        condition=model.condition(shift),
        rival=model.condition(wrong),
        precise=flow,
        samples=names,
        log_snr_rate=_linear_rate,
    )


def _of_model(
    name: str, model: Any, data: EvaluationData, count: int, rivals: Callable[[list[str]], list[str]]
) -> Problem:
    """Samples of a data set, read as what a shipped model has a density of."""
    model = model.eval().requires_grad_(False)
    data.limit = count
    batch = collate([data.test_set()[position] for position in data._selected()])
    with torch.no_grad():
        x = model.to_latent(batch.image, batch.sample_id)
        condition, rival = model.condition(batch.prompt), model.condition(rivals(batch.prompt))
    flow, precise = model.flow(), copy.deepcopy(model).double().flow()
    rate = _spline_rate(flow.schedule)
    return Problem(f"{name}, D={x[0].numel()}", flow, x, condition, rival, precise, batch.sample_id, rate)


def digits(count: int = 4) -> Problem:
    """The shipped pixel model on test images of handwritten digits; the rival of a digit is the next one."""
    from dmlik_pl.data.digits import Digits
    from dmlik_pl.models import PixelDiffusion

    return _of_model(
        "digits", PixelDiffusion("digits"), Digits(), count, lambda prompts: [str((int(p) + 1) % 10) for p in prompts]
    )


def shapes(count: int = 4) -> Problem:
    """The shipped SDXL pipeline on rendered test pictures; the rival has the caption of another picture."""
    from dmlik_pl.data.shapes import Shapes
    from dmlik_pl.models import StableDiffusionXL

    return _of_model(
        "shapes (SDXL)",
        StableDiffusionXL("shapes-sdxl"),
        Shapes(),
        count,
        lambda prompts: [*prompts[1:], "a photo of a cyan cylinder"],
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {"mixture": mixture, "digits": digits, "shapes": shapes}


def rough(count: int = 4) -> Problem:
    """The closed form of the tests, in eight dimensions: a likelihood is decided at few noise levels."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means, bases = 1.5 * normal(3, 8), torch.linalg.qr(normal(3, 8, 8)).Q
    log_variances = 3 * torch.rand(3, 8, generator=generator, dtype=torch.float64) - 1.5
    covariances = torch.einsum("kij,kj,klj->kil", bases, log_variances.exp(), bases)
    model = GaussianMixture(means, covariances)
    x = model.sample(count, generator) + 0.3
    flow = model.flow(LinearVP(beta_min=0.1, beta_max=20.0))
    return Problem(
        name="rough mixture, D=8",
        flow=flow,
        x=x,
        condition=model.condition(torch.full_like(x, 0.3)),
        rival=model.condition(torch.zeros_like(x)),
        precise=flow,
        samples=[f"draw-{i}" for i in range(count)],
        log_snr_rate=_linear_rate,
    )


def tiny_sdxl(count: int = 4) -> Problem:
    """The random SDXL pipeline of the tests."""
    from dmlik_pl.models import StableDiffusionXL

    models = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "tiny_models.py"))
    captions = models["CAPTIONS"]
    with TemporaryDirectory() as folder:
        path = models["make_tiny_sdxl"](Path(folder), scheduler={"prediction_type": "v_prediction"})
        model = StableDiffusionXL(str(path)).eval().requires_grad_(False)
    x = torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        condition, rival = (model.condition(captions[start : start + count]) for start in (0, count))
    return _random("tiny SDXL, random", model.flow(), x, condition, rival)


def attention(count: int = 4) -> Problem:
    """A random U-Net of which every stage attends to every other pixel, with sharp heads."""
    from diffusers import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            in_channels=3,
            out_channels=3,
            down_block_types=["AttnDownBlock2D"] * 2,
            up_block_types=["AttnUpBlock2D"] * 2,
            block_out_channels=[16, 32],
            layers_per_block=2,
            norm_num_groups=4,
            attention_head_dim=8,
            num_class_embeds=2,
        )
    unet.eval().requires_grad_(False)
    for name, weight in unet.named_parameters():
        if name.endswith(("to_q.weight", "to_k.weight")):
            weight.mul_(math.sqrt(8))
        if name.endswith(("to_v.weight", "to_out.0.weight")):
            weight.mul_(2)

    def network(x: Tensor, time: Tensor, inputs: Any) -> Tensor:
        output: Tensor = unet(x, time, class_labels=inputs).sample
        return output

    x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    flow = ProbabilityFlow(network, DiscreteVP.scaled_linear(), "v")
    labels = torch.arange(count) % 2
    return _random("attention, random", flow, x, Condition(labels), Condition(1 - labels))


def _random(name: str, flow: ProbabilityFlow, x: Tensor, condition: Condition, rival: Condition) -> Problem:
    return Problem(
        name=f"{name}, D={x[0].numel()}",
        flow=flow,
        x=x,
        condition=condition,
        rival=rival,
        precise=flow,
        samples=[f"draw-{i}" for i in range(len(x))],
        log_snr_rate=_spline_rate(flow.schedule),
    )


NETWORKS: dict[str, Callable[[], Problem]] = {"rough": rough, "tiny-sdxl": tiny_sdxl, "attention": attention}
"""Further problems, for what probes leave and not for what a solver does."""
