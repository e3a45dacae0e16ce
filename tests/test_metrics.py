"""The metrics against closed forms and direct computations, and their merging over processes."""

import copy
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from dmlik_pl.metrics import (
    BitsPerDim,
    CLIPEncoder,
    CLIPImageFeatures,
    CLIPScore,
    FrechetDistance,
    PrecomputedFeatures,
    PromptAccuracy,
    bits_per_dim,
    clip_score_matrix,
    clip_scores,
    frechet_distance,
    kernel_distance,
    kernel_distance_standard_error,
    prompt_accuracy,
)
from dmlik_pl.stats.rates import wilson_interval
from dmlik_pl.stats.significance import mean_with_error


def merged(*metrics: Metric) -> Metric:
    """What a synchronised metric holds: every state reduced over the processes as it asks to be."""
    total = copy.deepcopy(metrics[0])
    for name, reduction in total._reductions.items():
        setattr(total, name, reduction(torch.stack([getattr(metric, name) for metric in metrics])))
    total._update_count = sum(metric._update_count for metric in metrics)
    total._computed = None
    return total


class TestBitsPerDim:
    def test_weighted_by_dimensions(self) -> None:
        result = bits_per_dim(torch.tensor([-10.0, -90.0]) * math.log(2), torch.tensor([10, 30]))
        assert float(result["bpd"]) == pytest.approx(100 / 40)

    def test_errors_with_equal_dimensions_are_those_of_a_mean(self) -> None:
        generator = torch.Generator().manual_seed(0)
        log_p = -5000 + 30 * torch.randn(200, generator=generator)
        errors = torch.rand(200, generator=generator)
        result = bits_per_dim(log_p, 1024, errors)
        scale = 1024 * math.log(2)
        expected = mean_with_error(-log_p.double().numpy() / scale, errors.double().numpy() / scale)
        assert float(result["bpd"]) == pytest.approx(expected.value, rel=1e-12)
        assert float(result["standard_error"]) == pytest.approx(expected.standard_error, rel=1e-7)
        assert float(result["probe_standard_error"]) == pytest.approx(expected.probe_error, rel=1e-12)

    def test_standard_error_with_unequal_dimensions_matches_the_spread(self) -> None:
        generator = torch.Generator().manual_seed(1)
        results = []
        for _ in range(1000):
            dims = torch.randint(100, 1000, (50,), generator=generator)
            bits = dims * (2 + 0.1 * torch.randn(50, generator=generator, dtype=torch.float64))
            results.append(bits_per_dim(-bits * math.log(2), dims))
        spread = torch.stack([result["bpd"] for result in results]).std()
        claimed = torch.stack([result["standard_error"] for result in results]).square().mean().sqrt()
        assert float(claimed) == pytest.approx(float(spread), rel=0.08)

    def test_split_over_processes_and_batches(self) -> None:
        generator = torch.Generator().manual_seed(2)
        log_p = torch.randn(31, generator=generator, dtype=torch.float64) * 100 - 3000
        dims = torch.randint(500, 600, (31,), generator=generator)
        errors = torch.rand(31, generator=generator)
        parts = [BitsPerDim(), BitsPerDim(), BitsPerDim()]
        for start in range(0, 31, 4):
            part = slice(start, start + 4)
            parts[start % 3].update(log_p[part], dims[part], errors[part])
        together, whole = merged(*parts).compute(), bits_per_dim(log_p, dims, errors)
        for key in ("bpd", "standard_error", "probe_standard_error"):
            assert together[key].dtype == torch.float64
            assert float(together[key]) == pytest.approx(float(whole[key]), rel=1e-10), key

    def test_two_samples_have_an_error(self) -> None:
        """1 and 3 bits per dimension: sd / sqrt(2) is 1."""
        two = bits_per_dim(-math.log(2) * torch.tensor([4.0, 12.0]), 4)
        assert (float(two["bpd"]), float(two["standard_error"])) == pytest.approx((2, 1))

    def test_what_is_not_known_is_nan(self) -> None:
        alone = bits_per_dim(torch.tensor([-10.0]), 4)
        assert math.isnan(alone["standard_error"]) and math.isnan(alone["probe_standard_error"])
        assert float(alone["bpd"]) == pytest.approx(10 / (4 * math.log(2)))
        metric = BitsPerDim()
        metric.update(torch.tensor([-10.0]), 4, torch.tensor([1.0]))
        metric.update(torch.tensor([-10.0]), 4)
        assert math.isnan(metric.compute()["probe_standard_error"])
        assert math.isnan(bits_per_dim(torch.tensor([-10.0, math.nan]), 4)["bpd"])
        same = bits_per_dim(torch.full((3,), -1234.567), 7)
        assert float(same["standard_error"]) == pytest.approx(0, abs=1e-7)


class TestPromptAccuracy:
    def test_the_interval_has_the_confidence_that_is_asked_for(self) -> None:
        metric = PromptAccuracy(confidence=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of torchmetrics: nothing was added yet
            nothing = metric.compute()
        assert (float(nothing["low"]), float(nothing["high"])) == (0, 1)
        metric.reset()
        metric.update(torch.tensor([True, True, False]), torch.tensor([True, True, True]))
        result = metric.compute()
        assert (float(result["low"]), float(result["high"])) == pytest.approx(wilson_interval(2, 3, confidence=0.5))

    def test_counts_and_interval(self) -> None:
        correct = torch.tensor([1, 1, 1, 0, 0, 1, 1, 0], dtype=torch.bool)
        decided = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
        parts = [PromptAccuracy(), PromptAccuracy()]
        parts[0].update(correct[:3], decided[:3])
        parts[1].update(correct[3:], decided[3:])
        for result in (prompt_accuracy(correct, decided), merged(*parts).compute()):
            assert float(result["accuracy"]) == 5 / 8
            assert float(result["undecided"]) == 4
            assert float(result["accuracy_decided"]) == 3 / 4
            assert (float(result["low"]), float(result["high"])) == pytest.approx(wilson_interval(5, 8))

    def test_nothing_decided(self) -> None:
        result = prompt_accuracy(torch.tensor([True]), torch.tensor([False]))
        assert float(result["accuracy"]) == 1 and math.isnan(result["accuracy_decided"])


def white_noise(n: int, seed: int) -> Tensor:
    """Samples [n, 4] whose own mean is 0 and whose own covariance is the identity, to rounding."""
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), x.mT, upper=False).mT


def gaussian_features(n: int) -> tuple[Tensor, Tensor, float]:
    """Samples of two Gaussians whose covariances do not commute, and their distance in closed form."""
    first = torch.diag(torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64))
    mix = torch.tensor([[1.0, 0.3, 0, 0], [0, 0.8, 0.2, 0], [0, 0, 1.1, 0.4], [0.5, 0, 0, 0.9]], dtype=torch.float64)
    second = mix @ mix.mT
    shift = torch.tensor([0.5, -1.0, 0.0, 0.2], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(first.sqrt() @ second @ first.sqrt())
    cross = (vectors * values.sqrt()) @ vectors.mT
    expected = float(shift.square().sum() + (first + second - 2 * cross).trace())
    return white_noise(n, 0) @ first.sqrt(), white_noise(n, 1) @ mix.mT + shift, expected


class TestFrechetDistance:
    def test_gaussians_in_closed_form(self) -> None:
        a, b, expected = gaussian_features(300)
        assert float(frechet_distance(a, b)) == pytest.approx(expected, abs=1e-9)
        assert float(frechet_distance(a[:4], b[:3])) > 0

    def test_metric_equals_function_and_survives_a_split(self) -> None:
        a, b, _ = gaussian_features(500)
        metrics = [FrechetDistance(PrecomputedFeatures(4)) for _ in range(3)]
        metrics[0].update(a[:123], real=True)
        metrics[1].update(a[123:], real=True)
        metrics[0].update(b[:400], real=False)
        metrics[1].update(b[400:], real=False)  # the third process had no sample
        result = merged(*reversed(metrics)).compute()
        assert result.dtype == torch.float64
        assert float(result) == pytest.approx(float(frechet_distance(a, b)), rel=1e-9)

    def test_two_samples_a_side_are_enough(self) -> None:
        """Standard deviations sqrt(2) and 3 sqrt(2), means 1 and 5."""
        distance = frechet_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [8.0]]))
        assert float(distance) == pytest.approx(16 + 8)
        with pytest.raises(ValueError, match="two samples per set, got 1 and 2"):
            frechet_distance(torch.zeros(1, 1), torch.zeros(2, 1))

    def test_fewer_samples_than_features(self) -> None:
        generator = torch.Generator().manual_seed(2)
        a, b = torch.randn(2, 12, 40, generator=generator, dtype=torch.float64)
        centred = [(x - x.mean(0)).numpy() / math.sqrt(11) for x in (a, b)]
        s1, s2 = (x.T @ x for x in centred)
        cross = np.sqrt(np.linalg.eigvals(s1 @ s2).astype(complex)).real.sum()
        expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(s1 + s2) - 2 * cross
        assert float(frechet_distance(a, b)) == pytest.approx(expected, rel=1e-4)
        assert float(frechet_distance(a, a)) == pytest.approx(0, abs=1e-10)
        with pytest.raises(ValueError, match="two samples per set"):
            frechet_distance(a[:1], b)

    def test_any_network(self) -> None:
        class Means(nn.Module):
            num_features = 3

            def forward(self, images: Tensor) -> Tensor:
                return images.mean((2, 3))

        generator = torch.Generator().manual_seed(3)
        real, generated = torch.rand(2, 20, 3, 8, 8, generator=generator)
        metric = FrechetDistance(Means())
        metric.update(real, real=True)
        metric.update(generated, real=False)
        assert float(metric.compute()) == pytest.approx(
            float(frechet_distance(real.mean((2, 3)), generated.mean((2, 3)))), rel=1e-4
        )

    def test_inception_without_its_package(self) -> None:
        with pytest.raises(ModuleNotFoundError, match=r"torch-fidelity.*CLIPImageFeatures"):
            FrechetDistance(2048)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
PROMPTS = ["a red cube", "blue", "x green sphere"]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in transformers' folder layout; its tokens are letters."""
    torch.manual_seed(0)
    vocabulary = {letter + end: i for i, (letter, end) in enumerate((x, e) for e in ("", "</w>") for x in LETTERS)}
    vocabulary |= {"<|startoftext|>": 52, "<|endoftext|>": 53}
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower
        | {"vocab_size": 54, "max_position_embeddings": 20, "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53},
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessorPil(**size), CLIPTokenizer(vocab=vocabulary, merges=[])).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> CLIPEncoder:
    return CLIPEncoder.from_pretrained(clip_folder, local_files_only=True)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 40, 36, generator=torch.Generator().manual_seed(5))


class TestKernelDistance:
    def test_is_the_sum_over_all_pairs(self) -> None:
        a, b, _ = gaussian_features(9)
        b = b[:7]

        def kernel(x: Tensor, y: Tensor) -> float:
            return (float(x @ y) / 4 + 1) ** 3

        within = [sum(kernel(s[i], s[j]) for i in range(n) for j in range(n) if i != j) for s, n in ((a, 9), (b, 7))]
        between = sum(kernel(x, y) for x in a for y in b)
        expected = within[0] / (9 * 8) + within[1] / (7 * 6) - 2 * between / (9 * 7)
        assert float(kernel_distance(a, b)) == pytest.approx(expected, rel=1e-12)
        assert float(kernel_distance(a.float(), b.float())) == pytest.approx(expected, rel=1e-5)
        with pytest.raises(ValueError, match="two samples per set"):
            kernel_distance(a, b[:1])

    def test_is_unbiased_where_the_frechet_distance_is_not(self) -> None:
        generator = torch.Generator().manual_seed(4)
        pairs = torch.randn(400, 2, 8, 4, generator=generator, dtype=torch.float64)
        distances = torch.stack([kernel_distance(*pair) for pair in pairs])
        assert float(distances.mean()) == pytest.approx(0, abs=3 * float(distances.std()) / 20)
        assert float(torch.stack([frechet_distance(*pair) for pair in pairs]).mean()) > 1

    def test_images_that_belong_together_are_not_compared(self) -> None:
        generator = torch.Generator().manual_seed(6)
        real = torch.randn(400, 8, 4, generator=generator, dtype=torch.float64)
        other = (real + 0.5 * torch.randn(real.shape, generator=generator, dtype=torch.float64)) / 1.25**0.5
        paired = torch.stack([kernel_distance(a, b, paired=True) for a, b in zip(real, other, strict=True)])
        error = float(paired.std()) / 20
        assert float(paired.mean()) == pytest.approx(0, abs=3 * error)
        apart = torch.stack([kernel_distance(a, b) for a, b in zip(real, other, strict=True)])
        assert float(apart.mean()) < -10 * error, "alike rows make two sets of one distribution seem too near"
        with pytest.raises(ValueError, match="pairs need as many"):
            kernel_distance(real[0], other[0, :5], paired=True)

    def test_standard_error_is_the_spread_over_repetitions(self) -> None:
        generator = torch.Generator().manual_seed(5)
        pairs = torch.randn(300, 2, 20, 4, generator=generator, dtype=torch.float64)
        pairs[:, 1] = 0.6 * pairs[:, 0] + pairs[:, 1] + 1  # an image and what was made for it have much in common
        spread = torch.stack([kernel_distance(*pair, paired=True) for pair in pairs]).std()
        errors = torch.stack([kernel_distance_standard_error(*pair) for pair in pairs])
        assert float(errors.square().mean().sqrt()) == pytest.approx(float(spread), rel=0.15)
        one_by_one = torch.stack([kernel_distance(*pairs[0][:, torch.arange(20) != i], paired=True) for i in range(20)])
        assert float(errors[0]) == pytest.approx(float((19 * one_by_one.var(correction=0)).sqrt()), rel=1e-9)
        with pytest.raises(ValueError, match="three samples"):
            kernel_distance_standard_error(pairs[0, 0], pairs[0, 1, :19])


class TestCLIP:
    def test_scores_equal_the_cosines_of_the_whole_model(self, encoder: CLIPEncoder, images: Tensor) -> None:
        pixels = [(image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for image in images]
        inputs = encoder.processor(text=PROMPTS, images=pixels, padding=True, return_tensors="pt")
        with torch.no_grad():
            output = encoder.model(**inputs)
        cosines = output.logits_per_image / encoder.model.logit_scale.exp()
        torch.testing.assert_close(clip_score_matrix(encoder, images, PROMPTS), 100 * cosines, atol=1e-3, rtol=0)
        expected = 100 * cosines.diagonal().clamp(min=0)
        torch.testing.assert_close(clip_scores(encoder, images, PROMPTS), expected, atol=1e-3, rtol=0)
        assert cosines.min() < 0 < cosines.max(), "the example must reach both sides of the cut at 0"

    def test_8_bit_images_mean_the_same_and_are_never_inverted(self, encoder: CLIPEncoder, images: Tensor) -> None:
        eight_bit = (images * 255).round().to(torch.uint8)
        assert torch.equal(clip_scores(encoder, images, PROMPTS), clip_scores(encoder, eight_bit, PROMPTS))
        inverted = clip_scores(encoder, eight_bit * 255, PROMPTS)  # the overflow that is easily made
        assert not torch.allclose(inverted, clip_scores(encoder, images, PROMPTS), atol=0.1)

    def test_wrong_images_are_refused(self, encoder: CLIPEncoder, images: Tensor) -> None:
        with pytest.raises(ValueError, match=r"lie in \[0, 1\], these reach from -1"):
            clip_scores(encoder, images * 2 - 1 - images.min() * 2, PROMPTS)
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            clip_scores(encoder, images * 255, PROMPTS)
        with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
            clip_scores(encoder, images * math.nan, PROMPTS)
        with pytest.raises(TypeError, match=r"int64"):
            clip_scores(encoder, (images * 255).long(), PROMPTS)
        with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
            clip_scores(encoder, images[:, :1], PROMPTS)
        with pytest.raises(ValueError, match="3 images need as many prompts, got 1"):
            clip_scores(encoder, images, ["a red cube"])

    def test_a_prompt_beyond_the_window_is_refused(self, encoder: CLIPEncoder) -> None:
        assert encoder.prompts(["a" * 18]).shape == (1, 24)
        with pytest.raises(ValueError, match="has 21 tokens, this CLIP model reads at most 20"):
            encoder.prompts(["blue", "a" * 19])

    def test_metric_is_the_mean_and_survives_a_split(
        self, clip_folder: Path, encoder: CLIPEncoder, images: Tensor
    ) -> None:
        parts = [CLIPScore(clip_folder, local_files_only=True), CLIPScore(encoder)]
        parts[0].update(images[:1], PROMPTS[:1])
        parts[1].update(images[1:], PROMPTS[1:])
        expected = clip_scores(encoder, images, PROMPTS).mean()
        assert float(merged(*parts).compute()) == pytest.approx(float(expected), rel=1e-6)

    def test_image_features_for_the_frechet_distance(self, encoder: CLIPEncoder, images: Tensor) -> None:
        features = CLIPImageFeatures(encoder)
        assert features.num_features == 24
        with torch.no_grad():
            pixels = encoder.processor.image_processor(
                images=[(image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy() for image in images],
                return_tensors="pt",
                input_data_format="channels_last",
            )["pixel_values"]
            expected = encoder.model.visual_projection(encoder.model.vision_model(pixels).pooler_output)
        torch.testing.assert_close(features(images), expected)
        metric = FrechetDistance(features)
        metric.update(images, real=True)
        metric.update(images.flip(-1), real=False)
        expected_distance = float(frechet_distance(features(images), features(images.flip(-1))))
        assert float(metric.compute()) == pytest.approx(expected_distance, rel=1e-3, abs=1e-6)

    def test_a_missing_model_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no CLIP model at .*hf download"):
            CLIPEncoder.from_pretrained(tmp_path / "nothing", local_files_only=True)
