"""Pipelines of diffusers of a few thousand random weights, as their own `save_pretrained` writes them."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from tiny_models import CAPTIONS, FASTEST_FREQUENCY, SCALED_LINEAR, SDXL_UNET, UNET, VAE, WINDOW, text_config

from dmlik_pl.modules.training.tokens import small_tokenizer

WORDS = sorted({word for caption in CAPTIONS for word in caption.split()})
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG = 16  # tokens of T5's window in the tests


def calm(linear: Any) -> None:
    """Take away the fast part of a random network's time embedding, whose ripples would need thousands of steps.

    What is left is made strong, so that a wrong time shows.
    """
    weight = linear.weight
    half = weight.shape[1] // 2
    frequency = 10000.0 ** (-torch.arange(half) / half)
    with torch.no_grad():
        weight.mul_(8 * (frequency <= FASTEST_FREQUENCY).to(weight).repeat(2))


def clip(kind: str) -> tuple[Any, Any]:
    """A CLIP text encoder and its tokenizer."""
    import transformers

    tokenizer = small_tokenizer(CAPTIONS, WINDOW)
    return getattr(transformers, kind)(transformers.CLIPTextConfig(**text_config(tokenizer))), tokenizer


def t5(kind: str = "T5EncoderModel") -> tuple[Any, Any]:
    """A T5 encoder and its tokenizer."""
    import transformers

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS] + [(letter, -8.0) for letter in LETTERS]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config if kind.startswith("T5") else transformers.UMT5Config
    return getattr(transformers, kind)(config(vocab_size=len(tokenizer), **sizes)), tokenizer


def gemma() -> tuple[Any, Any]:
    """A Gemma 2 decoder and its tokenizer."""
    import transformers

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *LETTERS]
    tokenizer = transformers.GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = transformers.Gemma2Config(vocab_size=len(pieces), hidden_size=16, intermediate_size=24, **sizes)
    return transformers.Gemma2Model(config), tokenizer


def vae(channels: int, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**{**VAE, "latent_channels": channels}, **settings)


def flow_scheduler(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def tiny_sd3() -> Any:
    """Stable Diffusion 3 with 16 latent channels and all three text encoders."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=8,
    )
    calm(transformer.time_text_embed.timestep_embedder.linear_1)
    (first, tokenizer), (second, tokenizer_2) = clip("CLIPTextModelWithProjection"), clip("CLIPTextModelWithProjection")
    third, tokenizer_3 = t5()
    third = type(third)(type(third.config)(**{**third.config.to_dict(), "d_model": 32}))
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5, shift_factor=0.06),
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=second,
        tokenizer_2=tokenizer_2,
        text_encoder_3=third,
        tokenizer_3=tokenizer_3,
    )


def tiny_flux(guidance_embeds: bool = True) -> Any:
    """FLUX.1 with 4 latent channels, packed to 16."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    calm(transformer.time_text_embed.timestep_embedder.linear_1)
    (first, tokenizer), (second, tokenizer_2) = clip("CLIPTextModel"), t5()
    return FluxPipeline(
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=guidance_embeds),
        vae=vae(4, scaling_factor=0.36, shift_factor=0.1159),
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=second,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


def tiny_schnell() -> Any:
    """FLUX.1 without guidance and without shifted times, as the few-step model has it."""
    pipeline = tiny_flux(guidance_embeds=False)
    pipeline.register_modules(scheduler=flow_scheduler(shift=1.0))
    return pipeline


def tiny_pixart(kind: str = "PixArtAlphaPipeline", sample_size: int = 128) -> Any:
    """PixArt-alpha for 1024 pixels, which is told sizes."""
    import diffusers

    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=4,
        cross_attention_dim=24,
        sample_size=sample_size,
        patch_size=2,
        caption_channels=16,
    )
    calm(transformer.adaln_single.emb.timestep_embedder.linear_1)
    encoder, tokenizer = t5()
    return getattr(diffusers, kind)(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae(4, scaling_factor=0.2),
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
    )


def tiny_pixart_sigma() -> Any:
    """PixArt-Sigma, which is told none."""
    return tiny_pixart("PixArtSigmaPipeline", 8)


def tiny_dit() -> Any:
    """DiT of seven classes; their names are in model_index.json, if anywhere."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=4,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=7,
    )
    for block in transformer.transformer_blocks:
        calm(block.norm1.emb.timestep_embedder.linear_1)
    return DiTPipeline(transformer, vae(4, scaling_factor=0.2), DDIMScheduler())


def tiny_sana() -> Any:
    """Sana with 32 latent channels."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        in_channels=32,
        out_channels=32,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        sample_size=4,
        patch_size=1,
    )
    calm(transformer.time_embed.emb.timestep_embedder.linear_1)
    blocks = {"encoder_block_types": ("ResBlock",) * 2, "decoder_block_types": ("ResBlock",) * 2}
    widths = {"encoder_block_out_channels": (32, 32), "decoder_block_out_channels": (32, 32)}
    depths = {"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}
    scales = {"encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ())}
    encoder, tokenizer = gemma()
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=AutoencoderDC(latent_channels=32, **blocks, **widths, **depths, **scales, scaling_factor=0.4),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
        ),
    )


def tiny_lumina2() -> Any:
    """Lumina 2 with 16 latent channels."""
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        hidden_size=16,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(300, 16, 16),
        cap_feat_dim=16,
    )
    calm(transformer.time_caption_embed.timestep_embedder.linear_1)
    encoder, tokenizer = gemma()
    return Lumina2Pipeline(
        transformer=transformer,
        scheduler=flow_scheduler(shift=6.0),
        vae=vae(16, scaling_factor=0.36, shift_factor=0.1159),
        text_encoder=encoder,
        tokenizer=tokenizer,
    )


def tiny_aura_flow() -> Any:
    """AuraFlow with 4 latent channels."""
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=16,
    )
    calm(transformer.time_step_proj.linear_1)
    encoder, tokenizer = t5("UMT5EncoderModel")
    return AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae(4, scaling_factor=0.13),
        transformer=transformer,
        scheduler=flow_scheduler(shift=1.73),
    )


def tiny_hunyuan_dit() -> Any:
    """Hunyuan-DiT 1.1, which is told sizes and a style."""
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel, BertTokenizer

    transformer = HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=16,
        hidden_size=16,
        text_len=WINDOW,
        text_len_t5=LONG,
    )
    calm(transformer.time_extra_emb.timestep_embedder.linear_1)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=WINDOW)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    second, tokenizer_2 = t5()
    return HunyuanDiTPipeline(
        vae=vae(4, scaling_factor=0.13),
        text_encoder=BertModel(BertConfig(vocab_size=len(pieces), **sizes)),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.018, prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=second,
        tokenizer_2=tokenizer_2,
    )


def tiny_refiner() -> Any:
    """SDXL's refiner."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        **{**SDXL_UNET, "cross_attention_dim": 16, "projection_class_embeddings_input_dim": 16 + 5 * 4}
    )
    calm(unet.time_embedding.linear_1)
    encoder, tokenizer = clip("CLIPTextModelWithProjection")
    return StableDiffusionXLImg2ImgPipeline(
        vae=vae(4, scaling_factor=0.13),
        text_encoder=None,
        text_encoder_2=encoder,
        tokenizer=None,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCALED_LINEAR, prediction_type="v_prediction"),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def tiny_playground() -> Any:
    """SDXL's layout with EDM's scalings and latents that are whitened one channel at a time."""
    from diffusers import EDMDPMSolverMultistepScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(**SDXL_UNET)
    (first, tokenizer), (second, tokenizer_2) = clip("CLIPTextModel"), clip("CLIPTextModelWithProjection")
    whitening = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.0, 2.0, 1.5, 0.5]}
    return StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.5, **whitening),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=EDMDPMSolverMultistepScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5),
        add_watermarker=False,
    )


def tiny_score_sde() -> Any:
    """NCSN++ of 8 x 8 images."""
    from diffusers import ScoreSdeVePipeline, ScoreSdeVeScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        time_embedding_type="fourier",
        down_block_types=["SkipDownBlock2D"] * 2,
        up_block_types=["SkipUpBlock2D"] * 2,
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    with torch.no_grad():
        unet.time_proj.weight.mul_(0.05)  # of the sixteenfold random frequencies
    return ScoreSdeVePipeline(unet, ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0))


def tiny_ldm() -> Any:
    """Unconditional latent diffusion with a VQ autoencoder."""
    from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

    unet = UNet2DModel(
        sample_size=4,
        in_channels=3,
        out_channels=3,
        down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    calm(unet.time_embedding.linear_1)
    coder = {name: value for name, value in VAE.items() if name != "latent_channels"}
    vqvae = VQModel(**coder, latent_channels=3, num_vq_embeddings=16, scaling_factor=1.2)
    # A random v-prediction is a gentle flow; random noise predictions magnify rounding where noise rules.
    return LDMPipeline(vqvae, unet, DDIMScheduler(**SCALED_LINEAR, prediction_type="v_prediction"))


def tiny_kandinsky() -> Any:
    """Kandinsky 2.2's decoder, told image embeddings of 16 values."""
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        down_block_types=["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
        up_block_types=["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        encoder_hid_dim=16,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        addition_embed_type="image",
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )
    calm(unet.time_embedding.linear_1)
    coder = {name: value for name, value in VAE.items() if name != "latent_channels"}
    coder |= {"block_out_channels": [32, 32], "norm_num_groups": 32}  # the groups of its spatial norm are fixed
    movq = VQModel(**coder, latent_channels=4, num_vq_embeddings=16, norm_type="spatial", vq_embed_dim=4)
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, variance_type="learned_range", clip_sample=False)
    return KandinskyV22Pipeline(unet=unet, scheduler=scheduler, movq=movq)


def tiny_cascade() -> Any:
    """Stable Cascade's stage C."""
    from diffusers import DDPMWuerstchenScheduler, StableCascadePriorPipeline, StableCascadeUNet

    prior = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        timestep_ratio_embedding_dim=8,
        conditioning_dim=16,
        block_out_channels=(16,),
        num_attention_heads=(2,),
        down_num_layers_per_block=(1,),
        up_num_layers_per_block=(1,),
        down_blocks_repeat_mappers=(1,),
        up_blocks_repeat_mappers=(1,),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),),
        clip_text_in_channels=16,
        clip_text_pooled_in_channels=16,
        clip_image_in_channels=16,
        clip_seq=2,
        self_attn=True,
        switch_level=(False,),
        dropout=(0.1,),
    )
    encoder, tokenizer = clip("CLIPTextModelWithProjection")
    return StableCascadePriorPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        prior=prior,
        scheduler=DDPMWuerstchenScheduler(),
        feature_extractor=None,
        image_encoder=None,
    )


def tiny_sd(unet: dict[str, Any] | None = None, **scheduler: Any) -> Any:
    """Stable Diffusion 1.x; by default a random v-prediction, which is a gentle flow."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    network = UNet2DConditionModel(**{**UNET, "cross_attention_dim": 16, **(unet or {})})
    calm(network.time_embedding.linear_1)
    encoder, tokenizer = clip("CLIPTextModel")
    settings = {**SCALED_LINEAR, "prediction_type": "v_prediction", "steps_offset": 1, "clip_sample": False}
    return StableDiffusionPipeline(
        vae=vae(4, scaling_factor=0.18215),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=network,
        scheduler=DDIMScheduler(**{**settings, **scheduler}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_segmind() -> Any:
    """Stable Diffusion without a middle block, as Segmind's small ones."""
    return tiny_sd({"mid_block_type": None})


def tiny_lcm() -> Any:
    """A latent consistency model, which is told guidance."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    parts = tiny_sd({"time_cond_proj_dim": 8}).components
    parts["unet"].time_embedding.cond_proj.weight.data.mul_(20)  # so that a wrong guidance shows
    settings = {**SCALED_LINEAR, "prediction_type": "v_prediction", "steps_offset": 1, "clip_sample": False}
    parts["scheduler"] = LCMScheduler(**settings)
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def tiny_ssd(pipeline: str = "StableDiffusionXLPipeline", **settings: Any) -> Any:
    """SDXL with blocks left out of it, as Segmind's SSD-1B."""
    import diffusers

    unet = diffusers.UNet2DConditionModel(
        **{
            **SDXL_UNET,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "block_out_channels": [8, 16, 16],
            "attention_head_dim": [2, 4, 4],
            "transformer_layers_per_block": [0, 2, 2],
            "reverse_transformer_layers_per_block": [[2, 1], [1, 1], 1],
        }
    )
    calm(unet.time_embedding.linear_1)
    (first, tokenizer), (second, tokenizer_2) = clip("CLIPTextModel"), clip("CLIPTextModelWithProjection")
    return getattr(diffusers, pipeline)(
        vae=vae(4, scaling_factor=0.13),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(**SCALED_LINEAR, prediction_type="v_prediction"),
        add_watermarker=False,
        **settings,
    )


def tiny_pixels(classes: int | None = None, **scheduler: Any) -> Any:
    """DDIM over 8 x 8 images of three channels."""
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
        num_class_embeds=classes,
    )
    calm(unet.time_embedding.linear_1)
    return DDIMPipeline(unet, DDIMScheduler(**{"prediction_type": "v_prediction", **scheduler}))


class Pieces:
    """In the place of SentencePiece's processor: words and letters by the lines of a file."""

    def __init__(self, model_path: str) -> None:
        pieces = Path(model_path).read_text().splitlines()
        self._ids = {piece: i for i, piece in enumerate(pieces)}
        self.special_tokens = {"[gMASK]": len(pieces), "sop": len(pieces) + 1}
        self.n_words = len(pieces) + 2
        self.bos_id, self.eos_id, self.pad_id = 1, 2, 0

    def tokenize(self, text: str, encode_special_tokens: bool = False) -> list[str]:
        return text.split()

    def convert_token_to_id(self, token: str) -> int:
        return self.special_tokens.get(token, self._ids.get(token, self.pad_id))

    def convert_id_to_token(self, index: int) -> str:
        return next((piece for piece, i in self._ids.items() if i == index), "")


def tiny_kolors() -> Any:
    """Kolors; its tokenizer reads words by :class:`Pieces`, which must stand in for SentencePiece's."""
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
    from diffusers.pipelines.kolors import ChatGLMModel, KolorsPipeline
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    folder = tempfile.TemporaryDirectory()
    vocabulary = Path(folder.name) / "tokenizer.model"
    vocabulary.write_text("\n".join(["<unk>", "<s>", "</s>", *WORDS]))
    tokenizer = ChatGLMTokenizer(str(vocabulary))
    tokenizer.folder = folder  # which it copies from when it is saved
    sizes = {"num_layers": 2, "hidden_size": 24, "ffn_hidden_size": 24, "kv_channels": 12, "num_attention_heads": 2}
    groups = {"multi_query_attention": True, "multi_query_group_num": 1, "original_rope": True}
    config = ChatGLMConfig(padded_vocab_size=tokenizer.vocab_size, seq_length=256, **sizes, **groups)
    language_model = ChatGLMModel(config, empty_init=False)
    for name, weight in language_model.named_parameters():
        if "norm" in name:  # which it leaves as the memory is
            torch.nn.init.ones_(weight)
    unet = UNet2DConditionModel(
        **{
            **SDXL_UNET,
            "cross_attention_dim": 16,
            "encoder_hid_dim": 24,
            "encoder_hid_dim_type": "text_proj",
            "projection_class_embeddings_input_dim": 24 + 6 * 4,
        }
    )
    calm(unet.time_embedding.linear_1)
    return KolorsPipeline(
        vae=vae(4, scaling_factor=0.13),
        text_encoder=language_model,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCALED_LINEAR, prediction_type="v_prediction"),
    )


def tiny_stable_audio() -> Any:
    """Stable Audio Open: 2 channels at 100 Hz in a window of 16 latents of 4 samples."""
    import diffusers

    transformer = diffusers.StableAudioDiTModel(
        sample_size=16,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=16,
        time_proj_dim=16,
        global_states_input_dim=32,
        cross_attention_input_dim=16,
    )
    encoder, tokenizer = t5()
    tokenizer.model_max_length = LONG
    return diffusers.StableAudioPipeline(
        vae=diffusers.AutoencoderOobleck(
            encoder_hidden_size=8,
            downsampling_ratios=[2, 2],
            channel_multiples=[1, 2],
            decoder_channels=6,
            decoder_input_channels=4,
            audio_channels=2,
            sampling_rate=100,
        ),
        text_encoder=encoder,
        projection_model=diffusers.StableAudioProjectionModel(
            text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=4
        ),
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=0.3, sigma_max=50.0, sigma_data=1.0, prediction_type="v_prediction"
        ),
    )


def write(make: Any, folder: Path, seed: int = 0) -> Path:
    """Make a pipeline and save it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make().save_pretrained(folder, safe_serialization=True)
    return folder
