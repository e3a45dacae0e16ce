"""The benchmark's yardsticks: its peers, references and probe noise on a problem whose numbers are known."""

import pandas as pd
import pytest
import torch

from benchmarks import alignment, colourings, coverage, errors, jacobians, precision, probes, real_size, solvers, twin
from benchmarks.methods import METHODS, default, dopri5, flow_matching
from benchmarks.problems import digits, mixture
from benchmarks.tables import RESULTS
from dmlik_pl.flow import Exact, log_likelihood


@pytest.fixture(scope="module")
def problem():
    return mixture(count=3, dims=16, components=3)


def test_independent_methods_meet_at_tight_tolerances(problem):
    in_t = dopri5(problem, 1e-8, clock="t").log_p
    others = {
        "sigma": dopri5(problem, 1e-8, clock="sigma").log_p,
        "flow_matching": flow_matching(problem, 1e-8).log_p,
        "multistep": default(problem, 257, fixed_probe=True).log_p,
    }
    for name, log_p in others.items():
        assert (log_p - in_t).abs().max() * problem.bits < 2e-6, name


def test_flow_matching_leaves_torch_as_it_was(problem):
    like, dtype = torch.randn_like, torch.get_default_dtype()
    flow_matching(problem, 1e-2)
    assert torch.randn_like is like
    assert torch.get_default_dtype() is dtype


def test_reference_states_its_own_uncertainty(problem):
    truth = solvers.reference(problem, 1e-8, 193)
    assert 0 < truth.uncertainty < 1e-5


def test_tuned_setting_reaches_the_target_and_holds_it(problem):
    truth = solvers.reference(problem, 1e-8, 193)
    for method in METHODS:
        steps = solvers.find_setting(method, problem, truth, 1e-3, max_nfe=500)
        tuned = [i for i, step in enumerate(steps) if step.tuned]
        assert tuned == [len(steps) - 1 - solvers.CONFIRMATIONS], method.name
        assert max(step.error for step in steps[tuned[0] :]) <= 1e-3
        assert steps[tuned[0] - 1].error > 1e-3
        assert steps[0].forward < steps[-1].forward
        assert all(step.forward == step.vjp for step in steps)


def test_draws_scatter_around_the_exact_trace_as_far_as_they_say(problem):
    exact = log_likelihood(problem.flow, problem.x, problem.condition, divergence=Exact()).log_p
    draws = probes.totals(problem, 33, fresh=True, draws=64)
    error = (draws.mean(0) - exact) / (draws.std(0) / 8)
    assert error.abs().max() < 4
    assert probes.deviation(problem, 33, fresh=True, draws=64) < 0.7 * probes.deviation(
        problem, 33, fresh=False, draws=64
    )
    whole = jacobians.whole(problem, problem.condition, 33)
    assert whole.matrices.shape == (33, 3, 16, 16)
    expected = probes.variance(whole, probes.FRESH, torch.zeros(16))
    assert draws.var(0).tolist() == pytest.approx(expected.tolist(), rel=0.6)
    assert float(draws.var(0).mean()) == pytest.approx(float(expected.mean()), rel=0.3)


def test_probe_orderings(problem):
    frame = probes.with_gains(probes.pd.DataFrame(probes.measure(problem, nodes=25))).set_index("probes")
    gain = frame["gain"]
    assert gain["1 Gaussian, fixed"] < gain["1 Rademacher, fixed"] < gain["1 Rademacher, fresh (default)"] == 1
    for count in (2, 4, 8, 16, 32):
        assert gain[f"{count} Rademacher"] == pytest.approx(count)
    assert gain["8 colours, lattice"] > gain["4 colours, lattice"] > gain["2 colours, lattice"] > 1
    assert gain["16 colours, lattice"] > 1e6  # as many colours as dimensions: exact
    assert (frame["difference, shared probes"] <= frame["difference, own probes"]).all()


def test_learned_colourings_part_what_is_coupled():
    """Pairs (0, 1), (2, 3), ... that act on each other alone, and a chain that needs two colours."""
    pairs = torch.block_diag(*[torch.tensor([[0.0, 1.0], [1.0, 0.0]])] * 6).double()
    chain = torch.diag(torch.ones(11), 1).double() + torch.diag(torch.ones(11), -1).double()
    for couplings in (pairs, chain):
        index = colourings.learn(couplings, 2)
        assert float((couplings * (index[:, None] == index)).sum()) == 0


def test_intervals_cover_and_those_of_a_cycled_pattern_do_not(problem):
    true, wrong = (jacobians.whole(problem, each, 33) for each in (problem.condition, problem.rival))
    for row in coverage.measure(true, wrong, 150):
        assert 0.91 <= row["coverage"] <= 0.995 and 0.9 < row["width"] < 1.6, row
    single = coverage.cycled(true, wrong, 4, 150)[0]
    assert single["of"] == "single" and single["coverage"] < 0.88


def test_the_grids_estimate_is_honest_on_a_shipped_model():
    """Digits read at w = 5, and made at w = 5 along their own path: the whole table is in benchmarks/results."""
    frame = errors.measure(digits(count=4), [5.0], [33], 97)
    for path, rows in frame.groupby("path"):
        assert len(rows) == 4
        assert (rows["error"] < 2 * rows["estimate"]).all(), path
        assert (rows["error"] > 0.1 * rows["estimate"]).sum() >= 3, path
    assert (frame["error"] < 0.06).all() and (frame.loc[frame["path"] == "sample", "error"] < 0.02).all()


def test_the_kept_table_of_errors_is_as_honest_as_the_documentation_says():
    cells = pd.read_csv(RESULTS / "errors.csv")
    assert len(cells) == 2 * 2 * len(errors.WEIGHTS) * len(errors.NODES)
    fits, above, twice = cells[["in [0.1, 1]", "> 1", "> 2"]].mean()
    assert (round(fits, 2), round(above, 2), twice) == (0.77, 0.03, 0)
    assert (cells.loc[(cells["path"] == "sample") & (cells["nodes"] == 33), "largest error"] < 0.02).all()


def test_no_estimate_of_size_alone_has_nine_tenths_of_normal_errors_in_its_range():
    assert errors.ceiling() == pytest.approx(0.798, abs=5e-4)
    draws = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).abs()
    shares = [float(((draws > c / 10) & (draws < c)).double().mean()) for c in (1.5, 2.15, 3.0)]
    assert max(shares) == pytest.approx(errors.ceiling(), abs=4e-3)


def test_errors_are_kept_and_summed_up(problem, tmp_path):
    frame = errors.measure(problem, [1.0], [17, 25], 129, tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 2
    again = errors.measure(problem, [1.0], [17, 25], 129, tmp_path)
    assert (again["error"] == frame["error"]).all()
    rows = errors.summary(frame.assign(error=[0.05, 0.5, 1.5, 3.0] * 3, estimate=1.0), ["problem"]).iloc[0]
    assert (rows["in [0.1, 1]"], rows["> 1"], rows["> 2"]) == (0.25, 0.5, 0.25)
    assert rows["largest error"] == 3.0 and rows["median ratio"] == 1.0
    assert "80% in [0.1, 1] at the most" in errors.notes(frame, 129)[-1]


def test_the_command_writes_its_tables(tmp_path, capsys):
    frame = solvers.main(["--quick", "--output", str(tmp_path)])
    assert "our default" in capsys.readouterr().out
    assert set(frame["method"]) == {method.name for method in METHODS}
    tuned = frame[frame["chosen as"].str.contains("tuned")]
    assert (tuned["error"] <= 1e-3).all() and len(tuned) == len(METHODS)
    ours = tuned[tuned["method"] == METHODS[0].name].iloc[0]
    assert ours["NFE"] <= 65
    assert (frame.loc[frame["method"] == METHODS[1].name, "probe s.d."] > 2 * ours["probe s.d."]).all()
    text = (tmp_path / "solvers.md").read_text()
    assert "differ by" in text and "| multistep (our default)" in text
    assert (tmp_path / "solvers.csv").exists() and (tmp_path / "solver_errors.md").exists()


def test_the_networks_precision_moves_a_likelihood_as_little_as_it_should(tmp_path):
    frame = precision.main(["--quick", "--output", str(tmp_path)]).set_index("network")
    assert frame.loc["float32, one by one", "largest"] < 1e-6
    assert frame.loc["float64", "largest"] < 1e-5
    assert 1e-5 < frame.loc["bfloat16", "largest"] < 0.05
    assert (tmp_path / "precision.md").is_file()


def test_both_alignment_searches_find_the_same_paths(tmp_path):
    frame = alignment.main(["--size", "2", "7", "19", "--repeats", "1", "--output", str(tmp_path)])
    assert (frame["seconds"] >= 0).all() and len(frame) == 2
    value = torch.randint(0, 3, (4, 5, 9)).float()  # many ties
    path = torch.as_tensor(alignment.cell_by_cell(value.numpy()))
    assert torch.equal(path, alignment.maximum_path(value, torch.ones_like(value)))


def test_networks_of_real_size_go_through_their_adapters(tmp_path):
    frame = real_size.main(["--quick", "--output", str(tmp_path)])
    assert frame["problem"].tolist() == ["SDXL, 64 pixels", "SD3-medium, 64 pixels"]
    assert (frame["TFLOP"] > 0).all() and (frame["measured"] == "one node").all()
    assert "One image and a network with random weights" in (tmp_path / "real_size.md").read_text()


def test_a_flow_matching_twin_is_measured_by_nodes(tmp_path):
    frame = twin.main(["--quick", "--nodes", "7", "--output", str(tmp_path)])
    assert frame["solver"].tolist() == ["multistep(7 nodes, order 4, sampler spacing)"]
    assert frame["calls"].tolist() == [7] and 0 < frame["mean"][0] < 10
