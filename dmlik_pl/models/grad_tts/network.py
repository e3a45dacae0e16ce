"""The official Grad-TTS: text to log-mel spectrogram, and the losses that train it.

References:
    | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021)
"""

import math
import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dmlik_pl.models.grad_tts.alignment import generate_path, length_mask, log_prior, maximum_path
from dmlik_pl.models.grad_tts.diffusion import Diffusion
from dmlik_pl.models.grad_tts.estimator import FRAME_MULTIPLE, SPEAKER_BANDS
from dmlik_pl.models.grad_tts.text_encoder import TextEncoder

__all__ = ["GradTTS", "Losses", "Synthesis", "padded_length"]


class Losses(NamedTuple):
    """The three losses of a batch, scalars; training minimises their sum."""

    duration: Tensor
    prior: Tensor
    diffusion: Tensor


class Synthesis(NamedTuple):
    """What :meth:`GradTTS.forward` returns.

    Attributes:
        encoder_outputs: Aligned means mu, [B, F, T].
        decoder_outputs: Spectrograms, [B, F, T].
        attn: Alignment, [B, 1, L, T rounded up to a multiple of 4].
    """

    encoder_outputs: Tensor
    decoder_outputs: Tensor
    attn: Tensor


def padded_length(frames: int) -> int:
    """The number of frames rounded up to what the decoder takes: a multiple of 4."""
    return -(-frames // FRAME_MULTIPLE) * FRAME_MULTIPLE


class GradTTS(nn.Module):
    """Text encoder, duration predictor, alignment and diffusion decoder, with the official parameters and their names.

    Noise is drawn from torch's global generator, segments from Python's, in the official order, wherever they are not
    given.

    Args:
        n_vocab: Number of token ids, the blank included.
        n_spks: Number of speakers; they are known to the decoder alone.
        spk_emb_dim: Size of a speaker's embedding.
        n_enc_channels: Width of the text encoder.
        filter_channels: Width within its feed-forward layers.
        filter_channels_dp: Width of the duration predictor.
        n_heads: Attention heads of the text encoder.
        n_enc_layers: Transformer layers of the text encoder.
        enc_kernel: Kernel of its feed-forward layers and of the duration predictor, odd.
        enc_dropout: Dropout of the encoder in training.
        window_size: Farthest distance in tokens of which attention has a notion.
        n_feats: Mel bands, a multiple of 4; 80 with more than one speaker.
        dec_dim: Channels of the decoder's first level, a multiple of 8.
        beta_min: Noise rate at t = 0.
        beta_max: Noise rate at t = 1.
        pe_scale: What time is multiplied by before it is embedded: 1000, or 1 for the oldest official checkpoint.

    Raises:
        ValueError: If sizes do not fit each other.
    """

    def __init__(
        self,
        n_vocab: int = 149,
        n_spks: int = 1,
        spk_emb_dim: int = 64,
        n_enc_channels: int = 192,
        filter_channels: int = 768,
        filter_channels_dp: int = 256,
        n_heads: int = 2,
        n_enc_layers: int = 6,
        enc_kernel: int = 3,
        enc_dropout: float = 0.1,
        window_size: int = 4,
        n_feats: int = 80,
        dec_dim: int = 64,
        beta_min: float = 0.05,
        beta_max: float = 20.0,
        pe_scale: float = 1000,
    ) -> None:
        super().__init__()
        if n_feats % FRAME_MULTIPLE or (n_spks > 1 and n_feats != SPEAKER_BANDS):
            raise ValueError(
                f"n_feats={n_feats} must be a multiple of {FRAME_MULTIPLE}, and {SPEAKER_BANDS} with several speakers"
            )
        self.n_spks, self.n_feats = n_spks, n_feats
        if n_spks > 1:
            self.spk_emb = nn.Embedding(n_spks, spk_emb_dim)
        self.encoder = TextEncoder(
            n_vocab,
            n_feats,
            n_enc_channels,
            filter_channels,
            filter_channels_dp,
            n_heads,
            n_enc_layers,
            enc_kernel,
            enc_dropout,
            window_size,
        )
        self.decoder = Diffusion(n_feats, dec_dim, n_spks, spk_emb_dim, beta_min, beta_max, pe_scale)

    def embed_speaker(self, spk: Tensor | None) -> Tensor | None:
        """Embeddings [B, spk_emb_dim] of speakers [B]; None for a model of one speaker.

        Raises:
            ValueError: If a model of several speakers is given none, or one that it does not know.
        """
        if self.n_spks == 1:
            return None
        if spk is None:
            raise ValueError(f"a model of {self.n_spks} speakers needs the number of the speaker: give `spk`")
        if not bool(((spk >= 0) & (spk < self.n_spks)).all()):
            raise ValueError(f"speakers {spk.tolist()} are not all among the model's 0 to {self.n_spks - 1}")
        embedded: Tensor = self.spk_emb(spk)
        return embedded

    @torch.no_grad()
    def forward(
        self,
        x: Tensor,
        x_lengths: Tensor,
        n_timesteps: int,
        temperature: float = 1.0,
        stoc: bool = False,
        spk: Tensor | None = None,
        length_scale: float = 1.0,
        *,
        noise: Tensor | None = None,
    ) -> Synthesis:
        """Speak.

        Args:
            x: Token ids, [B, L].
            x_lengths: How many of each row are real, [B].
            n_timesteps: Steps of the reverse diffusion.
            temperature: What the noise is divided by: a higher temperature means less noise.
            stoc: Whether to follow the reverse SDE instead of the probability flow.
            spk: Speakers, [B], for a model of several speakers.
            length_scale: What durations are multiplied by after rounding up.
            noise: Standard normal noise, [B, n_feats, T].
        """
        device = self.encoder.emb.weight.device
        x, x_lengths = x.to(device), x_lengths.to(device)
        speaker = self.embed_speaker(None if spk is None else spk.to(device))
        mu_x, logw, x_mask = self.encoder(x, x_lengths, speaker)
        durations = (torch.ceil(logw.exp() * x_mask) * length_scale)[:, 0]
        frames = durations.sum(1).clamp(min=1).long()
        longest = int(frames.max())
        y_mask = length_mask(frames, padded_length(longest))[:, None].to(x_mask)
        attn = generate_path(durations, x_mask.transpose(1, 2) * y_mask)
        mu_y = mu_x @ attn
        z = mu_y + (torch.randn_like(mu_y) if noise is None else noise.to(mu_y)) / temperature
        decoded = self.decoder(z, y_mask, mu_y, n_timesteps, stoc, speaker)
        return Synthesis(mu_y[:, :, :longest], decoded[:, :, :longest], attn[:, None])

    def compute_loss(
        self,
        x: Tensor,
        x_lengths: Tensor,
        y: Tensor,
        y_lengths: Tensor,
        spk: Tensor | None = None,
        out_size: int | None = None,
        *,
        time: Tensor | None = None,
        noise: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> Losses:
        """The losses of a batch of texts and spectrograms.

        Args:
            x: Token ids, [B, L].
            x_lengths: How many of each row are real, [B].
            y: Log-mel spectrograms, [B, n_feats, T]; T is a multiple of 4 unless segments are cut.
            y_lengths: How many of their frames are real, [B].
            spk: Speakers, [B], for a model of several speakers.
            out_size: Length of the random segments on which the decoder is trained, a multiple of 4; None for all.
            time: Uniform numbers to use as diffusion times, [B].
            noise: Standard normal noise, [B, n_feats, T or out_size].
            offsets: First frames of the segments, [B]; one that begins late ends with padded frames.

        Raises:
            ValueError: If a spectrogram has fewer frames than tokens, or a length is not a multiple of 4.
        """
        length = y.shape[-1] if out_size is None else out_size
        if length % FRAME_MULTIPLE:
            name = "y must be padded to" if out_size is None else "out_size must be"
            raise ValueError(f"{length} frames: {name} a multiple of {FRAME_MULTIPLE}")
        device = self.encoder.emb.weight.device
        x, x_lengths, y, y_lengths = (value.to(device) for value in (x, x_lengths, y, y_lengths))
        speaker = self.embed_speaker(None if spk is None else spk.to(device))
        mu_x, logw, x_mask = self.encoder(x, x_lengths, speaker)
        y_mask = length_mask(y_lengths, y.shape[-1])[:, None].to(x_mask)
        with torch.no_grad():
            attn = maximum_path(log_prior(mu_x, y), x_mask.transpose(1, 2) * y_mask)
        target = torch.log(1e-8 + attn.sum(2))[:, None] * x_mask
        duration = ((logw - target) ** 2).sum() / x_lengths.sum()

        if out_size is not None:
            start = self._draw_offsets(y_lengths, out_size) if offsets is None else offsets.to(device)
            y, attn = _cut(y, start, out_size), _cut(attn, start, out_size)
            y_mask = length_mask((y_lengths - start).clamp(max=out_size), out_size)[:, None].to(x_mask)
            y, attn = y * y_mask, attn * y_mask
        mu_y = mu_x @ attn
        diffusion, _ = self.decoder.compute_loss(y, y_mask, mu_y, speaker, time=time, noise=noise)
        prior = (0.5 * ((y - mu_y) ** 2 + math.log(2 * math.pi)) * y_mask).sum() / (y_mask.sum() * self.n_feats)
        return Losses(duration, prior, diffusion)

    @staticmethod
    def _draw_offsets(lengths: Tensor, size: int) -> Tensor:
        """Random first frames; as in the official training, the last possible one is never drawn."""
        room = (lengths - size).tolist()
        return torch.tensor([random.choice(range(last)) if last > 0 else 0 for last in room], device=lengths.device)


def _cut(values: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Segments [B, C, size] of [B, C, T], each from its own offset; zero beyond T."""
    places = offsets[:, None] + torch.arange(size, device=values.device)
    within = (places < values.shape[-1])[:, None]
    index = places.clamp(max=values.shape[-1] - 1)[:, None].expand(-1, values.shape[1], -1)
    return values.gather(2, index) * within
