"""What the documents promise: their example runs and tells the truth, what they name exists."""

import io
import re
import shlex
import tomllib
from pathlib import Path
from pydoc import locate

import pandas as pd
import pytest
import torch

import evaluate

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
RESCORING = ROOT / "docs" / "rescoring.md"
CARDS = sorted((ROOT / "dmlik_pl" / "cards").glob("*.md"))
NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
DOCUMENTS = [*(ROOT / name for name in NAMES), *PAGES, *CARDS]
CONFIGURATIONS = sorted((ROOT / "configs").glob("*.yaml"))
SOURCES = [path for room in ("dmlik_pl", "callbacks", "benchmarks") for path in sorted((ROOT / room).rglob("*.py"))]


def named(document: Path) -> str:
    """What a test of a document is called."""
    return str(document.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """What a link may name in a document, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def example_lists() -> str:
    """The CSV file that the page on rescoring shows."""
    (lists,) = re.findall(r"```csv\n(.*?)```", RESCORING.read_text(), re.DOTALL)
    return lists


def table_below(document: Path, sentence: str) -> dict[str, list[float]]:
    """The first table after a sentence: numbers of each row by its first cell."""
    below = document.read_text().split(sentence, 1)[1]
    rows = re.search(r"^\|---.*\n((?:\|.*\n)+)", below, re.MULTILINE)[1]  # type: ignore[index]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines()]
    return {name: [float(value) for value in values] for name, *values in cells}


def test_the_first_examples_of_the_readme_are_right(capsys):
    door, network, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope = {}
    for example in (door, network):
        exec(compile(example, "README.md", "exec"), scope)
    assert "p(x|y) of VAE latents times 1.15458, 256 dimensions; 33 calls" in capsys.readouterr().out
    closed_form = torch.distributions.Normal(0.0, 0.5).log_prob(scope["x"]).sum(1)
    assert ((scope["own"].log_p - closed_form).abs() < 4 * scope["own"].standard_error + 1e-2).all()


def test_the_example_of_the_readme_is_right(capsys):
    *_, example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope = {}
    exec(compile(example, "README.md", "exec"), scope)
    result = scope["result"]
    closed_form = -scope["model"].log_prob(scope["x"]) / (16 * torch.log(torch.tensor(2.0)))
    assert ((result.bpd - closed_form).abs() < 4 * result.bpd_standard_error + 1e-2).all()
    assert result.density == "p(x|y)" and (result.nfe.forward, result.nfe.vjp) == (33, 33)
    assert "closed form" in capsys.readouterr().out
    assert len(example.strip().splitlines()) <= 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_links_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
        if not target.startswith("http"):
            place = document.parent / target if target else document
            assert place.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(place), f"{document.name} links to {target}#{anchor}"


@pytest.mark.parametrize("document", [*DOCUMENTS, *CONFIGURATIONS], ids=named)
def test_named_configurations_exist(document):
    for name in re.findall(r"(?:--config |CONFIG=|`|# |\b)([a-z_]+\.yaml)", document.read_text()):
        assert name in ("config.yaml", "mirrored.yaml") or (ROOT / "configs" / name).exists(), (
            f"{document.name} names {name}"
        )


@pytest.mark.parametrize("document", [*DOCUMENTS, *CONFIGURATIONS], ids=named)
def test_named_objects_exist(document):
    for name in re.findall(r"(?<![./\w])(?:dmlik_pl|callbacks|benchmarks)(?:\.\w+)+", document.read_text()):
        assert locate(name) is not None, f"{document.name} names {name}"


def test_the_readme_links_every_page_and_card():
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in (*PAGES, *CARDS) if f"({path.relative_to(ROOT)})" not in text] == []


def test_the_readme_lists_every_configuration():
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in CONFIGURATIONS if f"`{path.name}`" not in text] == []


def rescored(lists: Path, *options: str) -> pd.DataFrame:
    """The table `rescoring` of a file of lists, by the way to choose."""
    runs = lists.parent / "runs"
    command = ["--config", "rescoring.yaml", "--data.path", str(lists), "--runs", str(runs)]
    assert evaluate.cli_main([*command, *options]) == 0
    (table,) = runs.glob("*/tables/rescoring.csv")
    return pd.read_csv(table).set_index("strategy")


def test_the_lists_of_the_rescoring_page_give_its_table(tmp_path, capsys):
    (tmp_path / "lists.csv").write_text(example_lists())
    measured = rescored(tmp_path / "lists.csv", "--tables")
    stated = table_below(RESCORING, "gives, among others")
    assert list(stated) == list(measured.index)
    for name, (rate, errors) in stated.items():
        assert rate == pytest.approx(100 * measured.loc[name, "wer"], abs=0.005), name
        assert errors == pytest.approx(measured.loc[name, "errors"], abs=5e-4), name
    assert "rescoring excluded" in capsys.readouterr().out


def test_the_settings_of_the_rescoring_page_name_other_columns(tmp_path):
    lists = pd.read_csv(io.StringIO(example_lists()))
    lists.set_axis(["utt", "ref", "hyp", "asr", "ll"], axis=1).to_csv(tmp_path / "lists.csv", index=False)
    (command,) = re.findall(r"--data.path lists.csv (--data.columns.*?)```", RESCORING.read_text(), re.DOTALL)
    options = shlex.split(command.replace("\\\n", " "))
    assert rescored(tmp_path / "lists.csv", *options).loc["likelihood", "errors"] == 1


RATE = re.compile(
    r"\b(?:bits|nats|seconds|evaluations|calls|passes|probes?|draws?|rows?|lines?|values?|decisions?|samples|pixels|one|once)"
    r"\s+(?:#\s*)?an?\s+(?:node|sample|image|picture|level|dimension|frame|step|second|utterance|list|batch|row|line|part|"
    r"setting|study|side|token|prompt|hypothesis|trajectory|experiment|loader|measurement|attribute|channel|stage|decision)\b"
)


def test_rates_are_per():
    found = [
        f"{path.relative_to(ROOT)}: {' '.join(match[0].split())}"
        for path in (*DOCUMENTS, *CONFIGURATIONS, *SOURCES)
        for match in RATE.finditer(path.read_text())
    ]
    assert found == []


def test_the_notice_is_installed_and_names_files_that_exist():
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["license-files"] == ["LICENSE", "NOTICE"]
    notice = (ROOT / "NOTICE").read_text()
    paths = re.findall(r"(?:dmlik_pl|tests|benchmarks)/[\w./-]+\w", notice)
    assert len(paths) >= 15 and [path for path in paths if not (ROOT / path).exists()] == []
    assert all(f"Copyright {of}" in notice for of in ("(c) 2020 Jungil Kong", "(c) 2017 Keith Ito", "(C) 2021. Huawei"))
