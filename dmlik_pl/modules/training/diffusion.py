"""Training of a small text-to-image diffusion model in SDXL's structure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dmlik_pl.data.base import Batch
from dmlik_pl.data.fingerprint import fingerprint
from dmlik_pl.data.shapes import PROMPTS
from dmlik_pl.flow.schedule import DiscreteVP
from dmlik_pl.modules.training.base import Training, overridden
from dmlik_pl.modules.training.loss_weight import noise_error
from dmlik_pl.modules.training.times import draw_times, limit_time_frequency, time_of
from dmlik_pl.modules.training.tokens import small_tokenizer
from dmlik_pl.pretrained import load_model
from dmlik_pl.ranges import above, at_least, within

__all__ = ["SMALL_TEXT_ENCODER", "SMALL_UNET", "SDXLTraining"]

TEXT_WIDTH = 32  # of each encoder; the U-Net attends to both side by side
TIME_ID_WIDTH = 8

SMALL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [64, 64],
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": [2, 2],
    "transformer_layers_per_block": [1, 1],
    "use_linear_projection": True,
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_ID_WIDTH,
    "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * TIME_ID_WIDTH,
}
SMALL_TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 2 * TEXT_WIDTH,
    "projection_dim": TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
# The noise schedule and sampler of SDXL's own repository.
SDXL_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


class SDXLTraining(Training):
    """Trains the U-Net and both text encoders of an SDXL pipeline around a finished autoencoder.

    The network predicts the noise at continuous times. Half of the times are uniform in time, as usual, half uniform in
    log-SNR, where the likelihood's integral is uniform: a network trained on the former alone is poor at low noise.

    Args:
        vae: Folder of the trained autoencoder.
        output: Folder for the trained pipeline, in diffusers' layout.
        captions: Texts whose words become single tokens; the captions of the data.
        unet: Entries of the U-Net's configuration that differ from the small default.
        text_encoder: Entries of both text encoders' configuration that differ from the small default.
        text_length: The text window in tokens.
        condition_dropout: Share of the samples that are shown the empty prompt: zeros in place of its embeddings.
        log_snr_share: Share of the times that are drawn uniformly in log-SNR.
        max_time_frequency: Highest frequency of the time embedding that the network may use, radians per step; higher
            ones make the prediction ripple between steps, which costs a likelihood's solver many evaluations.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
        validation_levels: Noise levels at which prompts are compared in validation.
    """

    def __init__(
        self,
        vae: str,
        output: str,
        captions: Sequence[str] = PROMPTS,
        unet: Mapping[str, Any] | None = None,
        text_encoder: Mapping[str, Any] | None = None,
        text_length: int = 16,
        condition_dropout: float = 0.1,
        log_snr_share: float = 0.5,
        max_time_frequency: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 200,
        validation_levels: int = 8,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay, warmup_steps)
        within(0, 1, condition_dropout=condition_dropout, log_snr_share=log_snr_share)
        above(0, max_time_frequency=max_time_frequency)
        at_least(1, validation_levels=validation_levels)
        at_least(2, text_length=text_length)
        self.condition_dropout = condition_dropout
        self.log_snr_share = log_snr_share
        self.validation_levels = validation_levels
        self.captions = list(captions)
        tokenizers = [small_tokenizer(captions, text_length, pad) for pad in ("<|endoftext|>", "!")]
        config = CLIPTextConfig(
            **overridden(SMALL_TEXT_ENCODER, text_encoder),
            vocab_size=len(tokenizers[0]),
            max_position_embeddings=text_length,
            bos_token_id=tokenizers[0].bos_token_id,
            eos_token_id=tokenizers[0].eos_token_id,
            pad_token_id=tokenizers[0].pad_token_id,
        )
        self.vae = load_vae(vae).requires_grad_(False)
        self.unet: Any = UNet2DConditionModel(**overridden(SMALL_UNET, unet))
        self.text_encoder = CLIPTextModel(config)
        self.text_encoder_2 = CLIPTextModelWithProjection(config)
        self.pipeline: Any = StableDiffusionXLPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=self.unet,
            scheduler=EulerDiscreteScheduler(**SDXL_SCHEDULER),
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
        self.schedule = DiscreteVP.scaled_linear(
            SDXL_SCHEDULER["beta_start"], SDXL_SCHEDULER["beta_end"], SDXL_SCHEDULER["num_train_timesteps"]
        )
        limit_time_frequency(self.unet, max_time_frequency)
        self._latents: dict[str, Tensor] = {}  # by the fingerprints of name and image

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the mean squared error of the predicted noise, at times spread evenly over the batch."""
        latents = self.latents(batch)
        unique = sorted(set(batch.prompt))
        position = torch.tensor([unique.index(prompt) for prompt in batch.prompt], device=self.device)
        condition = [part[position] for part in self.encode(unique)]
        kept = (torch.rand(len(latents), device=self.device) >= self.condition_dropout).float()
        condition = [part * kept.reshape(-1, *[1] * (part.dim() - 1)) for part in condition]
        error = self.noise_error(latents, condition, self.draw_times(len(latents)), torch.randn_like(latents))
        loss = error.mean() / latents[0].numel()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(latents))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the error uniform in log-SNR and how often the true prompt of all captions has the least."""
        scores = self.prompt_errors(self.latents(batch), self.captions, seed=batch_index)
        truth = torch.tensor([self.captions.index(prompt) for prompt in batch.prompt], device=self.device)
        of_truth = scores[torch.arange(len(truth)), truth].mean()
        accuracy = (scores.argmin(dim=1) == truth).float().mean()
        self.log_dict({"val/error": of_truth, "val/accuracy": accuracy}, prog_bar=True, batch_size=len(batch))

    @torch.no_grad()
    def prompt_errors(self, latents: Tensor, prompts: Sequence[str], seed: int = 0) -> Tensor:
        """Return each prompt's noise error per dimension, averaged over log-SNR; noise is shared between prompts.

        Args:
            latents: Scaled latents, [B, C, H, W].
            prompts: P prompts.
            seed: Seed of the noise.

        Returns:
            Errors, [B, P].
        """
        random = torch.Generator().manual_seed(seed)
        errors = latents.new_zeros(len(latents), len(prompts))
        encoded = self.encode(list(prompts))
        for level in range(self.validation_levels):
            share = (level + torch.rand(len(latents), generator=random)) / self.validation_levels
            time = time_of(self.schedule, share)
            noise = torch.randn(latents.shape, generator=random).to(latents)
            for number in range(len(prompts)):
                condition = [part[number].expand(len(latents), *part[number].shape) for part in encoded]
                errors[:, number] += self.noise_error(latents, condition, time, noise)
        return errors / (self.validation_levels * latents[0].numel())

    def noise_error(self, latents: Tensor, condition: Sequence[Tensor], time: Tensor, noise: Tensor) -> Tensor:
        """Return the squared error of the predicted noise, summed over a sample's dimensions.

        Args:
            latents: Scaled latents, [B, C, H, W].
            condition: Text embeddings [B, L, E] and pooled embedding [B, P].
            time: Times in [0, 1], [B].
            noise: Standard normal noise, [B, C, H, W].

        Returns:
            Errors, [B].
        """
        resolution = latents.shape[-1] * self.pipeline.vae_scale_factor
        sizes = latents.new_tensor([resolution, resolution, 0, 0, resolution, resolution])
        step = self.schedule.network_time(time).to(latents)

        def predict(x: Tensor) -> Tensor:
            beside = {"text_embeds": condition[1], "time_ids": sizes.expand(len(x), -1)}
            noise: Tensor = self.unet(x, step, encoder_hidden_states=condition[0], added_cond_kwargs=beside).sample
            return noise

        return noise_error(predict, latents, noise, self.schedule.at(time).like(latents))

    def draw_times(self, count: int) -> Tensor:
        """Draw times in [0, 1] that are spread evenly, a share of them uniform in log-SNR, [count]."""
        return draw_times(self.schedule, count, self.log_snr_share)

    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Return the embeddings of prompts [P, L, E] and their pooled embedding [P, P'], as the pipeline makes them."""
        embedding, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, do_classifier_free_guidance=False
        )
        return embedding, pooled

    @torch.no_grad()
    def latents(self, batch: Batch) -> Tensor:
        """Return scaled latents, the posterior's modes; each image is encoded once and remembered."""
        keys = [fingerprint(sample) for sample in zip(batch.sample_id, batch.image, strict=True)]
        if any(key not in self._latents for key in keys):
            modes = self.vae.encode(batch.image).latent_dist.mode() * self.vae.config.scaling_factor
            self._latents.update(zip(keys, modes.unbind(), strict=True))
        return torch.stack([self._latents[key] for key in keys])

    def export(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.pipeline.save_pretrained(folder, safe_serialization=True)


def load_vae(folder: str) -> Any:
    """Load a trained autoencoder from a folder.

    Raises:
        FileNotFoundError: If the folder holds none.
        ValueError: If it holds another model, or a damaged one.
    """
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(
            f"no autoencoder in {folder}: train one with `python train.py fit --config shapes_vae_train.yaml`, or name "
            "the folder of another with --model.vae"
        )
    return load_model(AutoencoderKL, Path(folder), safetensors_only=True)
