"""How one file is scored: an image under prompts, a sound under texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dmlik_pl.announce import counting
from dmlik_pl.flow import Hutchinson, Multistep, Target, log_likelihood
from dmlik_pl.models import Likelihoods, TextToSpeech, load
from dmlik_pl.models import log_likelihood as likelihood_of_images

if TYPE_CHECKING:
    from dmlik_pl.flow import ProbabilityFlow

__all__ = ["Pictures", "Scorer", "Sounds", "best_device"]


class Scorer(ABC):
    """Scores files by a model, all candidates of one file on the same probes.

    Args:
        model: The model.
        device: Where it goes.
        nodes: Nodes of the time grid.
        probes: Probes of the trace per node.
        seed: Their seed.
        target: The error that a likelihood may have, bits per dimension, in place of nodes and probes; or None.

    Attributes:
        evaluations: Network evaluations so far.
        alone: Guidance weight of files without prompts.
    """

    alone = 1.0

    def __init__(
        self, model: Any, device: torch.device, nodes: int, probes: int, seed: int, target: float | None = None
    ) -> None:
        self.model, self.target = model.to(device), target
        fixed = {"solver": Multistep(nodes), "divergence": Hutchinson(probes)}
        self.how: dict[str, Any] = {"seed": seed} | (fixed if target is None else {})
        self.evaluations = 0
        self._nodes, self._flow = nodes, model.flow
        model.flow = self._counted

    def planned(self, candidates: int, guidance: float) -> int:
        """Network evaluations that one file takes: guided flows have two branches, and a second solve for rounding."""
        return candidates * self._nodes * (1 if guidance in (0, 1) else 4)

    @abstractmethod
    def measure(self, file: str, prompts: Sequence[str], guidance: float) -> Likelihoods:
        """The likelihoods of a file under each prompt, or without any.

        Raises:
            OSError: If the file cannot be read.
            SolverError: If it has no likelihood.
            ValueError: If it, or a prompt, does not fit the model.
        """

    def _counted(self, *args: Any, **options: Any) -> ProbabilityFlow:
        return counting(self._flow(*args, **options), self._called)

    def _called(self, count: int) -> None:
        self.evaluations += count


class Pictures(Scorer):
    """Images under prompts.

    Args:
        path: The model, as :func:`dmlik_pl.load` takes it.
        dtype: Floating point type of its network; the model's own by default.
        prompted: Whether there are prompts.
        how: Further arguments of :class:`Scorer`.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is another kind of model, or has no likelihood without a prompt and there is none.
    """

    def __init__(self, path: str, dtype: str | None, prompted: bool, **how: Any) -> None:
        try:
            model = load(path) if dtype is None else load(path, dtype=dtype)
        except FileNotFoundError as error:  # which names the setting of a configuration
            raise FileNotFoundError(str(error).replace("--model.diffusion.init_args.path", "--model")) from error
        super().__init__(model, **how)
        try:
            self.alone = 1.0 if prompted or model.condition("").inputs is None else 0.0
        except ValueError as error:
            raise ValueError(f"the model is conditioned on prompts, give --prompt: {error}") from error

    def measure(self, file: str, prompts: Sequence[str], guidance: float) -> Likelihoods:  # noqa: D102
        names = [file] * max(1, len(prompts))  # equal names share their probes
        said = list(prompts) or None
        how = self.how | {"target": self.target, "sample_ids": names}
        return likelihood_of_images(self.model, names, said, guidance=guidance, **how)


class Sounds(Scorer):
    """Sounds under texts, by the spectrogram's density under each text's best alignment.

    Args:
        path: The model, as :class:`~dmlik_pl.models.TextToSpeech` takes it.
        speaker: Who speaks.
        how: Further arguments of :class:`Scorer`.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is another kind of model.
    """

    def __init__(self, path: str, speaker: int, **how: Any) -> None:
        from dmlik_pl.speech.mel import LogMel
        from dmlik_pl.speech.text import EnglishFrontEnd

        super().__init__(TextToSpeech(path), **how)
        self.speaker, self.tokens, self.mel = speaker, EnglishFrontEnd(), LogMel(self.model.rate)

    @torch.no_grad()
    def measure(self, file: str, prompts: Sequence[str], guidance: float) -> Likelihoods:  # noqa: D102
        from dmlik_pl.speech.audio import read

        if guidance != 1:
            raise ValueError(f"--guidance {guidance:g}: a model of speech has no unconditional branch, leave it out")
        model, device = self.model, self.model.device
        mel = self.mel(read(Path(file), model.rate, resample=True)).to(device)
        means = [model.align(self.tokens(text).to(device), mel, speaker=self.speaker).mu for text in prompts]
        condition = model.condition(means, [self.speaker] * len(prompts))
        x, names = model.pad(mel).expand(len(prompts), -1, -1), [file] * len(prompts)
        target = None if self.target is None else Target(self.target)
        found = log_likelihood(model.flow(), x, condition, sample_ids=names, target=target, **self.how)
        return Likelihoods(found, names, prompts, model.space)


def best_device(name: str | None) -> torch.device:
    """A device by its name; the accelerator by default, if there is one."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device(name or accelerator or "cpu")
