"""Every rule of the caveats against records whose flaws are known."""

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from fake_records import accuracy_units, sweep_units

from dmlik_pl.models.unfit import DISTILLED
from dmlik_pl.records.frames import CLUSTER
from dmlik_pl.records.protocol import protocol_columns
from dmlik_pl.records.schema import Schema
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.likelihoods import every_likelihood, of_data
from dmlik_pl.results.page.caveats import Caveat, caveat_counts, caveat_line, find_caveats

MEANS = ("stage", "time", "guidance", "size", "reconstructed", "alignment", "alternative", "mean")
DIMS = 100
UNIT = DIMS * math.log(2)


@pytest.fixture(autouse=True)
def a_kind(declared: Callable[..., None]) -> None:
    """Records of `study` are of a kind whose means differ by many columns; of its stages one is only heard."""

    def scored(frame: pd.DataFrame) -> pd.DataFrame:
        return every_likelihood(frame[frame["stage"] != "vocoded"] if "stage" in frame else frame)

    declared(Kind("study", Schema(means=MEANS), data=of_data, likelihoods=scored))


def likelihoods(n: int = 50, grid: float = 0.0, probe: float = 0.02, **columns: object) -> pd.DataFrame:
    """N samples of 1 - 0.1 and 1 + 0.1 bits per dimension in turn, their errors in the same unit."""
    bpd = 1 + 0.1 * (-1.0) ** np.arange(n)
    frame = pd.DataFrame(
        {"sample_id": [f"s{i:03d}" for i in range(n)], "log_p": -bpd * UNIT, "dims": DIMS, "kind": "study"}
    )
    return frame.assign(discretisation=grid * UNIT, standard_error=probe * UNIT, **columns)


def found(frame: pd.DataFrame, topic: str = "", failures: pd.DataFrame | None = None) -> list[Caveat]:
    records = {"study": frame} | ({} if failures is None else {"failures": failures})
    return [caveat for caveat in find_caveats(records) if topic in ("", caveat.topic)]


def only(frame: pd.DataFrame, topic: str) -> Caveat:
    [caveat] = found(frame, topic)
    return caveat


def test_nothing_to_say() -> None:
    assert found(likelihoods()) == []
    assert find_caveats({}) == []


class TestGridError:
    def test_above_the_probes(self) -> None:
        # The standard error of the mean is 0.1 sqrt(50 / 49) / sqrt(50) = 0.0143.
        caveat = only(likelihoods(grid=0.01, probe=0.005), "grid error")
        assert caveat.severity == "caution"
        assert "in 50 of 50 likelihoods; the largest is 0.01 bits" in caveat.text
        assert "It exceeds the error by samples and probes" not in caveat.text

    def test_above_the_error_of_the_mean(self) -> None:
        caveat = only(likelihoods(grid=-0.05, probe=0.02), "grid error")
        assert caveat.severity == "serious"
        assert "in 1 of 1 means, most in 0.05 against 0.014 bits per dimension" in caveat.text

    def test_the_worst_cell_is_named(self) -> None:
        frame = pd.concat([likelihoods(stage="sample", time=time, grid=0.1 * time) for time in (0.0, 0.25, 1.0)])
        caveat = only(frame, "grid error")
        assert "in 100 of 150 likelihoods; the largest is 0.1" in caveat.text
        assert "in 2 of 3 means, most in time 1: 0.1 against 0.014" in caveat.text
        frame = pd.concat([likelihoods(size=32, reconstructed=again, grid=0.1 * again) for again in (False, True)])
        assert "most in reconstructed: 0.1 against" in only(frame, "grid error").text

    @pytest.mark.parametrize(("shift", "severity"), [(0.005, None), (0.012, "caution"), (0.05, "serious")])
    def test_one_density_taken_in_two_ways(self, shift: float, severity: str | None) -> None:
        # The standard error of the mean is 0.0143 again; that of the shifts is 0.
        frame = likelihoods(stage="sample", time=0.0, sigma=0.03, r_min=0.03, guidance=3.0)
        frame = frame.assign(bpd_marginal=-frame["log_p"] / UNIT + shift)
        noisier = frame.assign(time=1.0, sigma=14.0, bpd_marginal=9.0)  # there the two are different densities
        caveats = found(pd.concat([frame, noisier]), "grid error")
        assert [caveat.severity for caveat in caveats] == ([] if severity is None else [severity])
        if severity:
            assert f"the second: {-shift:+.2g} against 0 estimated" in caveats[0].text

    @pytest.mark.parametrize(("scatter", "said"), [(0.016, True), (0.017, False)])
    def test_two_ways_may_differ_within_their_scatter(self, scatter: float, said: bool) -> None:
        """Four shifts of 0.03 +- scatter: an interval of 3.182 standard errors, which are scatter / sqrt(3)."""
        frame = likelihoods(4, stage="sample", time=0.0, sigma=0.03, r_min=0.03)
        shift = -0.03 + scatter * (-1.0) ** np.arange(4)
        frame = frame.assign(bpd_marginal=-frame["log_p"] / UNIT - shift)
        assert bool(found(frame, "grid error")) == said == (3.182 * scatter / math.sqrt(3) < 0.03)

    def test_errors_do_not_cancel_in_a_mean_since_their_sign_is_not_known(self) -> None:
        frame = likelihoods(probe=0.02)
        frame["discretisation"] = 0.05 * UNIT * (-1.0) ** np.arange(50)
        assert only(frame, "grid error").severity == "serious"

    def test_clusters_are_what_counts(self) -> None:
        frame = likelihoods(grid=0.02)  # above the error of the mean over 50 samples, 0.0143, below that over five
        alike = frame.assign(**{CLUSTER: [f"speaker {k % 5}" for k in range(50)]}).sort_values("log_p")
        alike[CLUSTER] = np.repeat(list("abcde"), 10)
        assert only(frame, "grid error").severity == "serious" and not found(alike, "grid error")
        few = only(alike, "few clusters")
        assert few.text == "5 clusters of samples: a standard error over them is itself uncertain by about 35 %."
        one = only(alike.assign(**{CLUSTER: "a"}), "few clusters")
        assert one.text == "One cluster of 50 samples: no mean has an error over samples."

    def test_exact_traces_are_measured_by_the_mean_only(self) -> None:
        assert found(likelihoods(grid=0.01, probe=0.0)) == []
        assert only(likelihoods(grid=0.02, probe=0.0), "grid error").severity == "serious"

    def test_few_samples_are_not_surer_than_their_probes(self) -> None:
        alike = likelihoods(2, grid=0.1, probe=0.5).assign(log_p=-UNIT)
        assert found(alike, "grid error") == []

    def test_solver_without_an_estimate(self) -> None:
        assert "no estimate" in only(likelihoods(grid=math.nan), "grid error").text

    def test_decisions_within_it(self) -> None:
        margins = {"margin": [3.0, -0.4, 0.4, 0.4], "decided": [True, True, True, False], "discretisation": 0.5}
        frame = pd.DataFrame({"sample_id": list("abcd"), **margins})
        assert only(frame, "grid error").text.startswith("2 of 3 decisions")


class TestUndecided:
    def test_shares(self) -> None:
        rows = {"attribute": ["colour"] * 4 + ["shape"] * 4, "decided": [True, False, True, True] + [True] * 4}
        frame = pd.DataFrame({"sample_id": list("abcdabcd"), **rows, "elbo_decided": [None] * 4 + [True, False] * 2})
        caveat = only(frame, "undecided")
        assert caveat.severity == "caution"
        assert "colour 1 of 4 (25 %) by likelihood; shape 2 of 4 (50 %) by ELBO." in caveat.text
        frame["decided"] = False
        assert only(frame, "undecided").severity == "serious"

    def test_gains_of_the_text(self) -> None:
        rows = {"alignment": ["search"] * 2, "alternative": ["mean"] * 2, "decided": [True, False]}
        caveat = only(pd.DataFrame({"sample_id": ["a", "b"], **rows}), "undecided")
        assert "search, mean 1 of 2 (50 %) by likelihood" in caveat.text

    def test_lists_whose_likeliest_is_not_ahead(self) -> None:
        rows = {"sample_id": list("aabbc"), "behind": [0, 1.9, 0, 2.0, 0], "behind_standard_error": [0, 1, 0, 1, 0]}
        caveat = only(pd.DataFrame(rows), "undecided")
        assert (caveat.text.split(" lists")[0], caveat.severity) == ("In 1 of 3", "caution")

    def test_screened(self) -> None:
        frame = pd.DataFrame({"sample_id": list("abc"), "screened_checked": [True, False, False], "screened_kept": 2})
        assert "2 of 3 decisions are among the 2 to 2 candidates" in only(frame, "screening").text
        assert found(frame.assign(screened_checked=True), "screening") == []


class TestMissing:
    def test_failures_with_reasons_and_names(self) -> None:
        names = [f"f{i}" for i in range(7)]
        failures = pd.DataFrame({"study": "study/guidance=3", "sample_id": names, "error": ["NaN"] * 6 + ["no file"]})
        [caveat] = found(likelihoods(), "failures", failures)
        assert caveat.severity == "serious" and caveat.study == "study"
        assert "7 samples failed" in caveat.text
        assert "NaN (6: f0, f1, f2, f3, f4, and 1 more); no file (1: f6)" in caveat.text

    def test_a_study_that_failed_on_everything(self) -> None:
        failures = pd.DataFrame({"study": ["gone"], "sample_id": ["a"], "error": ["no memory"]})
        assert [caveat.study for caveat in find_caveats({"failures": failures})] == ["gone"]

    def test_interrupted(self) -> None:
        caveats = find_caveats({"whole": likelihoods(50), "part": likelihoods(40)})
        assert [(caveat.study, caveat.topic, caveat.severity) for caveat in caveats] == [
            ("part", "unfinished", "serious")
        ]
        assert caveats[0].text.startswith("10 of the run's 50 samples are missing")

    def test_cells_of_unequal_size(self) -> None:
        frame = pd.concat([likelihoods(50, guidance=0.0), likelihoods(40, guidance=1.0)])
        assert "40 to 50 samples" in only(frame, "unfinished").text

    def test_not_finite(self) -> None:
        frame = likelihoods().astype({"log_p": float})
        frame.loc[[1, 2], "log_p"] = [math.nan, math.inf]
        caveat = only(frame, "not finite")
        assert caveat.text.startswith("2 of 50 likelihoods") and caveat.severity == "serious"

    def test_what_is_only_heard_has_no_likelihood(self) -> None:
        heard = likelihoods(stage="vocoded").assign(log_p=math.nan)
        assert found(pd.concat([likelihoods(stage="data"), heard])) == []

    def test_no_error_over_probes(self) -> None:
        caveat = only(likelihoods(probe=math.nan), "probe error")
        assert caveat.text.startswith("50 of 50 likelihoods have no error over probes")

    def test_undefined_measures(self) -> None:
        frame = likelihoods(log_f0_rmse=0.1)
        frame.loc[:2, "log_f0_rmse"] = math.nan
        assert "50 waves, and left out: F0 error 3." in only(frame, "undefined").text

    def test_what_could_not_be_measured_beside_the_likelihood(self) -> None:
        frame = likelihoods(40, log_f0_rmse=0.1)
        reasons = (
            {"CLIP score": "90 tokens"},
            {"CLIP score": "no text"},
            {"CLIP score": "90 tokens", "F0 error": "short"},
        )
        frame["missing"] = pd.Series([json.dumps(each) for each in reasons])
        frame.loc[[2, 5], "log_f0_rmse"] = math.nan
        texts = {caveat.text: caveat.severity for caveat in found(frame, "missing")}
        assert texts == {
            "CLIP score missing for 3 of 40 samples, whose likelihoods stay: 90 tokens (2); no text (1).": "caution",
            "F0 error missing for 1 of 40 samples, whose likelihoods stay: short (1).": "caution",
        }
        assert "left out: F0 error 1." in only(frame, "undefined").text, "what is missing is not undefined"
        everywhere = likelihoods(40).assign(missing=json.dumps({"WER": "deaf"}))
        assert only(everywhere, "missing").severity == "serious"

    def test_of_all_samples_that_the_run_is_of(self) -> None:
        every = pd.DataFrame({"sample_id": [f"s{i:03d}" for i in range(60)]})
        frame = pd.concat([likelihoods(50, guidance=0.0, part="w0"), likelihoods(40, guidance=1.0, part="w1")])
        failures = pd.DataFrame({"study": ["study/guidance=1"], "sample_id": ["s045"], "error": ["NaN"]})
        records = {"study": frame, "samples": every, "failures": failures}
        [caveat] = [caveat for caveat in find_caveats(records) if caveat.topic == "unfinished"]
        assert caveat.text == (
            "19 of the run's 60 samples are missing: the run was not finished. "
            "Means are of 40 to 50 samples, not all of the same ones; guidance 1: 40."
        )
        assert caveat.severity == "serious"

    def test_rows_left_out(self) -> None:
        rows = {"sample_id": list("aabb"), "excluded": ["", "same as row 1", "same as row 2", "empty"]}
        assert (
            "3 of 4 rows of the lists are left out: same as row (2); empty (1)"
            in only(pd.DataFrame(rows), "left out").text
        )


class TestMeaning:
    def test_a_density_above_that_of_the_noise(self) -> None:
        # log N(0; 0, 0.04131^2) = 2.2676 nats per dimension
        frame = pd.DataFrame({"sample_id": ["a", "b"], "log_p": [2.26 * 50, 2.27 * 50], "dims": 50, "r_min": 0.04131})
        caveat = only(frame, "too dense")
        assert caveat.text.startswith("1 of 2 likelihoods") and caveat.severity == "serious"

    def test_guided_flows(self) -> None:
        frame = pd.concat([likelihoods(guidance=weight) for weight in (1.0, 7.0, 3.0)])
        assert "At w = 3, 7 the density" in only(frame, "guidance").text
        assert found(likelihoods(guidance=1.0)) == []

    def test_what_the_density_is_of(self) -> None:
        caveat = only(likelihoods(density="p(x|y)", space="VAE latents times 0.13"), "density")
        assert "p(x|y), densities of VAE latents times 0.13 with 100 dimensions" in caveat.text
        assert caveat.severity == "note"

    def test_models_distilled_to_few_steps(self) -> None:
        spaces = ["VAE latents times 0.13"] * 10 + [f"VAE latents times 0.13{DISTILLED}"] * 40
        caveat = only(likelihoods(50, density="p(x|y)", space=spaces), "distilled")
        assert caveat.severity == "caution"
        assert caveat.text.startswith(
            "40 of 50 rows are of a model distilled to sample in few steps. Its field was not"
        )
        assert found(likelihoods(50, density="p(x|y)", space=spaces[0]), "distilled") == []

    def test_versions_of_packages_that_differ(self) -> None:
        texts = ["diffusers 0.41.0, torch 2.12.1"] * 10 + ["diffusers 0.41.0, torch 2.13.0"] * 39 + [None]
        caveat = only(likelihoods(50).assign(packages=texts), "packages")
        assert caveat.severity == "caution"
        assert caveat.text == (
            "Measured with different versions of packages (samples): diffusers 0.41.0 (49) / not recorded (1); "
            "torch 2.12.1 (10) / 2.13.0 (39) / not recorded (1)."
        )
        assert found(likelihoods(50).assign(packages=texts[0]), "packages") == []

    def test_conversions_when_read(self) -> None:
        texts = ["16 bits to 8"] * 3 + [None] * 46 + ["alpha | on white"]
        caveat = only(likelihoods(50).assign(converted=texts), "converted")
        assert (caveat.severity, caveat.text) == (
            "note",
            "Converted when read, of 50 samples: 16 bits to 8 (3); alpha | on white (1).",
        )
        assert found(likelihoods(50).assign(converted=""), "converted") == []

    @pytest.mark.parametrize(("errors", "severity"), [(3, []), (4, ["serious"])])
    def test_a_recogniser_that_does_not_understand_recordings(self, errors: int, severity: list[str]) -> None:
        heard = {"word_errors": [errors, 10], "words": 10, "recogniser": "WordLoop", "stage": ["data", "sample"]}
        frame = pd.DataFrame({"sample_id": ["a", "a"], **heard})
        caveats = found(frame, "recogniser")
        assert [caveat.severity for caveat in caveats] == severity
        assert all(caveat.text.startswith("WordLoop makes 0.40 errors per word") for caveat in caveats)

    def test_a_recogniser_s_own_choice_of_a_list(self) -> None:
        rows = {
            "sample_id": list("aabb"),
            "errors": [0, 4, 3, 0],
            "words": 5,
            "score_acoustic": [-2.0, -1.0, -1.0, -2.0],
        }
        frame = pd.DataFrame(rows).assign(excluded="")
        assert "makes 0.70 errors per word on the recordings" in only(frame, "recogniser").text
        assert found(frame.assign(score_acoustic=[-1.0, -2.0, -2.0, -1.0]), "recogniser") == []

    def test_published_protocol(self) -> None:
        frame = likelihoods(**protocol_columns("published", ["one probe", "no grid"]))
        assert only(frame, "protocol").text == "Published protocol: one probe; no grid."
        assert found(likelihoods(**protocol_columns("repaired", []))) == []

    @pytest.mark.parametrize(("features", "severity"), [(50, "serious"), (6, "caution"), (5, None)])
    def test_frechet_distance_of_few_images(self, features: int, severity: str | None) -> None:
        frame = likelihoods(50, feature=[np.zeros(features)] * 50)
        assert [caveat.severity for caveat in found(frame, "FID")] == ([severity] if severity else [])

    def test_few_samples(self) -> None:
        assert "about 41 %" in only(likelihoods(4), "few samples").text  # 1 / sqrt(6)
        assert only(likelihoods(1), "few samples").text.startswith("One sample")


def test_known_records_have_just_these() -> None:
    def frame(units: dict[str, list[dict[str, object]]]) -> pd.DataFrame:
        return pd.DataFrame([{"sample_id": name} | row for name, rows in units.items() for row in rows])

    records = {"time_sweep": frame(sweep_units(64)), "prompt_accuracy": frame(accuracy_units(64))}
    caveats = find_caveats(records)
    assert {caveat.topic for caveat in caveats if caveat.study == "time_sweep"} == {"FID", "density"}
    assert {"undecided", "density"} <= {caveat.topic for caveat in caveats if caveat.study == "prompt_accuracy"}
    undecided = ~records["prompt_accuracy"].query("attribute == 'colour'")["decided"].astype(bool)
    [text] = [caveat.text for caveat in caveats if caveat.topic == "undecided"]
    assert f"colour {undecided.sum()} of 64" in text


def test_one_line() -> None:
    caveats = [
        Caveat("sweep", "FID", "", "serious"),
        Caveat("sweep", "grid error", "", "caution"),
        Caveat("prompts", "undecided", "", "caution"),
        Caveat("prompts", "density", "", "note"),
    ]
    assert caveat_counts(caveats) == "1 serious, 2 cautions, 1 note"
    assert (
        caveat_line(caveats) == "Caveats: 1 serious, 2 cautions, 1 note (sweep: FID, grid error; prompts: undecided)."
    )
    assert caveat_line([]) == "Caveats: none."


def test_an_error_that_was_asked_for_and_not_reached() -> None:
    frame = likelihoods(40).assign(shortfall=None)
    assert found(frame, "target") == []
    frame.loc[:2, "shortfall"] = "error 0.02 bits/dim instead of 0.01 after 100 evaluations (max_nfe=100)"
    caveat = only(frame, "target")
    assert caveat.severity == "caution" and caveat.text.startswith("3 of 40 rows have not reached the error")
    assert "0.02 bits/dim instead of 0.01" in caveat.text


class TestIllConditioned:
    def test_rounding_beyond_the_stated_error(self) -> None:
        frame = likelihoods(grid=0.003, probe=0.004).assign(rounding=np.nan)
        frame.loc[:9, "rounding"] = [0.0049 * UNIT] * 7 + [0.0051 * UNIT] * 2 + [0.3 * UNIT]
        caveat = only(frame, "ill-conditioned")
        assert caveat.severity == "serious"
        assert "moves 3 of the 10 likelihoods" in caveat.text and "by up to 0.3 bits" in caveat.text
        assert found(frame.assign(rounding=0.0049 * UNIT), "ill-conditioned") == []
