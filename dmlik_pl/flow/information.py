r"""How much a condition says of a sample, by the I-MMSE relation: no derivative of the network and no ODE.

The pointwise mutual information of a sample and its condition is an integral over noise levels,

.. math::
    i(x; y) = \log \frac{p(x | y)}{p(x)} = \frac{1}{2} \int \mathbb{E}_\epsilon \left[
        \| \epsilon - \hat\epsilon(z_r) \|^2 - \| \epsilon - \hat\epsilon(z_r, y) \|^2 \right] d \log \mathrm{SNR}

the standard form. On average over p(x|y) the error of a prediction is orthogonal to whatever the noised sample and y
say, and the same integral becomes

.. math::
    i_o(x; y) = \frac{1}{2} \int \mathbb{E}_\epsilon
        \| \hat\epsilon(z_r) - \hat\epsilon(z_r, y) \|^2 d \log \mathrm{SNR}

the orthogonal form: far less noisy and never negative. It is the information of samples that belong to y; under a wrong
condition it says how far that moves the prediction, whichever way. Both hold for the best denoisers; for a trained
network the first is the difference of two evidence lower bounds on the same noise.

References:
    | Information-Theoretic Diffusion (Kong et al., 2023)
    | Interpretable Diffusion via Information Decomposition (Kong et al., 2024), for both forms
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE
from dmlik_pl.flow.noising import Draws, Noising, squared_norm
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow

__all__ = ["Information", "pointwise_information"]


@dataclass(frozen=True)
class Information:
    """Pointwise mutual information of B samples and their conditions.

    Attributes:
        standard: The standard form, nats.
        orthogonal: The orthogonal form, nats.
    """

    standard: Draws
    orthogonal: Draws

    @classmethod
    def of(
        cls, noising: Noising, conditional: Tensor, unconditional: Tensor, mask: Tensor | None = None
    ) -> "Information":
        """The information that noise predictions [draws, B, ...] with and without the condition make.

        Levels, noises and importance weights are those of the evidence lower bound, so that both may share one pass of
        the network.
        """
        errors = [squared_norm(noising.noises.double() - each.double(), mask) for each in (unconditional, conditional)]
        moved = squared_norm(unconditional.double() - conditional.double(), mask)
        return cls(noising.integral(errors[0] - errors[1]), noising.integral(moved))

    @staticmethod
    def cat(parts: "Sequence[Information]") -> "Information":
        """The information of several batches with equally many draws as that of one."""
        standard, orthogonal = (
            Draws(torch.cat([form.draws for form in forms], 1))
            for forms in zip(*((part.standard, part.orthogonal) for part in parts), strict=True)
        )
        return Information(standard, orthogonal)


def pointwise_information(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition,
    *,
    draws: int = 32,
    sample_ids: Sequence[str | int] | None = None,
    seed: int = 0,
) -> tuple[Information, NFE]:
    """What a model's condition says of each sample, and the network evaluations per sample that it cost.

    Args:
        flow: The model; one with guidance says what a guided flow makes of the condition.
        x: Samples [B, ...].
        condition: Their conditions, one each or one for all, with the null branch.
        draws: Levels and noises per sample; the network is called with and without the condition at each.
        sample_ids: Stable names, which key levels and noise.
        seed: Their seed.

    Raises:
        ValueError: If there are fewer than two draws, the condition has no null branch, or does not match x.
    """
    condition = condition.spread(x)
    noising = Noising.keyed(flow, x, condition.mask, draws=draws, sample_ids=sample_ids, seed=seed)
    conditional = noising.predict(flow, x, condition)
    unconditional = noising.predict(replace(flow, guidance=0.0), x, condition)
    nfe = NFE(forward=draws * (flow.evaluations_per_call + 1))
    return Information.of(noising, conditional, unconditional, condition.mask), nfe
