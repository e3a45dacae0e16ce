"""Training of Grad-TTS: the official recipe by default, and additions for a small network on a small corpus."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from diffusers.optimization import get_constant_schedule, get_cosine_schedule_with_warmup
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from dmlik_pl.data.speech import TrainingBatch
from dmlik_pl.flow import Purpose, noise
from dmlik_pl.models.grad_tts import GradTTS, TextToSpeech, fit_duration_deviation, text_free_mean, write_network
from dmlik_pl.models.grad_tts.alignment import length_mask, log_prior, maximum_path
from dmlik_pl.models.grad_tts.checkpoint import read_network
from dmlik_pl.modules.training.base import Training
from dmlik_pl.modules.training.offers import LikelihoodProblem, SpokenExample
from dmlik_pl.modules.training.times import even_share
from dmlik_pl.ranges import above, at_least, within

__all__ = ["GradTTSTraining"]

SPEAKING_STEPS = 50  # of the official sampler, as the official training shows its examples
LOUDEST = 5.0  # above the log-mel of any wave within full scale: an untrained decoder goes far beyond


class BatchAlignment(NamedTuple):
    """What the encoder says of a batch, and the best path between its tokens and frames.

    Attributes:
        mu: Mean spectra of the tokens, [B, 80, L].
        log_duration: Predicted natural logarithms of their durations in frames, [B, 1, L].
        token_mask: Real tokens, [B, 1, L].
        frame_mask: Real frames, [B, 1, T].
        path: The best path, [B, L, T] of zeros and ones.
    """

    mu: Tensor
    log_duration: Tensor
    token_mask: Tensor
    frame_mask: Tensor
    path: Tensor


class GradTTSTraining(Training):
    """Trains text encoder, duration predictor and score network together on the plain sum of their losses.

    The defaults are the official recipe: Adam at a constant 1e-4, segments of 2 s, gradients clipped to norm 1, encoder
    and decoder separately and the speakers' embeddings not at all. The seed (37) and the size of a batch (16)
    belong to trainer and data.

    Args:
        output: Folder for the trained model, in the layout of `TextToSpeech`.
        network: Arguments of `GradTTS` that differ from the official ones, such as ``{"n_spks": 2, "dec_dim": 16}``.
        weights: Fine-tune these: a folder of this training, the name of a shipped one, or a file of official weights.
            They say how large the network is; entries of `network` take precedence.
        learning_rate: Learning rate of Adam.
        schedule: ``constant``, or ``cosine`` down to zero at the last step.
        warmup_steps: Steps of linear warm-up before the cosine.
        segment_frames: Length of the random segments on which the decoder is trained, a multiple of 4; null trains on
            whole utterances.
        gradient_norm: Norm to which the gradients of encoder and of decoder are clipped.
        encoder_steps: Number of first steps that train encoder and durations alone, on whole utterances: they cost
            little, and the decoder then meets means that already fit. With several processes, take the strategy
            ``ddp_find_unused_parameters_true``.
        ragged_share: This share of the segments ends 1 to 3 frames behind its utterance's end, on padded frames. An
            utterance that is scored or spoken is padded to a multiple of 4 frames, which a network that never met
            padding takes for sound. Official segments of 2 s meet it where utterances are shorter.
        even_times: Spread the diffusion times of a batch evenly over (0, 1) instead of drawing each alone; the loss has
            the same mean and less noise.
    """

    def __init__(
        self,
        output: str,
        network: Mapping[str, Any] | None = None,
        weights: str | None = None,
        learning_rate: float = 1e-4,
        schedule: Literal["constant", "cosine"] = "constant",
        warmup_steps: int = 0,
        segment_frames: int | None = 172,
        gradient_norm: float = 1.0,
        encoder_steps: int = 0,
        ragged_share: float = 0.0,
        even_times: bool = False,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay=0.0, warmup_steps=warmup_steps)
        at_least(1, segment_frames=segment_frames)
        above(0, gradient_norm=gradient_norm)
        at_least(0, encoder_steps=encoder_steps)
        within(0, 1, ragged_share=ragged_share)
        self.schedule = schedule
        self.segment_frames = segment_frames
        self.gradient_norm = gradient_norm
        self.encoder_steps = encoder_steps
        self.ragged_share = ragged_share
        self.even_times = even_times
        self.left_out = 0
        self.grad_tts = GradTTS(**(network or {})) if weights is None else read_network(weights, network or {})[0]

    def on_fit_start(self) -> None:
        """Refuse a second clipping, and put every layer into training mode: dropout belongs to the recipe.

        Raises:
            ValueError: If the trainer is told to clip gradients too.
        """
        if self.trainer.gradient_clip_val is not None:
            raise ValueError(
                "this training clips the gradients of encoder and decoder apart: set --model.gradient_norm and leave "
                "--trainer.gradient_clip_val null"
            )
        self.train()

    def training_step(self, batch: TrainingBatch, batch_index: int) -> Tensor:
        """Return the sum of the losses."""
        if not len(batch):
            return self.nothing_to_learn()
        self.learned()
        if self.global_step < self.encoder_steps:
            losses = self.encoder_losses(batch)
        else:
            time = even_share(len(batch)).to(batch.mel) if self.even_times else None
            losses = self.losses(batch, segment=self.segment_frames, time=time)
        return self._log_losses("train", losses, batch)

    def validation_step(self, batch: TrainingBatch, batch_index: int) -> None:
        """Log the losses of whole utterances at times and with noise that are the same at every validation."""
        if not len(batch):
            return
        generator = torch.Generator().manual_seed(batch_index)
        time = even_share(len(batch), generator).to(batch.mel)
        noise = torch.randn(batch.mel.shape, generator=generator).to(batch.mel)
        self._log_losses("val", self.losses(batch, time=time, noise=noise), batch)

    def losses(
        self,
        batch: TrainingBatch,
        segment: int | None = None,
        time: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of durations, encoder and decoder by name.

        Args:
            batch: Padded utterances.
            segment: Length of random segments in frames; None takes whole utterances.
            time: Diffusion times, [B]; uniform if None.
            noise: Standard normal noise of the shape of the spectrograms or segments; drawn if None.
        """
        # Where all utterances are shorter than the segment there is nothing to cut.
        cut = segment if segment is not None and segment < batch.mel.shape[-1] else None
        losses = self.grad_tts.compute_loss(
            batch.tokens,
            batch.token_lengths,
            batch.mel,
            batch.mel_lengths,
            batch.speaker if self.grad_tts.n_spks > 1 else None,
            out_size=cut,
            time=time,
            noise=noise,
            offsets=self._ragged_offsets(batch.mel_lengths, cut) if cut is not None and self.ragged_share else None,
        )
        return losses._asdict()

    def _ragged_offsets(self, lengths: Tensor, segment: int) -> Tensor:
        """Random first frames of segments, of which `ragged_share` leave 1 to 3 frames to padding, [B]."""
        room = (lengths - segment).clamp(min=0)
        within = (torch.rand(lengths.shape, device=lengths.device) * (room + 1)).long()
        beyond = room + torch.randint(1, 4, lengths.shape, device=lengths.device)
        ragged = torch.rand(lengths.shape, device=lengths.device) < self.ragged_share
        return torch.where(ragged & (room > 0), beyond, within)

    def encoder_losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the losses of durations and encoder on whole utterances, by name."""
        found = self.align(batch)
        target = found.path.sum(2).clamp(min=1).log()[:, None]
        duration = ((found.log_duration - target).square() * found.token_mask).sum() / found.token_mask.sum()
        error = 0.5 * ((batch.mel - found.mu @ found.path).square() + math.log(2 * math.pi)) * found.frame_mask
        return {"duration": duration, "prior": error.sum() / (found.frame_mask.sum() * self.grad_tts.n_feats)}

    def align(self, batch: TrainingBatch) -> BatchAlignment:
        """Return the best paths of a batch with what the encoder says of it."""
        mu, log_duration, token_mask = self.grad_tts.encoder(batch.tokens, batch.token_lengths)
        frame_mask = length_mask(batch.mel_lengths, batch.mel.shape[-1])[:, None].to(mu)
        path = maximum_path(log_prior(mu, batch.mel), token_mask.transpose(1, 2) * frame_mask)
        return BatchAlignment(mu, log_duration, token_mask, frame_mask, path)

    def likelihood_problems(self, batch: TrainingBatch, limit: int) -> list[LikelihoodProblem]:
        """Pose each utterance under its own text, along the best path, and without it: under its mean spectrum."""
        model = TextToSpeech.wrap(self.grad_tts)
        problems = []
        for sample_id, tokens, mel, speaker in _utterances(batch, limit):
            mu = model.align(tokens, mel, "search", speaker).mu
            conditions = [model.condition([mean], [speaker]) for mean in (mu, text_free_mean(mu))]
            problems.append(LikelihoodProblem(model.flow(), model.pad(mel), conditions[0], [sample_id], conditions[1]))
        return problems

    def speech_examples(self, batch: TrainingBatch, limit: int, seed: int) -> list[SpokenExample]:
        """Speak utterances with the durations that fit their reference best; each has noise of its own."""
        model = TextToSpeech.wrap(self.grad_tts)
        examples = []
        for sample_id, tokens, mel, speaker in _utterances(batch, limit):
            found = model.align(tokens, mel, "search", speaker)
            start = noise(model.pad(mel), [sample_id], seed=seed, purpose=Purpose.LATENT)[0]
            decoded = model.synthesise(tokens, speaker, found.durations, steps=SPEAKING_STEPS, noise=start)
            wave = model.vocode(decoded.nan_to_num().clamp(max=LOUDEST))
            examples.append(SpokenExample(sample_id, mel, found.mu, decoded, found.durations, wave, model.rate))
        return examples

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of encoder and decoder apart; a step whose gradients are not finite is left out."""
        parts = {"encoder": self.grad_tts.encoder, "decoder": self.grad_tts.decoder}
        norms = {name: clip_grad_norm_(part.parameters(), self.gradient_norm) for name, part in parts.items()}
        if all(bool(norm.isfinite()) for norm in norms.values()):
            self.log_dict({f"train/{name}_gradient": norm for name, norm in norms.items()})
        else:
            self.left_out += 1
            rank_zero_warn(
                f"step {self.global_step} is left out: its gradients are not finite ({self.left_out} so far)"
            )
            optimizer.zero_grad(set_to_none=True)

    def _log_losses(self, stage: str, losses: dict[str, Tensor], batch: TrainingBatch) -> Tensor:
        """Log losses, each by its name, and return their sum."""
        total = torch.stack(list(losses.values())).sum()
        named = {f"{stage}/{name}": value for name, value in losses.items()} | {f"{stage}/loss": total}
        self.log_dict(named, batch_size=len(batch), sync_dist=stage == "val")
        return total

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam over all weights that are trained, and its schedule."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        optimiser = torch.optim.Adam(weights, lr=self.learning_rate)
        if self.schedule == "constant":
            scale = get_constant_schedule(optimiser)
        else:
            steps = int(self.trainer.estimated_stepping_batches)
            scale = get_cosine_schedule_with_warmup(optimiser, self.warmup_steps, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scale, "interval": "step"}}

    def export(self, folder: Path) -> None:
        """Write the model, with the deviation of durations that fits the validation data best."""
        write_network(folder, self.grad_tts, self.duration_deviation())

    @torch.no_grad()
    def duration_deviation(self) -> float | None:
        """Return the deviation of log-durations around their prediction on the validation data, None without any."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = self.trainer.val_dataloaders if data is None else data.val_dataloader()
        durations, predicted = [], []
        self.eval()
        for batch in batches or ():
            found = self.align(batch.to(self.device))
            real = found.token_mask[:, 0] > 0
            durations.append(found.path.sum(2)[real].cpu())
            predicted.append(found.log_duration[:, 0][real].cpu())
        return fit_duration_deviation(torch.cat(durations), torch.cat(predicted)) if durations else None


def _utterances(batch: TrainingBatch, limit: int) -> Iterator[tuple[str, Tensor, Tensor, int]]:
    """Yield name, tokens [L], spectrogram [80, T] and speaker of the first utterances of a batch, without padding."""
    for b in range(min(limit, len(batch))):
        tokens = batch.tokens[b, : batch.token_lengths[b]]
        yield batch.sample_id[b], tokens, batch.mel[b, :, : batch.mel_lengths[b]], int(batch.speaker[b])
