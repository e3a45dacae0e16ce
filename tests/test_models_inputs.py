"""What models of images are given: ranges, types, lengths and prompts, told before anything is scored."""

import pytest
import torch
from tiny_models import make_tiny_ddpm, make_tiny_sd

from dmlik_pl.data.digits import DigitSet
from dmlik_pl.data.shapes import ShapeImages
from dmlik_pl.flow import Multistep, log_likelihood
from dmlik_pl.models import PixelDiffusion, StableDiffusion
from dmlik_pl.models.inputs import as_prompts, check_images, shown

NAMES = ["a", "b"]


def levels(low: int, high: int, count: int = 2) -> torch.Tensor:
    """Random levels of files, [count, 3, 16, 16]."""
    generator = torch.Generator().manual_seed(low)
    return torch.randint(low, high + 1, (count, 3, 16, 16), generator=generator).float()


LIGHT_LINES = torch.ones(2, 3, 16, 16)
LIGHT_LINES[:, :, 3:5] = 200 / 127.5 - 1

LEGAL = {
    "8 bits": levels(0, 255) / 127.5 - 1,
    "bright photograph of 8 bits": levels(128, 255) / 127.5 - 1,
    "bright photograph of 16 bits": levels(32768, 65535) / 32767.5 - 1,
    "rounded to 8 bits as studies do": 2 * (levels(128, 255) / 255) - 1,
    "white": torch.ones(2, 3, 16, 16),
    "middle grey": torch.zeros(2, 3, 16, 16),
    "black": -torch.ones(2, 3, 16, 16),
    "white sketch with light lines": LIGHT_LINES,
    "interpolated and bright": 0.5 + 0.4 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    "rounding beyond the ends": torch.tensor([-1.0004, 1.0004]).repeat(2, 3, 16, 8),
    "float64": levels(0, 255).double() / 127.5 - 1,
}
UNIT = {
    "ToTensor": levels(0, 255) / 255,
    "ToTensor without anything dark": levels(130, 250) / 255,
    "16 bits": levels(32768, 65535) / 65535,
    "random": torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
    "a sketch": LEGAL["white sketch with light lines"] / 2 + 0.5,
}


@pytest.mark.parametrize("name", LEGAL)
def test_images_in_range_are_taken(name):
    check_images(LEGAL[name], NAMES)


@pytest.mark.parametrize("name", UNIT)
def test_images_in_the_unit_range_are_refused_unless_said_to_be_bright(name):
    images = UNIT[name]
    with pytest.raises(ValueError, match=r"and a reaches from \S+ to \S+, which looks like \[0, 1\].*pass bright=True"):
        check_images(images, NAMES)
    check_images(images, NAMES, bright=True)


def test_shipped_data_are_taken_and_their_halves_refused():
    """Every picture of digits and solids; the same in [0, 1], of which the first is told."""
    for data in (DigitSet("test", seed=0), ShapeImages("test", size=120)):
        samples = [data[i] for i in range(0, len(data), 12)]
        images, names = torch.stack([sample.image for sample in samples]), [sample.sample_id for sample in samples]
        check_images(images, names)
        for image, name in zip(images, names, strict=True):
            with pytest.raises(ValueError, match=r"looks like \[0, 1\]"):
                check_images(image[None] / 2 + 0.5, [name])


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        (levels(0, 255), NAMES, r"images must lie in \[-1, 1\], and a reaches from 0 to 255"),
        (levels(0, 255).byte(), NAMES, r"floating point in \[-1, 1\], got torch\.uint8.*/ 127\.5 - 1"),
        (1.01 * LEGAL["8 bits"], NAMES, r"and a reaches from -1\.01 to 1\.01"),
        (LEGAL["8 bits"][0], ["a"], r"images must be \[B, C, H, W\], got \[3, 16, 16\]: one alone is image\[None\]"),
        (torch.zeros(0, 3, 8, 8), [], r"images must be \[B, C, H, W\], got \[0, 3, 8, 8\]"),
        (LEGAL["white"], ["a"], r"2 images need a list of as many names, got \['a'\]"),
        (LEGAL["white"], "ab", "2 images need a list of as many names, got 'ab'"),
    ],
)
def test_other_things_are_told(images, names, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, names)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_image_that_is_not_finite_is_named(value):
    images = LEGAL["8 bits"].clone()
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="the image b holds NaN or infinity"):
        check_images(images, NAMES)


def test_prompts_are_texts():
    assert as_prompts("cats") == ["cats"]
    assert as_prompts(("cats", "dogs")) == ["cats", "dogs"]
    with pytest.raises(ValueError, match="there is no prompt"):
        as_prompts([])
    with pytest.raises(ValueError, match="a prompt must be a text, got 7, a int"):
        as_prompts(["cats", 7])


class TestModels:
    """The models look at what they are given, and one prompt is that of all images."""

    @pytest.fixture(scope="class", params=["latent", "pixel"])
    def given(self, request, tmp_path_factory):
        """A model, two of its prompts, and four images for it."""
        folder = tmp_path_factory.mktemp("model")
        generator = torch.Generator().manual_seed(1)
        if request.param == "pixel":
            images = torch.randint(0, 256, (4, 1, 8, 8), generator=generator) / 127.5 - 1
            return PixelDiffusion(str(make_tiny_ddpm(folder, ["cats", "dogs"]))), ["cats", "dogs"], images
        images = torch.randint(0, 256, (4, 3, 16, 16), generator=generator) / 127.5 - 1
        return StableDiffusion(str(make_tiny_sd(folder))), ["a photo of a dog", "a sketch of a horse"], images

    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_one_prompt_is_that_of_all_images(self, given, guidance):
        model, (prompt, _), images = given
        x, solver = model.to_latent(images, list("abcd")), Multistep(9)
        each = log_likelihood(model.flow(guidance), x, model.condition([prompt] * 4), solver=solver)
        for one in (prompt, [prompt]):
            found = log_likelihood(model.flow(guidance), x, model.condition(one), solver=solver)
            assert found.log_p.equal(each.log_p)

    def test_other_numbers_of_prompts_are_told(self, given):
        model, prompts, images = given
        x = model.to_latent(images, list("abcd"))
        with pytest.raises(ValueError, match=r"inputs of the condition are of 2 samples .* and x is of 4: give one"):
            log_likelihood(model.flow(), x, model.condition(prompts))

    def test_images_are_looked_at(self, given):
        model, _, images = given
        with pytest.raises(ValueError, match=r"which looks like \[0, 1\]"):
            model.to_latent(images / 2 + 0.5, list("abcd"))
        assert model.to_latent(images / 2 + 0.5, list("abcd"), bright=True).isfinite().all()
        with pytest.raises(ValueError, match="4 images need a list of as many names"):
            model.to_latent(images, ["a"])
        with pytest.raises(ValueError, match="a prompt must be a text, got 3"):
            model.condition([3])


def test_long_prompts_are_cut_in_messages():
    assert shown("a dog") == "'a dog'"
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 57 + "...")
