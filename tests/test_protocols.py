"""The published protocol of the experiments on images: what it does, what it says of itself, and its configs, whole."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
import yaml
from PIL import Image
from test_studies import CANDIDATES, exact_estimator, make_batch
from tiny_models import COLOURS, OBJECTS, SHAPES, make_tiny_clip, make_tiny_sdxl
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from toy import ToyModel

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.base import Batch
from dmlik_pl.flow import Hutchinson, Multistep, Purpose, log_likelihood, noise, reconstruct, trajectory
from dmlik_pl.records.protocol import is_published, protocol_caption, protocol_columns
from dmlik_pl.records.store import RecordStore, read
from dmlik_pl.results.compare import compare
from dmlik_pl.results.prompt_accuracy.decisions import decisions
from dmlik_pl.results.prompt_accuracy.summaries import class_average_summary
from dmlik_pl.results.tables import make_tables
from dmlik_pl.stats.rates import wilson_interval
from dmlik_pl.studies import Estimator, Outcome, PromptAccuracy, TimeSweep

TEMPLATE = "{tone} {size}"
NOISY = Estimator(solver=Multistep(17), divergence=Hutchinson(2, distribution="gaussian"), double=True)


class CoarseToyModel(ToyModel):
    """Images of 1 x 4 x 4 pixels whose latents are means over 2 x 2 pixels."""

    def to_latent(self, images: Tensor, sample_ids: list[str]) -> Tensor:
        return super().to_latent(avg_pool2d(images, 2), sample_ids)

    def to_image(self, latents: Tensor) -> Tensor:
        return interpolate(super().to_image(latents), scale_factor=2)


def coarse_batch(model: ToyModel, count: int = 6) -> Batch:
    batch = make_batch(model, count)
    return Batch(batch.sample_id, interpolate(batch.image, scale_factor=2), batch.prompt, batch.attributes)


def frame_of(outcomes: list[Outcome], folder: Path, study: str) -> pd.DataFrame:
    """Records that went through the store, as those of a run do."""
    with RecordStore(folder) as store:
        for outcome in outcomes:
            store.append(study, outcome.sample_id, outcome.rows)
    return store.finalise()[study]


class TestProtocol:
    def test_deviations_go_into_records_and_come_out_as_a_sentence(self) -> None:
        columns = protocol_columns("published", ("a is b", "not reproduced: c"))
        assert columns == {"protocol": "published", "deviations": "a is b | not reproduced: c"}
        frame = pd.DataFrame([columns, columns, protocol_columns("published", ("a is b", "d"))])
        assert is_published(frame)
        assert protocol_caption(frame) == "Published protocol: a is b; not reproduced: c; d."

    def test_the_repaired_protocol_needs_no_words(self) -> None:
        for frame in (pd.DataFrame([protocol_columns("repaired", ())]), pd.DataFrame({"bpd": [1.0]})):
            assert not is_published(frame) and protocol_caption(frame) == ""

    def test_a_study_without_a_list_still_says_which_protocol(self) -> None:
        assert protocol_caption(pd.DataFrame({"protocol": ["published"]})) == "Published protocol."

    def test_phrases_must_come_apart_again(self) -> None:
        with pytest.raises(ValueError, match="may not hold"):
            protocol_columns("published", ("a | b",))


class TestPromptAccuracy:
    def test_every_prompt_has_probes_of_its_own(self) -> None:
        model = ToyModel()
        batch = make_batch(model)
        study = PromptAccuracy(TEMPLATE, CANDIDATES, protocol="published")
        outcomes, again = (study.measure(model, batch, NOISY) for _ in range(2))
        for b, outcome in enumerate(outcomes):
            tone, size = batch.attributes["tone"][b], batch.attributes["size"][b]
            found = json.loads(outcome.rows[0]["scores"])
            for value in CANDIDATES["tone"]:
                prompt = f"{value} {size}"
                expected = log_likelihood(
                    model.flow(),
                    batch.image[b : b + 1].double(),
                    model.condition([prompt]),
                    solver=NOISY.solver,
                    divergence=NOISY.divergence,
                    sample_ids=[f"toy-{b}/{prompt}"],
                )
                assert found[value] == pytest.approx(float(expected.log_p), abs=1e-9)
            assert outcome.rows == again[b].rows
            # The true prompt is the same draw, whichever attribute competes.
            assert found[tone] == json.loads(outcome.rows[1]["scores"])[size]

    def test_what_is_compared_scatters_more_than_on_shared_probes(self) -> None:
        model = ToyModel()
        batch = make_batch(model, 12)
        errors = {}
        for protocol in ("repaired", "published"):
            outcomes = PromptAccuracy(TEMPLATE, CANDIDATES, protocol=protocol).measure(model, batch, NOISY)
            exact = PromptAccuracy(TEMPLATE, CANDIDATES).measure(model, batch, exact_estimator(17))
            pairs = [
                (json.loads(row["scores"]), json.loads(true["scores"]))
                for outcome, truth in zip(outcomes, exact, strict=True)
                for row, true in zip(outcome.rows, truth.rows, strict=True)
            ]
            gaps = [np.subtract(*found.values()) - np.subtract(*true.values()) for found, true in pairs]
            errors[protocol] = np.std(gaps)
        assert errors["published"] > 2 * errors["repaired"]

    def test_every_prompt_scores_its_own_reconstruction(self) -> None:
        model = ToyModel()
        batch = make_batch(model)
        coarse = exact_estimator(9, max_batch=4)  # so coarse that a reconstruction is not its original
        scores = {}
        for protocol in ("repaired", "published"):
            study = PromptAccuracy(TEMPLATE, CANDIDATES, reconstruct=True, protocol=protocol)
            scores[protocol] = [json.loads(o.rows[0]["scores"]) for o in study.measure(model, batch, coarse)]
            assert ("its own reconstruction" in " ".join(study.deviations)) == (protocol == "published")
        flow, moved = model.flow(), 0.0
        for b, size in enumerate(batch.attributes["size"]):
            x = batch.image[b : b + 1].double()
            for tone in CANDIDATES["tone"]:
                condition = model.condition([f"{tone} {size}"])
                own = reconstruct(flow, x, condition, solver=coarse.solver)
                expected = log_likelihood(flow, own, condition, solver=coarse.solver, divergence=coarse.divergence)
                assert scores["published"][b][tone] == pytest.approx(float(expected.log_p), abs=1e-9)
                is_true = tone == batch.attributes["tone"][b]
                moved += 0 if is_true else abs(scores["repaired"][b][tone] - scores["published"][b][tone])
                if is_true:  # the true prompt reconstructs for all under the repaired protocol
                    assert scores["repaired"][b][tone] == pytest.approx(scores["published"][b][tone], abs=1e-9)
        assert moved > 1e-3

    def test_decisions_on_averages_by_hand(self) -> None:
        # True a: one image right, one wrong, right on average. True b: ties with a. True c: right on the whole, though
        # two of three images are wrong. CLIP misses all of them on average, and so does the bound but for a; it has no
        # score of one image.
        scores = [
            *(("a", (9.0, 0.0, 0.0)), ("a", (1.0, 2.0, 0.0))),
            *(("b", (3.0, 4.0, 0.0)), ("b", (5.0, 4.0, 1.0))),
            *(("c", (1.0, 0.0, 0.0)), ("c", (1.0, 0.0, 0.0)), ("c", (0.0, 0.0, 7.0))),
        ]
        rows = [
            {
                "sample_id": f"{i}",
                "attribute": "letter",
                "truth": truth,
                "candidates": "a|b|c",
                "scores": json.dumps(dict(zip("abc", values, strict=True))),
                "predicted": "abc"[int(np.argmax(values))],
                "correct": "abc"[int(np.argmax(values))] == truth,
                "decided": True,
                "dims": 4,
                "clip_scores": json.dumps(dict(zip("abc", values[::-1], strict=True))),
                "elbo_scores": None if i == 3 else json.dumps([1.0, 0.0, 0.0]),
            }
            | protocol_columns("published", ("averages decide",))
            for i, (truth, values) in enumerate(scores)
        ]
        (decision,) = decisions(pd.DataFrame(rows))
        assert decision.correct_on_average(decision.scores).tolist() == [True, False, True]
        row = class_average_summary(pd.DataFrame(rows)).iloc[0]
        assert (row["n"], row["samples"], row["accuracy"]) == (3, 7, pytest.approx(2 / 3))
        assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(2, 3)
        # P(2 or more of 3 right by chance 1/3) = 3 (1/3)^2 (2/3) + (1/3)^3 = 7/27, and 0 right has a larger probability
        assert (row["chance"], row["chance_p"]) == (pytest.approx(1 / 3), pytest.approx(7 / 27))
        assert row["clip"] == 0 and row["elbo"] == pytest.approx(1 / 3)
        tables = {table.name: table for table in make_tables({"prompt_accuracy": pd.DataFrame(rows)})}
        table = tables["prompt_accuracy_class_averages"]
        assert table.shown.loc["letter", "n"] == "3" and table.shown.loc["letter", "log p %"].startswith("66.7")
        assert table.shown.loc["letter", "log p %"].endswith("]") and "PMI %" not in table.shown
        assert "7 images" in table.caption and table.notes == ("Published protocol: averages decide.",)
        repaired = pd.DataFrame(rows).assign(protocol="repaired")
        assert "prompt_accuracy_class_averages" not in {t.name for t in make_tables({"prompt_accuracy": repaired})}

    def test_comparison_with_the_paper_takes_the_averages(self, tmp_path: Path) -> None:
        model = ToyModel()
        candidates = {"class": CANDIDATES["tone"], "domain": CANDIDATES["size"]}
        batch = make_batch(model, 12)
        attributes = {"class": batch.attributes["tone"], "domain": batch.attributes["size"]}
        batch = Batch(batch.sample_id, batch.image, batch.prompt, attributes)
        study = PromptAccuracy("{class} {domain}", candidates, protocol="published")
        frame = frame_of(study.measure(model, batch, exact_estimator(17)), tmp_path, "prompt_accuracy")
        frame = frame.assign(kind="prompt_accuracy")
        (table,) = compare({"prompt_accuracy": frame.assign(space="VAE latents")}, 6, "CFG 0-R")
        run = table.raw.set_index("column")["run"]
        expected = class_average_summary(frame).set_index("attribute")["accuracy"]
        assert run["PACS Class"] == 100 * expected["class"] and run["PACS Domain"] == 100 * expected["domain"]


class TestTimeSweep:
    def test_bits_are_shared_out_over_pixels(self) -> None:
        model = CoarseToyModel()
        batch = coarse_batch(model)
        rows = {
            protocol: [
                outcome.rows
                for outcome in TimeSweep([0.5, 0.0], protocol=protocol).measure(model, batch, exact_estimator(33))
            ]
            for protocol in ("repaired", "published")
        }
        for published, repaired in zip(rows["published"], rows["repaired"], strict=True):
            # The same latent of the same image: 4 dimensions, 16 pixels.
            assert published[0]["log_p"] == pytest.approx(repaired[0]["log_p"], abs=1e-9)
            assert published[0]["bpd"] == pytest.approx(repaired[0]["bpd"] * 4 / 16, abs=1e-9)
            assert {row["dims"] for row in published} == {4}
            assert all(row["bpd_marginal"] is None for row in published)
            assert {row["protocol"] for row in published} == {"published"}
            assert {(row["protocol"], row["deviations"]) for row in repaired} == {("repaired", "")}

    def test_every_time_is_an_8_bit_image_of_new_noise(self) -> None:
        model = CoarseToyModel()
        batch = coarse_batch(model)
        outcomes = TimeSweep([0.5, 0.1], protocol="published").measure(model, batch, NOISY)
        flow, condition = model.flow(), model.condition(batch.prompt)
        latent = model.to_latent(batch.image, batch.sample_id)
        pictures = [0.5 * batch.image + 0.5]
        for stage, time in enumerate([0.5, 0.1], start=1):
            names = [f"{name}/t={time}" for name in batch.sample_id]
            start = noise(latent, names, seed=0, purpose=Purpose.LATENT)
            path = trajectory(flow, start, condition, times=[time], solver=NOISY.solver)
            levels = (255 * model.to_image(path.states[0])).round()
            again = model.to_latent(2 * levels / 255 - 1, names)
            assert not torch.allclose(again, path.states[0], atol=1e-3)  # a rounded and cut latent is another one
            expected = log_likelihood(
                flow, again, condition, solver=NOISY.solver, divergence=NOISY.divergence, sample_ids=names
            )
            found = [outcome.rows[stage]["log_p"] for outcome in outcomes]
            assert found == pytest.approx(expected.log_p.tolist(), abs=1e-9)
            error = [outcome.rows[stage]["bpd_standard_error"] for outcome in outcomes]
            assert error == pytest.approx((expected.bpd_standard_error / 4).tolist(), abs=1e-12)
            pictures.append(levels / 255)
        for b, outcome in enumerate(outcomes):
            assert outcome.picture is not None
            assert torch.allclose(outcome.picture, torch.cat([picture[b] for picture in pictures], -1))

    def test_stages_lie_where_they_are_said_to(self) -> None:
        model = ToyModel()
        study = TimeSweep([1.0, 0.5, 0.0], protocol="published", levels=[0.3, 0.3, 1.0])
        (outcome, *_) = study.measure(model, make_batch(model), exact_estimator(17))
        r = [float(model.schedule.at(t).r) for t in (model.schedule.t_min, 0.3, 0.3, 1.0)]
        assert [row["sigma"] for row in outcome.rows] == pytest.approx(r)
        assert [row["time"] for row in outcome.rows] == [None, 1.0, 0.5, 0.0]
        # One level twice, but two samples; pure noise is far from data.
        assert outcome.rows[1]["log_p"] != pytest.approx(outcome.rows[2]["log_p"], abs=0.1)
        assert "names of stages" in outcome.rows[0]["deviations"]

    @pytest.mark.parametrize("levels", [[0.5], [0.5, 1.5], [-0.1, 0.5]])
    def test_levels_that_do_not_fit_are_refused(self, levels: list[float]) -> None:
        with pytest.raises(ValueError, match="levels belong to"):
            TimeSweep([1.0, 0.0], protocol="published", levels=levels)
        with pytest.raises(ValueError, match="levels belong to"):
            TimeSweep([1.0, 0.0], levels=[0.5, 0.1])

    def test_reconstructions_are_seen_by_the_likelihood_only(self) -> None:
        model = ToyModel()
        batch, coarse = make_batch(model), exact_estimator(9)
        plain, own = (
            TimeSweep([0.5], protocol="published", reconstruct=flag).measure(model, batch, coarse)
            for flag in (False, True)
        )
        flow, condition = model.flow(), model.condition(batch.prompt)
        x = reconstruct(flow, batch.image.double(), condition, solver=coarse.solver)
        expected = log_likelihood(flow, x, condition, solver=coarse.solver, divergence=coarse.divergence)
        assert [outcome.rows[0]["log_p"] for outcome in own] == pytest.approx(expected.log_p.tolist(), abs=1e-9)
        for a, b in zip(plain, own, strict=True):
            assert a.picture is not None and b.picture is not None and torch.equal(a.picture, b.picture)
            assert a.rows[1]["log_p"] != pytest.approx(b.rows[1]["log_p"], abs=1e-4)
            assert "by likelihood only" in b.rows[0]["deviations"]

    def test_a_sample_without_result_fails_alone(self) -> None:
        model = ToyModel(broken=["toy-2"])
        outcomes = TimeSweep([0.5], protocol="published").measure(model, make_batch(model), exact_estimator(17))
        assert [outcome.error is None for outcome in outcomes] == [True, True, False, True, True, True]

    def test_the_table_says_what_was_done(self, tmp_path: Path) -> None:
        model = CoarseToyModel()
        study = TimeSweep([1.0, 0.0], protocol="published", levels=[0.4, 0.0])
        frame = frame_of(study.measure(model, coarse_batch(model), exact_estimator(17)), tmp_path, "time_sweep")
        frame = frame.assign(kind="time_sweep")
        tables = {table.name: table for table in make_tables({"time_sweep": frame})}
        table = tables["time_sweep"]
        assert list(table.shown.index) == ["σ", "BPD"] == list(table.legend)
        [note] = [note for note in table.notes if note.startswith("Published protocol")]
        assert all(phrase in note for phrase in study.deviations) and len(study.deviations) == 5
        data = frame[frame["stage"] == "data"]
        assert table.raw["bpd"][0] == pytest.approx(data["bpd"].mean())
        # Bits per dimension of the data stay those of the density.
        bits = tables["bits_per_dim"].raw.iloc[0]
        assert (bits["bpd"], bits["dims"]) == (pytest.approx(4 * data["bpd"].mean()), 4)
        # The comparison is in bits per latent dimension, of which the real model has one for 48 pixel values.
        (compared,) = compare({"time_sweep": frame.assign(space="VAE latents")}, 4)
        raw = compared.raw.set_index(["measure", "column"])
        assert raw.loc[("BPD", "Data"), "run"] == pytest.approx(48 * data["bpd"].mean())
        assert raw.loc[("BPD", "Data"), "published"] == pytest.approx(48 * -0.17)


PUBLISHED = ["sdxl_pacs_published.yaml", "sdxl_clevr_published.yaml", "sdxl_pacs_sweep_published.yaml"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL and a tiny CLIP that know the published prompts, and both data sets with one image a cell."""
    root = tmp_path_factory.mktemp("folders")
    with pytest.MonkeyPatch.context() as patch:
        prompts = [f"a picture of a {colour}{shape}" for colour in COLOURS for shape in SHAPES]
        patch.setattr(tiny_models, "CAPTIONS", [*tiny_models.CAPTIONS, *prompts])
        make_tiny_sdxl(root / "sdxl")
        make_tiny_clip(root / "clip")
    generator = np.random.default_rng(0)
    names = [f"pacs/{d}/{c}/pic_001.jpg" for d in ("art_painting", "cartoon", "photo", "sketch") for c in OBJECTS]
    names += [f"clevr/CLEVR_new_large_{colour}_metal_{shape}000001.png" for colour in COLOURS for shape in SHAPES]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / name)
    return root


def run(config: str, folders: Path, data: str, folder: Path, *more: str) -> Path:
    """A published config as it is, but for what stands in for weights and data, and a random network's tolerance."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    settings["model"]["diffusion"]["init_args"] |= {"path": str(folders / "sdxl"), "variant": None, "dtype": "float32"}
    settings["model"]["solver"]["init_args"] |= {"rtol": 1.0, "atol": 1.0}
    for study in settings["model"]["studies"].values():
        study["init_args"]["clip"] = str(folders / "clip")
        if "features" in study["init_args"]:
            study["init_args"]["features"]["init_args"]["model"] = str(folders / "clip")
        if "sizes" in study["init_args"]:
            study["init_args"]["sizes"] = [size // 64 for size in study["init_args"]["sizes"]]
    settings["data"]["init_args"] |= {"root": str(folders / data), "size": 16, "batch_size": 4}
    settings["trainer"] |= {"accelerator": "cpu", "devices": 1}
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    assert evaluate.cli_main(["--config", str(path), "--runs", str(folder / "runs"), *more]) == 0
    (made,) = (folder / "runs").iterdir()
    return made


def test_pacs_runs_whole_as_published(folders: Path, tmp_path: Path) -> None:
    folder = run(PUBLISHED[0], folders, "pacs", tmp_path, "--data.limit", "2")
    records = read(folder)
    assert records["failures"].empty
    sweep, accuracy = records["time_sweep"], records["prompt_accuracy"]
    for frame in (sweep, accuracy):
        assert set(frame["protocol"]) == {"published"} and set(frame["dims"]) == {4 * 8 * 8}
        assert (frame["r_min"].iloc[0], frame["r_max"].iloc[0]) == pytest.approx((0.0413, 13.12), rel=1e-3)
        assert frame["solver"].iloc[0] == "dopri5 in r (rtol=1, atol=1)"
        assert "per trajectory" in frame["probes"].iloc[0]
    one = sweep[sweep["sample_id"] == sweep["sample_id"].iloc[0]]
    assert one["sigma"].tolist() == pytest.approx([0.0413, 1.624, 0.698, 0.0413, 0.0413, 0.0413], rel=2e-3)
    assert one["bpd"].tolist() == pytest.approx((-one["log_p"] / np.log(2) / (3 * 16 * 16)).tolist())
    assert sweep["clip"].between(0, 100).all() and set(sweep["density"]) == {"guided flow at w=7"}
    averages = (folder / "tables" / "prompt_accuracy_class_averages.md").read_text()
    assert "Published protocol" in averages and "2 images" in averages and "loop variable" in averages
    assert not accuracy["decided"].any()
    text = (folder / "tables" / "time_sweep.md").read_text()
    assert "Published protocol" in text and "overflowed" in text and "FID" in text


def test_the_sweep_runs_whole_as_published(folders: Path, tmp_path: Path) -> None:
    study = "--model.studies.time_sweep"
    few = ["--data.limit", "1", f"{study}.guidance", "3", f"{study}.sizes", "[8]"]
    folder = run(PUBLISHED[2], folders, "pacs", tmp_path, *few)
    records = read(folder)
    sweep = records["time_sweep"]
    assert records["failures"].empty and len(sweep) == 2 * 6 and set(sweep["size"]) == {8}
    assert sweep["bpd"].tolist() == pytest.approx((-sweep["log_p"] / np.log(2) / (3 * 8 * 8)).tolist())
    # CLIP sees what was to be reconstructed, not the reconstruction.
    clip = sweep.groupby("reconstructed")["clip"].apply(list)
    assert clip[False] == clip[True]


def test_clevr_runs_whole_as_published(folders: Path, tmp_path: Path) -> None:
    reconstruct = ["--model.studies.prompt_accuracy.reconstruct", "true"]
    folder = run(PUBLISHED[1], folders, "clevr", tmp_path, "--data.limit", "1", *reconstruct)
    records = read(folder)
    assert records["failures"].empty
    accuracy = records["prompt_accuracy"]
    assert set(accuracy["density"]) == {"p(x|y)"}
    assert accuracy["deviations"].str.contains("its own reconstruction").all()
    for row in accuracy.itertuples():
        scores, clip = json.loads(row.scores), json.loads(row.clip_scores)
        assert len(scores) == len(set(scores.values())) == {"colour": 8, "shape": 3}[row.attribute]
        assert row.clip_predicted == max(clip, key=clip.__getitem__)


@pytest.mark.parametrize("config", PUBLISHED)
def test_published_configs_say_what_is_unknown(config: str) -> None:
    text = (CONFIGS / config).read_text()
    assert "UNKNOWN" in text and "Not reproduced" in text
    published = yaml.safe_load(text)
    repaired = yaml.safe_load((CONFIGS / config.replace("_published", "")).read_text())
    assert list(published["model"]["studies"]) == list(repaired["model"]["studies"])
    for study in published["model"]["studies"].values():
        assert study["init_args"]["protocol"] == "published"
