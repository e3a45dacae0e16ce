"""A conditional image model of which every likelihood is known, for tests of studies and of the evaluation."""

import builtins
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dmlik_pl.data.base import Batch, EvaluationData, EvaluationSet, Failure, Sample
from dmlik_pl.flow import Condition, GaussianPrior, LinearVP
from dmlik_pl.models.base import ImageModel
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.studies import Estimator, Outcome, Study

SHIFTS = {"dark small": -0.8, "dark large": -0.3, "light small": 0.3, "light large": 0.8}


class ToyModel(ImageModel):
    """Images of 1 x 2 x 2 pixels: a mixture of two Gaussians, shifted by what the prompt says."""

    space = "toy pixels"
    prediction = "v"
    prior = GaussianPrior()

    def __init__(self, broken: Sequence[str] = ()) -> None:
        super().__init__()
        eye = torch.eye(4, dtype=torch.float64)
        centres = torch.tensor([[0.3, -0.2, 0.1, 0.0], [-0.3, 0.2, 0.0, 0.1]], dtype=torch.float64)
        self.mixture = GaussianMixture(centres, torch.stack([0.16 * eye, 0.09 * eye + 0.04]))
        self.schedule = LinearVP(beta_max=30.0)  # nothing of the data is left for the prior to miss
        self.broken = set(broken)
        self.seen: list[str] = []

    def shift(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[SHIFTS[prompt]] * 4 for prompt in prompts], dtype=torch.float64).reshape(-1, 4)

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        of_vectors = self.mixture.flow(self.schedule, "v").network
        return of_vectors(x.flatten(1).double(), time, inputs).reshape(x.shape).to(x)

    def condition(self, prompts: Sequence[str]) -> Condition:
        unknown = [prompt for prompt in prompts if prompt not in SHIFTS]
        if unknown:
            raise ValueError(f"unknown prompt {unknown[0]!r}")
        shift = self.shift(prompts)
        return Condition({"shift": shift}, {"shift": torch.zeros_like(shift)})

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        self.seen += sample_ids
        latent = images.double()
        for b, name in enumerate(sample_ids):
            if name in self.broken:
                latent[b] = torch.nan
        return latent

    def to_image(self, latents: Tensor) -> Tensor:
        return (0.5 * latents + 0.5).clamp(0, 1)


class ToySet(EvaluationSet):
    source = "the toy generator"

    def __init__(self, model: ToyModel, count: int, corrupt: Sequence[int]) -> None:
        generator = torch.Generator().manual_seed(3)
        self.corrupt = set(corrupt)
        self.sample_ids = [f"toy-{i}" for i in range(count)]
        self.words = [(("dark", "light")[i % 2], ("small", "large")[i // 2 % 2]) for i in range(count)]
        self.groups = [" ".join(words) for words in self.words]
        images = model.mixture.sample(count + 1, generator)[:count] + model.shift(self.groups)
        self.images = images.reshape(count, 1, 2, 2).float()

    def __getitem__(self, index: int) -> Sample | Failure:
        if index in self.corrupt:
            return Failure(self.sample_ids[index], "the image is damaged")
        tone, size = self.words[index]
        return Sample(self.sample_ids[index], self.images[index], self.groups[index], {"tone": tone, "size": size})


class ToyData(EvaluationData):
    def __init__(
        self,
        count: int = 7,
        corrupt: list[int] | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        self.count, self.corrupt = count, corrupt or []

    def test_set(self) -> ToySet:
        return ToySet(ToyModel(), self.count, self.corrupt)


class FaultyModel(ToyModel):
    """Raises an error of any kind for some samples, by name."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__()
        self.faults = faults

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        for name in sample_ids:
            if name in self.faults:
                raise getattr(builtins, self.faults[name])(f"the fault of {name}")
        return super().to_latent(images, sample_ids)


class OddStudy(Study):
    """Records that cannot be stored, or drawn, of some samples."""

    kind = "odd"

    def __init__(self, odd: list[str]) -> None:
        super().__init__()
        self.odd = odd

    def measure(self, model: ToyModel, batch: Batch, estimator: Estimator) -> list[Outcome]:
        values = {"number": 10**36, "nothing": object(), "tensor": torch.ones(1), "text": "seven"}
        return [
            Outcome(
                name,
                rows=[] if name == "empty" else [{"x": values.get(name, 7) if name in self.odd else 7}],
                picture=torch.zeros(7, 1, 2, 2) if name == "picture" else torch.zeros(1, 2, 2),
            )
            for name in batch.sample_id
        ]


class SlowToyModel(ToyModel):
    """Takes its time over each batch and writes down what it was asked for."""

    def __init__(self, journal: str, seconds: float = 0.0) -> None:
        super().__init__()
        self.journal, self.seconds = journal, seconds

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        time.sleep(self.seconds)
        with open(self.journal + ".log", "a") as file:  # a file that a setting names is part of the model
            file.writelines(f"{name}\n" for name in sample_ids)
        return super().to_latent(images, sample_ids)

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        with open(self.journal + ".network", "a") as file:
            file.write(f"{len(x)}\n")
        return super().network(x, time, inputs)


class ListedSet(ToySet):
    """Images of a JSON file: a name, four values, a tone and a size each."""

    def __init__(self, path: str) -> None:
        self.rows = json.loads(Path(path).read_text())
        self.sample_ids = [row["name"] for row in self.rows]
        self.groups = [f"{row['tone']} {row['size']}" for row in self.rows]

    def __getitem__(self, index: int) -> Sample | Failure:
        row = self.rows[index]
        image = torch.tensor(row["image"], dtype=torch.float32).reshape(1, 2, -1)
        return Sample(row["name"], image, self.groups[index], {"tone": row["tone"], "size": row["size"]})


class ListedData(EvaluationData):
    """What a file lists; as it was when the run began."""

    def __init__(
        self, path: str, batch_size: int = 2, num_workers: int = 0, limit: int | None = None, note: dict | None = None
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        self.path = path

    def test_set(self) -> ListedSet:
        return ListedSet(self.path)
