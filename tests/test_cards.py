"""Model cards say what is true of the shipped weights, and do not lie where they would change a run's identity."""

import re

import pytest
import yaml
from safetensors import safe_open

from dmlik_pl.shipped import ASSETS

ROOT = ASSETS.parents[1]
CARDS = ASSETS.parent / "cards"
MODELS = sorted({path.relative_to(ASSETS).parts[0] for path in ASSETS.rglob("*.safetensors")})
OWN = [name for name in MODELS if name != "resemblyzer"]  # trained by this project


def row(card: str, name: str) -> str:
    """The value of a row of the card's first table; its name may be a plural."""
    (value,) = re.findall(rf"^\| {name}s? \| (.*) \|$", card, re.MULTILINE)
    return value


def test_every_shipped_model_has_a_card_and_every_card_a_model():
    assert MODELS == ["digits", "resemblyzer", "shapes-clip", "shapes-sdxl", "spoken-grad-tts"]
    assert sorted(path.name for path in CARDS.iterdir()) == [f"{name}.md" for name in MODELS]


def test_no_card_lies_among_weights_whose_files_name_the_run():
    assert [path for path in ASSETS.rglob("*") if path.suffix == ".md"] == []


@pytest.mark.parametrize("name", MODELS)
class TestCard:
    def test_it_has_the_head_of_a_model_card(self, name):
        _, head, body = (CARDS / f"{name}.md").read_text().split("---\n", 2)
        assert yaml.safe_load(head)["license"] == "apache-2.0" and "evaluation" in yaml.safe_load(head)["tags"]
        assert body.startswith(f"\n# {name}\n") and "\n## Use\n" in body

    def test_it_counts_the_weights(self, name):
        count, size = 0, 0
        for path in set((ASSETS / name).rglob("*.safetensors")) - {ASSETS / name / "colouring.safetensors"}:
            size += path.stat().st_size
            with safe_open(path, "pt") as weights:
                count += sum(weights.get_tensor(key).numel() for key in weights.keys())  # noqa: SIM118
        stated = row((CARDS / f"{name}.md").read_text(), "parameter")
        assert stated == f"{count:,}, float32, {size / 1e6:.1f} MB".replace(",", " ", f"{count:,}".count(","))


@pytest.mark.parametrize("name", OWN)
def test_the_card_names_the_configurations_and_their_seed(name):
    card = (CARDS / f"{name}.md").read_text()
    configurations = re.findall(r"`(\w+\.yaml)`", row(card, "configuration"))
    settings = [yaml.safe_load((ROOT / "configs" / each).read_text()) for each in configurations]
    seeds = [each.get("seed_everything") for each in settings]
    assert seeds and {seed for seed in seeds if seed is not None} == {int(row(card, "seed"))}
    assert re.fullmatch(r"`[0-9a-f]{7}`(; VAE `[0-9a-f]{7}`)?", row(card, "commit"))
