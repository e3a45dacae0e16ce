"""The report as one HTML file: whole without anything else, safe from what prompts say, and alive in a browser."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import accuracy_units, sweep_units
from PIL import Image

from dmlik_pl.plain_text import for_markdown
from dmlik_pl.records.sharing import picture_path, sound_path
from dmlik_pl.records.store import RecordStore, read
from dmlik_pl.results.page.caveats import find_caveats
from dmlik_pl.results.page.embedding import embedded_image
from dmlik_pl.results.page.gallery import Limits, make_gallery
from dmlik_pl.results.page.report import write_report
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables

VOID = {"meta", "img", "input", "link", "br", "hr"}
HOSTILE = "<script>document.title='taken'</script>\"'><img src=http://x.invalid/a.png onerror=alert(1)>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; to get one: apt-get install chromium")


class Page(HTMLParser):
    """What a page holds; closing an element that is not the last one opened is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.images: dict[str, str] = {}
        self.cells: dict[str, list[str]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._figure = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute of <{tag}> is given twice"
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        self.references += [
            attributes[name] or "" for name in ("src", "href", "action", "srcset") if name in attributes
        ]
        if "id" in attributes:
            self.ids.append(attributes["id"] or "")
        if tag == "figure":
            self._figure = attributes.get("id") or ""
        if tag == "img":
            self.images[self._figure or f"exhibit {len(self.images)}"] = attributes["src"] or ""
        if tag in ("td", "th"):
            self.cells.setdefault(self._figure, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[self._figure][-1] += data
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def fill(folder: Path, samples: int = 12) -> dict[str, pd.DataFrame]:
    """A run with pictures, a sound, failures, settings, and texts that try to break out of the page."""
    with RecordStore(folder) as store:
        for place, (name, rows) in enumerate(sweep_units(samples).items()):
            rows = [row | {"prompt": HOSTILE} for row in rows] if place == 0 else rows
            store.append("time_sweep", name, rows)
            _picture(picture_path(folder, "time_sweep", name), place)
        for name, rows in accuracy_units(samples).items():
            store.append("prompt_accuracy", name, rows)
        for number in range(7):
            store.append_failure("prompt_accuracy", f"bad-{number}", HOSTILE if number else "NaN & <b>nothing</b>")
    (folder / "sound" / "time_sweep").mkdir(parents=True)
    sound_path(folder, "time_sweep", "test-00003", "source").write_bytes(b"RIFF" + bytes(40))
    (folder / "config.yaml").write_text(f"model:\n  seed: 7\n  solver:\n    note: {json.dumps(HOSTILE)}\n")
    (folder / "versions.json").write_text('{"torch": "9.8.7"}')
    return store.finalise()


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stages = np.random.default_rng(seed).integers(0, 255, (4, 24, 3), dtype=np.uint8)
    Image.fromarray(stages).resize((576, 96), Image.Resampling.NEAREST).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "shapes-1a2b3c4d"
    fill(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def tables(folder: Path) -> list[Table]:
    return make_tables(read(folder))


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


class TestContents:
    def test_nothing_comes_from_outside(self, page: Page, source: str) -> None:
        assert page.references
        for reference in page.references:
            assert reference.startswith(("data:", "#")), reference[:80]
            assert not reference.startswith("#") or reference[1:] in page.ids, reference
        style = source[source.index("<style>") : source.index("</style>")]
        assert "url(" not in style and "@import" not in style
        policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
        assert policy is not None and "default-src 'none'" in policy and "unsafe-inline'; script" in policy
        assert len(page.ids) == len(set(page.ids))

    def test_every_cell_of_every_table(self, page: Page, tables: list[Table]) -> None:
        for table in tables:
            cells = page.cells[f"table-{table.name}"]
            expected = [table.shown.index.name or "", *map(str, table.shown.columns)]
            for heading, row in zip(table.shown.index, table.shown.itertuples(index=False), strict=True):
                expected += [str(heading), *row]
            assert cells == expected
            assert " ".join(table.caption.split()) in " ".join(page.text.split())

    def test_every_figure_is_embedded(self, page: Page, folder: Path) -> None:
        files = sorted((folder / "figures").glob("*.png"))
        assert len(files) > 5
        for path in files:
            assert page.images[f"figure-{path.stem}"].startswith("data:image/"), path.stem
        words = [attributes["alt"] or "" for tag, attributes in page.elements if tag == "img"]
        assert all(words) and any("bits per dimension against t" in text for text in words)

    def test_every_caveat_and_every_failed_sample(self, page: Page, folder: Path) -> None:
        caveats = find_caveats(read(folder))
        assert len(caveats) >= 5
        for caveat in caveats:
            assert page.text.count(caveat.text) >= 2, "once in the collection, once in its study"
        assert all(f"bad-{number}" in page.cells["table-failures"] for number in range(7))
        report = (folder / "report.md").read_text()
        assert all(for_markdown(caveat.text, 4000) in report for caveat in caveats)

    def test_head(self, page: Page, folder: Path, tables: list[Table]) -> None:
        row = next(table for table in tables if table.name == "bits_per_dim").shown.iloc[0]
        command = f"python evaluate.py --config {folder / 'config.yaml'} --name shapes"
        for words in ("shapes-1a2b3c4d", row["BPD"], "9.8.7", command, "12 measured, 7 failed"):
            assert words in page.text, words

    def test_hostile_texts_stay_texts(self, page: Page, source: str) -> None:
        assert HOSTILE in page.text and "<script>document.title" not in source
        scripts = [tag for tag, _ in page.elements].count("script")
        assert scripts == 1
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)

    def test_accessible(self, page: Page) -> None:
        assert ("html", {"lang": "en"}) in page.elements
        headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert headings.count(1) == 1 and headings[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(headings))
        assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
        assert all("aria-label" in attributes for tag, attributes in page.elements if tag == "audio")

    def test_pictures_with_their_values(self, page: Page, folder: Path) -> None:
        frame = read(folder)["time_sweep"]
        shown = [attributes for tag, attributes in page.elements if "data-bpd" in attributes]
        data = frame[frame["stage"] == "data"]
        assert [float(attributes["data-bpd"] or "nan") for attributes in shown] == pytest.approx(data["bpd"].tolist())
        assert "12 of" not in page.text, "nothing is left out"

    def test_without_anything_but_records(self, tmp_path: Path) -> None:
        with RecordStore(tmp_path) as store:
            store.append_failure("time_sweep", "a", "no memory")
        write_report(tmp_path)
        page = Page((tmp_path / "report.html").read_text())
        assert "no memory" in page.text and "evaluate.py" not in page.text


class TestGallery:
    def test_pictures_are_chosen_evenly_and_the_rest_is_named(self, folder: Path) -> None:
        gallery = make_gallery(folder, "time_sweep", read(folder)["time_sweep"], Limits(pictures=4, sound_bytes=1))
        assert [one.sample_id for one in gallery.shown if one.picture] == [f"test-{i:05d}" for i in (0, 3, 6, 9)]
        assert (
            gallery.left_out == "4 of 12 kept pictures are shown; all are in pictures/time_sweep of the run's folder."
        )

    def test_sound_beside_its_own_value(self, folder: Path) -> None:
        gallery = make_gallery(folder, "time_sweep", read(folder)["time_sweep"], Limits())
        [sounding] = [one for one in gallery.shown if one.sounds]
        assert sounding.sample_id == "test-00003"
        assert (sounding.sounds[0].name, sounding.sounds[0].value) == ("source", sounding.value)
        assert sounding.sounds[0].uri.startswith("data:audio/wav;base64,UklGR")

    def test_panels_have_their_stages(self, folder: Path) -> None:
        frame = read(folder)["time_sweep"]
        [first, *_] = make_gallery(folder, "time_sweep", frame, Limits()).shown
        assert first.aligned
        assert [heading for heading, _ in first.stages] == ["data", *(f"t = {t:g}" for t in (1, 0.75, 0.5, 0.25, 0))]
        expected = [f"{bpd:.3f} ± 0.020" for bpd in frame["bpd"][:6]]
        assert [value for _, value in first.stages] == expected

    def test_parts(self, tmp_path: Path) -> None:
        rows = next(iter(sweep_units(1).values()))
        with RecordStore(tmp_path) as store:
            for weight in (1.0, 3.0):
                own = [row | {"guidance": weight, "bpd": row["bpd"] + weight} for row in rows]
                store.append(f"time_sweep/guidance={weight:g}", "a", own)
                _picture(picture_path(tmp_path, f"time_sweep/guidance={weight:g}", "a"), 0)
        frame = store.finalise()["time_sweep"]
        gallery = make_gallery(tmp_path, "time_sweep", frame, Limits())
        assert [(one.part, one.bpd) for one in gallery.shown] == [
            (f"guidance={weight:g}", pytest.approx(rows[0]["bpd"] + weight)) for weight in (1, 3)
        ]


def test_large_pictures_are_made_small(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 3000)[None, :, None] * np.ones((400, 1, 3))
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 9, ramp.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "large.png")
    small = embedded_image(tmp_path / "large.png", most_bytes=10_000, widest=1000)
    assert (small.width, small.height) == (1000, 133)
    assert small.uri.startswith("data:image/jpeg") and len(small.uri) < 60_000
    Image.new("RGB", (50, 20)).save(tmp_path / "small.png")
    assert embedded_image(tmp_path / "small.png", most_bytes=10_000, widest=1000).uri.startswith("data:image/png")


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in Chromium with no way to a network."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--proxy-server=127.0.0.1:9"]
    command += ["--enable-logging=stderr", "--v=0", *options, page.as_uri()]
    environment = os.environ | {"HOME": str(page.parent)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)


@in_a_browser
class TestBrowser:
    def test_it_runs_and_is_quiet(self, folder: Path) -> None:
        seen = browse(folder / "report.html", "--dump-dom")
        assert 'data-ready="true"' in seen.stdout
        assert "<title>shapes-1a2b3c4d</title>" in seen.stdout, "the hostile script has not run"
        assert "CONSOLE" not in seen.stderr, seen.stderr

    def test_it_can_be_seen(self, folder: Path, tmp_path: Path) -> None:
        for width, dark in ((390, False), (1300, True)):
            path = tmp_path / f"{width}-{dark}.png"
            options = [f"--screenshot={path}", f"--window-size={width},1600"]
            browse(folder / "report.html", *options, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
            seen = np.asarray(Image.open(path).convert("L"), dtype=float)
            assert seen.shape == (1600, width)
            assert seen.std() > 5 and (seen.mean() < 100) == dark
            assert (seen[800:].std(1) > 1).mean() > 0.2, "there is something below the head"

    def test_tables_and_pictures_are_sorted_and_chosen(self, folder: Path, source: str, tmp_path: Path) -> None:
        # The page allows its own script only, so its policy has to go for this one.
        clicks = """<script>
        const form = document.querySelector(".gallery form");
        const set = (name, value) => { form.elements[name].value = value; form.dispatchEvent(new Event("input")); };
        const state = () => [...document.querySelectorAll(".exhibit:not([hidden])")].map((one) => +one.dataset.bpd);
        const heading = document.querySelector("#table-time_sweep thead th:nth-child(3)");
        const column = () => [...document.querySelectorAll("#table-time_sweep tbody td:nth-child(3)")]
          .map((cell) => parseFloat(cell.textContent));
        const result = {before: state(), table: column()};
        heading.firstChild.click(); result.rising = column(); result.mark = heading.ariaSort;
        heading.firstChild.click(); result.falling = column();
        set("order", "-1"); result.order = state();
        set("low", "-0.95"); set("high", "-0.85"); result.between = state(); set("low", ""); set("high", "");
        set("text", "GREEN"); result.green = state().length;
        document.body.innerHTML = "<pre id=result>" + JSON.stringify(result) + "</pre>";
        </script></body>"""
        copy = tmp_path / "report.html"
        copy.write_text(re.sub(r"<meta http-equiv[^>]*>", "", source).replace("</body>", clicks), encoding="utf-8")
        seen = browse(copy, "--dump-dom").stdout
        found = json.loads(re.search('<pre id="result">(.*?)</pre>', seen)[1])
        assert sorted(found["table"]) == found["rising"] == found["falling"][::-1] != found["table"]
        assert found["mark"] == "ascending"
        assert found["order"] == sorted(found["before"], reverse=True) != found["before"]
        assert found["between"] == [value for value in found["order"] if -0.95 <= value <= -0.85] != []
        frame = read(folder)["time_sweep"].drop_duplicates("sample_id")
        assert found["green"] == frame["prompt"].str.contains("green").sum() > 0
