"""Tiny random models of speech in the layouts that configurations expect."""

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMForXVector,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from dmlik_pl.models.grad_tts import GradTTS, write_network
from dmlik_pl.models.hifigan import PUBLISHED, HiFiGANGenerator

GENTLE = 1.0
"""A largest noise rate under which the samples of an untrained network stay of the size of spectrograms."""


def tiny_network(speakers: int = 1) -> GradTTS:
    torch.manual_seed(0)
    return GradTTS(
        n_vocab=149,
        n_spks=speakers,
        spk_emb_dim=8,
        n_enc_channels=16,
        filter_channels=32,
        filter_channels_dp=16,
        n_heads=2,
        n_enc_layers=1,
        enc_kernel=3,
        enc_dropout=0.1,
        window_size=4,
        n_feats=80,
        dec_dim=8,
        beta_min=0.05,
        beta_max=GENTLE,
        pe_scale=20.0,
    )


def make_tiny_grad_tts(folder: Path, speakers: int = 2) -> None:
    """A folder of this package."""
    write_network(folder, tiny_network(speakers), duration_deviation=0.4)


def make_official_grad_tts(file: Path) -> None:
    """A file of bare weights, like the official ones."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tiny_network().state_dict(), file)


def make_tiny_hifigan(folder: Path) -> None:
    """The official generator's file and configuration."""
    folder.mkdir(parents=True)
    config = PUBLISHED | {
        "upsample_initial_channel": 32,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1]],
    }
    torch.manual_seed(0)
    torch.save({"generator": HiFiGANGenerator(config).state_dict()}, folder / "hifigan.pt")
    (folder / "hifigan-config.json").write_text(json.dumps(config))


def make_tiny_whisper(folder: Path, seconds: int = 2) -> None:
    """A Whisper of random weights that hears a few seconds and writes single bytes."""
    tokenizer = WhisperTokenizer(vocab={byte: i for i, byte in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|startoftranscript|>", "<|notimestamps|>"]})
    end, start, plain = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"])
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "num_mel_bins"), 16),
            **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
            **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end),
            **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), None),
            vocab_size=len(tokenizer),
            max_source_positions=50 * seconds,
            max_target_positions=24,
            decoder_start_token_id=start,
            init_std=1.0,
        )
    )
    model.generation_config.max_length = 20
    model.generation_config.no_timestamps_token_id = plain
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16, chunk_length=seconds), tokenizer).save_pretrained(folder)


def make_tiny_xvector(folder: Path) -> None:
    """A WavLM of random weights with an x-vector head of 12 dimensions."""
    torch.manual_seed(0)
    WavLMForXVector(
        WavLMConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8, 8),
            conv_kernel=(10, 8),
            conv_stride=(10, 8),
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            tdnn_dim=(16, 16),
            tdnn_kernel=(3, 1),
            tdnn_dilation=(1, 1),
            xvector_output_dim=12,
        )
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
