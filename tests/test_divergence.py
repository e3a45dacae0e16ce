"""Traces: exact, estimated, coloured; by VJP, JVP and finite difference."""

import math
from weakref import WeakSet

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from dmlik_pl.data.digits import Digits
from dmlik_pl.flow import NFE, VE, DiscreteVP, Exact, Hutchinson, LinearVP, Multistep, draw, log_likelihood
from dmlik_pl.flow.colouring import colour_index, lattice, learned, learned_from
from dmlik_pl.flow.traces import PARTS, Traces
from dmlik_pl.models import PixelDiffusion, StableDiffusionXL
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.studies import Estimator, TimeSweep


def curved(weight):
    """A field with a full, asymmetric Jacobian that depends on the state."""
    return lambda u: torch.tanh(u @ weight) * (1 + u**2).sqrt()


def jacobian_trace(field, u):
    return torch.stack([torch.autograd.functional.jacobian(lambda x: field(x[None])[0], row).trace() for row in u])


@pytest.fixture
def weight(generator):
    return torch.randn(12, 12, dtype=torch.float64, generator=generator)


def estimate(divergence, field, u, seed=0, ids=None):
    probes = draw(
        divergence.distribution, u, range(len(u)) if ids is None else ids, seed=seed, probes=divergence.probes
    )
    value, traces = divergence(field, u, probes, NFE())
    return value, traces.values


@pytest.mark.parametrize("chunk", [5, 64])
def test_exact_is_the_trace_of_the_jacobian(weight, generator, chunk):
    u = torch.randn(4, 12, dtype=torch.float64, generator=generator)
    nfe = NFE()
    value, trace = Exact(chunk=chunk)(curved(weight), u, u[:0], nfe)
    torch.testing.assert_close(value, curved(weight)(u))
    torch.testing.assert_close(trace.values[0], jacobian_trace(curved(weight), u), rtol=1e-12, atol=1e-12)
    assert (nfe.forward, nfe.vjp) == (1, 12)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased(weight, generator, distribution):
    u = torch.randn(2, 12, dtype=torch.float64, generator=generator)
    _, traces = estimate(Hutchinson(4000, distribution), curved(weight), u)
    error = traces.mean(0) - jacobian_trace(curved(weight), u)
    assert bool((error.abs() < 3 * traces.std(0) / math.sqrt(4000)).all())


def test_variances_are_those_of_theory(generator):
    """2 |S|^2 for Gaussian probes, 2 (|S|^2 - |diag S|^2) for Rademacher, S the symmetric part of the Jacobian."""
    matrix = torch.randn(12, 12, dtype=torch.float64, generator=generator)
    symmetric = 0.5 * (matrix + matrix.T)
    full, diagonal = float((symmetric**2).sum()), float((symmetric.diagonal() ** 2).sum())
    u = torch.zeros(1, 12, dtype=torch.float64)
    for distribution, expected in (("gaussian", 2 * full), ("rademacher", 2 * (full - diagonal))):
        _, traces = estimate(Hutchinson(8000, distribution), lambda x: x @ matrix, u)
        assert float(traces.var()) == pytest.approx(expected, rel=0.06)


def test_a_diagonal_jacobian_has_no_variance(generator):
    scale = torch.randn(12, dtype=torch.float64, generator=generator)
    _, traces = estimate(Hutchinson(50), lambda x: scale * x, torch.zeros(1, 12, dtype=torch.float64))
    torch.testing.assert_close(traces, scale.sum().expand(50, 1), rtol=1e-12, atol=1e-12)


def test_the_analytic_part_is_never_estimated(generator):
    """Data of unit variance leave the network's part nothing, so even a Gaussian probe makes no error."""
    standard = GaussianMixture(torch.zeros(1, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)[None])
    x = torch.randn(6, 8, dtype=torch.float64, generator=generator)
    for schedule in (LinearVP(), VE(), DiscreteVP.scaled_linear()):
        result = log_likelihood(
            standard.flow(schedule, shift=torch.zeros_like(x)),
            x,
            standard.condition(torch.zeros_like(x)),
            divergence=Hutchinson(2, "gaussian"),
        )
        torch.testing.assert_close(result.log_p, standard.log_prob(x, r=result.r), rtol=1e-10, atol=1e-10)
        assert float(result.standard_error.max()) < 1e-10


def attention(u):
    """A float64 network with convolutions' neighbour: attention over the pixels of [B, 2, 4, 4]."""
    tokens = u.flatten(2).transpose(1, 2)
    mixed = scaled_dot_product_attention(tokens, torch.tanh(tokens), tokens * 1.3)
    return mixed.transpose(1, 2).reshape(u.shape) + torch.sin(u)


@pytest.mark.parametrize("probes", [1, 4])
def test_vjp_jvp_and_finite_difference_agree(generator, probes):
    u = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=generator)
    counts, traces = {}, {}
    for method in ("vjp", "jvp", "fd"):
        counts[method] = nfe = NFE()
        vectors = draw("rademacher", u, range(3), seed=3, probes=probes)
        value, found = Hutchinson(probes, method=method)(attention, u, vectors, nfe)
        traces[method] = found.values
        torch.testing.assert_close(value, attention(u), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(traces["jvp"], traces["vjp"], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(traces["fd"], traces["vjp"], rtol=1e-6, atol=1e-6)
    assert (counts["vjp"].forward, counts["vjp"].vjp) == (1, probes)
    assert (counts["jvp"].forward, counts["jvp"].jvp, counts["jvp"].vjp) == (1, probes, 0)
    assert (counts["fd"].forward, counts["fd"].vjp) == (1 + 2 * probes, 0)


@pytest.mark.parametrize("prediction", ["epsilon", "velocity"])
@pytest.mark.parametrize("probes", [1, 3])
def test_all_three_give_one_likelihood(mixture, generator, prediction, probes):
    shift = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    x, condition = mixture.sample(3, generator), mixture.condition(shift)
    flow = mixture.flow(LinearVP(), prediction, guidance=1.5)
    results = [
        log_likelihood(flow, x, condition, solver=Multistep(9), divergence=Hutchinson(probes, method=method))
        for method in ("vjp", "jvp", "fd")
    ]
    torch.testing.assert_close(results[1].log_p, results[0].log_p, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(results[2].log_p, results[0].log_p, rtol=0, atol=1e-4)
    assert [result.nfe.forward for result in results] == [18, 18, 18 * (1 + 2 * probes)]


def local(generator, side=8, reach=1, decay=0.0):
    """A linear field over [B, 1, side, side] that couples pixels up to ``reach`` apart, ever less with distance."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()], 1)
    distance = (place[:, None] - place[None]).abs().amax(-1)
    coupling = (distance <= reach) * torch.exp(-decay * distance)
    matrix = torch.randn(side**2, side**2, dtype=torch.float64, generator=generator) * coupling
    return matrix, lambda u: (u.flatten(1) @ matrix.T).reshape(u.shape)


def test_colours_cancel_neighbours_exactly(generator):
    matrix, field = local(generator)
    u = torch.zeros(5, 1, 8, 8, dtype=torch.float64)
    _, traces = estimate(Hutchinson(16, colours=4), field, u)
    assert traces.shape == (4, 5)
    torch.testing.assert_close(traces, matrix.trace().expand(4, 5), rtol=1e-12, atol=1e-12)
    _, plain = estimate(Hutchinson(16), field, u)
    assert float(plain.std()) > 1


def test_colours_are_unbiased_where_coupling_reaches_further(generator):
    matrix, field = local(generator, reach=7, decay=1.5)
    u = torch.zeros(400, 1, 8, 8, dtype=torch.float64)
    coloured = estimate(Hutchinson(4, colours=4), field, u)[1][0]
    plain = estimate(Hutchinson(4), field, u)[1].mean(0)
    for traces in (coloured, plain):
        assert float((traces.mean() - matrix.trace()).abs()) < 3 * float(traces.std()) / 20
    assert float(coloured.var()) < 0.3 * float(plain.var())


def test_colours_by_jvp_are_the_same(generator):
    u = torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=generator)
    by_vjp, by_jvp = (estimate(Hutchinson(8, method=m, colours=4), attention, u)[1] for m in ("vjp", "jvp"))
    torch.testing.assert_close(by_jvp, by_vjp, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probes": 0}, "positive multiple"),
        ({"probes": 6, "colours": 4}, "try probes=8"),
        ({"probes": 9, "colours": 3}, "power of two"),
        ({"probes": 4, "colours": 0}, "power of two"),
    ],
)
def test_impossible_probes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Hutchinson(**settings)


def test_samples_of_more_than_three_dimensions_are_not_coloured():
    with pytest.raises(ValueError, match=r"one to three dimensions, got \[1, 2, 2, 2\]: use colours=1"):
        estimate(Hutchinson(4, colours=4), torch.sin, torch.zeros(2, 1, 2, 2, 2))
    with pytest.raises(ValueError, match="needs colours: give colours and probes"):
        Hutchinson(4, colouring="digits")


@pytest.mark.parametrize(
    ("colours", "channels", "steps"),
    [(2, 1, (0, 1, 1)), (4, 1, (0, 1, 2)), (8, 1, (0, 1, 3)), (2, 4, (1, 1, 1)), (4, 4, (1, 1, 2)), (8, 4, (2, 1, 3))],
)
def test_lattices_keep_neighbours_apart(colours, channels, steps):
    assert lattice(colours, channels) == steps
    index = colour_index((channels, 8, 8) if channels > 1 else (8, 8), colours)
    assert index.unique().tolist() == list(range(colours))
    assert bool((index[..., 1:, :] != index[..., :-1, :]).all() and (index[..., 1:] != index[..., :-1]).all())
    if channels > 1:
        assert bool((index[1:] != index[:-1]).all())
    assert torch.equal(colour_index((9,), colours), torch.arange(9) % colours)


@pytest.mark.parametrize("shape", [(24,), (8, 12), (4, 4, 6)], ids=["vector", "mel", "image"])
@pytest.mark.parametrize("colours", [2, 8, 32])
def test_what_a_set_leaves_is_the_coupling_within_colours(generator, shape, colours):
    """Means against the exact trace and variances against 2 sum S_ij^2 over pairs of one colour."""
    size = math.prod(shape)
    matrix = torch.randn(size, size, dtype=torch.float64, generator=generator)
    index = colour_index(shape, colours).flatten()
    squared = (0.5 * (matrix + matrix.T)).square().fill_diagonal_(0) * (index[:, None] == index)
    u = torch.zeros(1, *shape, dtype=torch.float64)
    field = lambda x: (x.flatten(1) @ matrix).reshape(x.shape)  # noqa: E731
    _, traces = estimate(Hutchinson(1000 * colours, colours=colours), field, u)
    expected = 2 * float(squared.sum())
    assert traces.shape == (1000, 1)
    assert abs(float(traces.mean() - matrix.trace())) <= 3 * math.sqrt(expected / 1000) + 1e-9
    assert float(traces.var()) == pytest.approx(expected, rel=0.2, abs=1e-9)


class Stubborn(torch.autograd.Function):
    """u^2 / 2, whose derivative has no vectorised form; it counts how often it is asked."""

    asked = 0

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return u**2 / 2

    @staticmethod
    def backward(ctx, gradient):
        Stubborn.asked += 1
        (u,) = ctx.saved_tensors
        gradient.data_ptr()  # what vmap cannot do
        return gradient * u


def test_products_that_cannot_be_taken_together_are_taken_apart_and_asked_once(generator):
    u = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    divergence = Hutchinson(4)
    Stubborn.asked = 0
    for expected in (5, 9):  # the attempt, and four products; then four products
        _, traces = estimate(divergence, Stubborn.apply, u)
        torch.testing.assert_close(traces, u.sum(1).expand(4, 3))
        assert Stubborn.asked == expected
    torch.testing.assert_close(estimate(Exact(), Stubborn.apply, u)[1][0], u.sum(1))
    assert divergence == Hutchinson(4) and hash(divergence) == hash(Hutchinson(4))


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize(
    ("divergence", "graphs"),
    [
        (Hutchinson(), 0),
        (Hutchinson(4), 0),
        (Exact(), 0),
        (Exact(chunk=2), 2),  # of three passes the last alone may free what it is done with
    ],
)
def test_the_last_product_frees_the_graph_as_it_goes(generator, divergence, graphs):
    """Ten layers keep ten tensors; when the gradient reaches the first layer, those of the others are gone."""
    u, alive, left = torch.randn(1, 6, dtype=torch.float64, generator=generator), WeakSet(), []

    def kept(tensor):
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    def field(u):
        first = u * 1.0
        first.register_hook(lambda gradient: left.append(len(alive)))
        with torch.autograd.graph.saved_tensors_hooks(kept, lambda saved: saved.tensor):
            value = first
            for _ in range(10):
                value = value.exp() / 4
        return value

    estimate(divergence, field, u)
    assert [count > 1 for count in left] == [True] * graphs + [False]


def test_a_pass_that_failed_halfway_is_made_anew(generator):
    """What was freed before it failed is there again for the products one by one."""
    u = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    _, traces = estimate(Hutchinson(4), lambda u: Stubborn.apply(u.exp().log()).exp().log(), u)
    torch.testing.assert_close(traces, u.sum(1).expand(4, 3))


def test_learned_colourings_ship_with_their_models_and_beat_one_probe(generator):
    """Of the digits, on the Jacobian of a sample that was not learned from, in the middle of its path."""
    model = PixelDiffusion("digits").eval().requires_grad_(False)
    assert learned_from("digits") == model.fingerprint()
    assert learned_from("shapes-sdxl") == StableDiffusionXL("shapes-sdxl").fingerprint()
    assert learned("shapes-sdxl", 8).shape == (4, 8, 8) and learned("digits", 16).unique().tolist() == list(range(16))
    x, flow = Digits().test_set()[1].image[None], model.flow()
    level, condition = flow.schedule.at_log_snr(torch.tensor(1.0)), model.condition(["1"])
    u = x * math.cos(float(level.angle)) + math.sin(float(level.angle)) * torch.randn(x.shape, generator=generator)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.velocity(v, level, condition), u).reshape(64, 64)
    squared = (0.5 * (jacobian + jacobian.T)).square().fill_diagonal_(0)
    for colours in (4, 8, 16):
        index = learned("digits", colours).flatten()
        assert float(squared.sum() / (squared * (index[:, None] == index)).sum()) > 1.5 * colours
    with pytest.raises(
        ValueError, match=r"are of samples of shape \[1, 8, 8\], these are \[4, 8, 8\]: take colouring=null"
    ):
        colour_index((4, 8, 8), 4, "digits")


def test_what_is_no_colouring_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no learned colouring at 'mine'.*a shipped model: digits, shapes-sdxl"
    ):
        Hutchinson(4, colours=4, colouring="mine")
    with pytest.raises(ValueError, match=r"of 2 colours, 4 colours, .*: colours=64 is none of them"):
        Hutchinson(64, colours=64, colouring="digits")
    (tmp_path / "colouring.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no file of colourings"):
        Hutchinson(4, colours=4, colouring=str(tmp_path))


def test_colours_are_in_the_words_of_a_record():
    known = {
        Hutchinson(8, colours=4): "8 rademacher per node, 4 colours",
        Hutchinson(4, colours=4, colouring="digits"): "4 rademacher per node, 4 learned colours",
        Hutchinson(2): "2 rademacher per node",
    }
    for divergence, words in known.items():
        assert Estimator(divergence=divergence).describe_probes() == words


def test_a_colouring_of_other_weights_is_told(caplog):
    model = PixelDiffusion("digits")
    Evaluation(model, {"sweep": TimeSweep()}, divergence=Hutchinson(4, colours=4, colouring="digits"))
    assert not caplog.records
    next(model.parameters()).data[0] += 1
    Evaluation(model, {"sweep": TimeSweep()}, divergence=Hutchinson(4, colours=4, colouring="digits"))
    assert "'digits' was learned from other weights than the model's" in caplog.text


def test_one_product_tells_the_variance_of_its_probe(generator):
    """Of an asymmetric Jacobian: parts scatter by 2 |J|^2 off the diagonal, twists take off the antisymmetric part."""
    matrix = torch.randn(12, 12, dtype=torch.float64, generator=generator)
    squares = [float((m**2).sum() - (m.diagonal() ** 2).sum()) for m in (matrix, 0.5 * (matrix + matrix.T))]
    u = torch.zeros(4000, 12, dtype=torch.float64)
    probes = draw("rademacher", u, range(4000), seed=0, probes=2)
    _, traces = Hutchinson(2)(lambda x: x @ matrix, u, probes, NFE())
    assert (traces.parts.shape, traces.twists.shape) == ((2, 4000, 12), (1, 4000))
    spread = traces.parts.var(0).sum(-1)
    assert float(spread.mean()) == pytest.approx(2 * squares[0], rel=0.03)
    assert float((spread - traces.twists[0] ** 2 / 2).mean()) == pytest.approx(2 * squares[1], rel=0.05)
    assert float(traces.values.var()) == pytest.approx(2 * squares[1], rel=0.05)
    assert Hutchinson(2, "gaussian")(lambda x: x @ matrix, u, probes, NFE())[1].parts is None


@pytest.mark.parametrize("real", [300, 1000])
def test_many_terms_are_kept_in_few_parts(generator, real):
    """Their squared lengths within the 9 % that 256 parts are good for, and padding changes nothing."""
    terms = torch.randn(1, 200, real, dtype=torch.float64, generator=generator)
    ones = torch.ones(1, 200, real)
    kept = Traces.of_signs(ones, terms, torch.float64)
    assert kept.parts.shape == (1, 200, PARTS)
    ratio = kept.parts.square().sum(-1) / (2 * terms.square().sum(-1))
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02) and float(ratio.std()) < 0.1
    torch.testing.assert_close(kept.values, terms.sum(-1))
    hole = torch.zeros(1, 200, 77)
    split = [torch.cat([whole[..., :100], fill, whole[..., 100:]], -1) for whole, fill in ((ones, hole), (terms, hole))]
    torch.testing.assert_close(Traces.of_signs(*split, torch.float64).parts, kept.parts)
    assert Traces.of_signs(ones, terms, torch.float32).parts.dtype == torch.float32
