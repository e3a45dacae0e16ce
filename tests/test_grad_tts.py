"""Grad-TTS against outputs of the official one."""

import random
from contextlib import contextmanager

import pytest
import torch
from grad_tts_goldens import INDEX, STRIDE, load, network, state_file

from dmlik_pl.models import GradTTS
from dmlik_pl.models.grad_tts.text_encoder import RelativeAttention

NAMES = ("single", "multi")
RTOL = 1e-5  # relative to the largest value of a tensor; the goal is 1e-4


@contextmanager
def watched(parts):
    """The outputs of modules while they run, by name."""
    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.update({name: output})

    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    yield seen
    for hook in hooks:
        hook.remove()


def assert_same(actual, golden, rtol=RTOL):
    """A golden of another size holds every 16th number."""
    actual = actual.detach()
    if actual.numel() != golden.numel():
        actual = actual.flatten()[::STRIDE]
    assert actual.shape == golden.shape
    assert float((actual - golden).abs().max()) <= rtol * float(golden.abs().max())


@pytest.fixture(scope="module", params=NAMES)
def official(request):
    """A network with the golden weights, its goldens and its embedded speakers."""
    model, golden = network(request.param), load(f"grad_tts_{request.param}")
    with torch.no_grad():
        speaker = model.embed_speaker(golden.get("in.spk"))
    return model, golden, speaker


@pytest.mark.parametrize("speakers", [1, 247])
def test_default_tensors_are_the_official_ones(speakers):
    with torch.device("meta"):
        state = GradTTS(n_spks=speakers).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == INDEX["shapes"][str(speakers)]
    assert sum(tensor.numel() for tensor in state.values()) == {1: 14_835_032, 247: 14_888_680}[speakers]


def test_text_encoder_and_its_intermediates(official):
    model, golden, _ = official
    parts = {
        "enc_prenet": model.encoder.prenet,
        "enc_attn0": model.encoder.encoder.attn_layers[0],
        "enc_layer0": model.encoder.encoder.norm_layers_2[0],
        "enc_hidden": model.encoder.encoder,
    }
    with torch.no_grad(), watched(parts) as seen:
        results = model.encoder(golden["in.x"], golden["in.x_lengths"])
    for name, value in {**seen, **dict(zip(("mu_x", "logw", "x_mask"), results, strict=True))}.items():
        assert_same(value, golden[f"out.{name}"])


def test_score_network_and_its_intermediates(official):
    model, golden, speaker = official
    network = model.decoder.estimator
    parts = {
        "est_time_pos_emb": network.time_pos_emb,
        "est_time_mlp": network.mlp,
        "est_down0_resnet1": network.downs[0][0],
        "est_down0_attn": network.downs[0][2],
        "est_mid_block2": network.mid_block2,
        "est_up0": network.ups[0][3],
    }
    inputs = [golden[f"in.dec_{name}"] for name in ("x", "mask", "mu", "t")]
    with torch.no_grad(), watched(parts) as seen:
        seen["est"] = network(*inputs, speaker)
    for name, value in seen.items():
        assert_same(value, golden[f"out.{name}"])


def test_forward_and_reverse_diffusion(official):
    model, golden, speaker = official
    data, noise, t = (golden[f"in.fd_{name}"] for name in ("x0", "z", "t"))
    mask, mu = golden["in.dec_mask"], golden["in.dec_mu"]
    noised, masked_noise = model.decoder.forward_diffusion(data, mask, mu, t, noise=noise)
    assert_same(noised, golden["out.fd_xt"])
    assert_same(masked_noise, golden["out.fd_z_masked"])
    sampled = model.decoder(golden["in.rev_z"], mask, mu, 10, False, speaker)
    assert_same(sampled, golden["out.rev"])


def test_stochastic_sampling_is_the_discretised_reverse_sde(official):
    """One step, written out: no golden has it."""
    model, golden, speaker = official
    mask, mu, z = golden["in.dec_mask"], golden["in.dec_mu"], golden["in.rev_z"]
    torch.manual_seed(3)
    sampled = model.decoder.reverse_diffusion(z, mask, mu, 1, stoc=True, spk=speaker)
    torch.manual_seed(3)
    noise = torch.randn(z.shape)
    x, rate = z * mask, 0.05 + 19.95 * 0.5
    with torch.no_grad():
        score = model.decoder.estimator(x, mask, mu, torch.full((2,), 0.5), speaker)
    expected = x - ((0.5 * (mu - x) - score) * rate + rate**0.5 * noise)
    assert_same(sampled, expected * mask)


@pytest.mark.parametrize(("name", "options"), [("fw", {}), ("fwb", {"temperature": 1.5, "length_scale": 0.91})])
def test_synthesis(official, name, options):
    model, golden, _ = official
    noise = golden[f"out.{name}_noise"]
    spoken = model(golden["in.x"], golden["in.x_lengths"], 10, spk=golden.get("in.spk"), noise=noise, **options)
    for part, value in spoken._asdict().items():
        assert_same(value, golden[f"out.{name}_{part}"])


def test_score_matching_loss_and_its_gradients(official):
    model, golden, speaker = official
    model.zero_grad()
    arguments = golden["in.fd_x0"], golden["in.dec_mask"], golden["in.dec_mu"], golden["in.fd_t"], speaker
    loss, noised = model.decoder.loss_t(*arguments, noise=golden["in.fd_z"])
    assert_same(loss[None], golden["out.loss_t"])
    assert_same(noised, golden["out.loss_t_xt"])
    loss.backward()
    assert_gradients(model, golden, "out.loss_t_grad.")


@pytest.mark.parametrize("name", ["tr", "tr_cut"])
def test_training_losses_and_their_gradients(official, name):
    """On whole utterances, and on segments whose offsets Python's generator draws in the official order."""
    model, golden, _ = official
    model.zero_grad()
    random.seed(INDEX["grad_tts"]["single"]["cut_python_random_seed"])
    losses = model.compute_loss(
        *(golden[f"in.{key}"] for key in ("x", "x_lengths", "tr_y", "tr_y_lengths")),
        spk=golden.get("in.spk"),
        out_size=INDEX["grad_tts"]["single"]["out_size"] if name == "tr_cut" else None,
        time=golden[f"in.{name}_t"],
        noise=golden[f"in.{name}_z"],
    )
    assert_same(torch.stack(losses), golden[f"out.{name}_losses"])
    sum(losses).backward()
    assert_gradients(model, golden, f"out.{name}_grad.")


def assert_gradients(model, golden, prefix):
    names = [key.removeprefix(prefix) for key in golden if key.startswith(prefix)]
    assert len(names) >= 4
    for name in names:
        assert_same(model.get_parameter(name).grad, golden[prefix + name], rtol=2e-5)


def test_noise_is_drawn_in_the_official_order(official):
    """Times before noise in training, noise of the start in synthesis: torch's generator is used for nothing else."""
    model, golden, _ = official
    data = {key: golden[f"in.{key}"] for key in ("x", "x_lengths")}
    inputs = *data.values(), golden["in.tr_y"], golden["in.tr_y_lengths"], golden.get("in.spk")
    torch.manual_seed(0)
    drawn = model.compute_loss(*inputs)
    torch.manual_seed(0)
    time, noise = torch.rand(2), torch.randn(2, 80, 40)
    given = model.compute_loss(*inputs, time=time, noise=noise)
    assert torch.equal(torch.stack(drawn), torch.stack(given))
    torch.manual_seed(0)
    drawn = model(*data.values(), 2, spk=golden.get("in.spk"))
    torch.manual_seed(0)
    noise = torch.randn(drawn.attn.shape[0], 80, drawn.attn.shape[-1])
    given = model(*data.values(), 2, spk=golden.get("in.spk"), noise=noise)
    assert torch.equal(drawn.decoder_outputs, given.decoder_outputs)


def test_a_batch_of_short_utterances_can_be_cut(official):
    """All shorter than the segment: the padding beyond them has no part in any loss."""
    model, golden, _ = official
    inputs = golden["in.x"], golden["in.x_lengths"], golden["in.tr_y"], golden["in.tr_y_lengths"], golden.get("in.spk")
    assert int(golden["in.tr_y_lengths"].max()) < 48
    noise = torch.randn(2, 80, 48)
    cut = model.compute_loss(*inputs, out_size=48, time=golden["in.tr_t"], noise=noise)
    whole = model.compute_loss(*inputs, time=golden["in.tr_t"], noise=noise[..., :40])
    torch.testing.assert_close(torch.stack(cut[:2]), torch.stack(whole[:2]), rtol=1e-6, atol=0)
    assert torch.stack(cut).isfinite().all()


SMALL = {
    "n_vocab": 12,
    "n_enc_channels": 12,
    "filter_channels": 8,
    "filter_channels_dp": 8,
    "n_enc_layers": 1,
    "dec_dim": 8,
}


@pytest.mark.parametrize(("window", "length"), [(1, 7), (4, 3), (4, 5), (6, 1)])
def test_relative_attention_against_its_definition(window, length):
    """Also for texts shorter than the window."""
    generator = torch.Generator().manual_seed(length)
    attention = RelativeAttention(12, 3, window, 0.0).double().eval()
    x = torch.randn(1, 12, length, dtype=torch.float64, generator=generator)
    mask = torch.ones(1, 1, length, length)
    mask[..., -1] = 1 if length < 3 else 0
    with torch.no_grad():
        actual = attention(x, mask)
        q, k, v = (conv(x)[0].T for conv in (attention.conv_q, attention.conv_k, attention.conv_v))
        merged = torch.zeros(length, 12, dtype=torch.float64)
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            for i in range(length):
                keys, values = k[:, part].clone(), v[:, part].clone()
                for j in range(length):
                    if abs(j - i) <= window:
                        keys[j] += attention.emb_rel_k[0, j - i + window]
                        values[j] += attention.emb_rel_v[0, j - i + window]
                logits = keys @ q[i, part] / 2
                logits[mask[0, 0, i] == 0] = -1e4
                merged[i, part] = torch.softmax(logits, 0) @ values
        expected = attention.conv_o(merged.T[None])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"n_heads": 3, "window_size": 2},
        {"enc_kernel": 5, "window_size": 0},
        {"enc_kernel": 1, "n_heads": 1, "n_enc_layers": 3},
        {"n_spks": 5, "spk_emb_dim": 6, "pe_scale": 1},
        {"n_feats": 40, "beta_min": 0.1, "beta_max": 10.0},
    ],
    ids=["heads", "kernel", "layers", "speakers", "bands"],
)
def test_constructor_arguments_are_heeded(options, generator):
    torch.manual_seed(0)
    model = GradTTS(**{**SMALL, **options})
    speaker = torch.tensor([1, 4]) if "n_spks" in options else None
    bands = options.get("n_feats", 80)
    tokens, lengths = torch.randint(0, 12, (2, 6), generator=generator), torch.tensor([6, 4])
    y = torch.randn(2, bands, 16, generator=generator)
    losses = model.compute_loss(tokens, lengths, y, torch.tensor([16, 9]), speaker)
    sum(losses).backward()
    assert torch.stack(losses).isfinite().all()
    spoken = model.eval()(tokens, lengths, 2, spk=speaker)
    assert spoken.decoder_outputs.shape[:2] == (2, bands)
    assert model.encoder.encoder.attn_layers[0].emb_rel_k.shape == (
        1,
        2 * options.get("window_size", 4) + 1,
        12 // options.get("n_heads", 2),
    )
    start = model.decoder.forward_diffusion(y, torch.ones(2, 1, 16), 0 * y, torch.ones(2), noise=0 * y)[0]
    decay = 0.25 * (options.get("beta_min", 0.05) + options.get("beta_max", 20.0))
    torch.testing.assert_close(start, y * torch.exp(torch.tensor(-decay)))


def test_the_time_scale_is_heeded():
    one, golden = network("single"), load("grad_tts_single")
    inputs = [golden[f"in.dec_{name}"] for name in ("x", "mask", "mu", "t")]
    with torch.no_grad():
        fast = one.decoder.estimator(*inputs)
        one.decoder.estimator.pe_scale = 1
        slow = one.decoder.estimator(*inputs)
        one.decoder.estimator.pe_scale = 1000
        again = one.decoder.estimator(*inputs[:3], inputs[3] / 1000)
    assert float((fast - slow).abs().max()) > 0.01 * float(fast.abs().max())
    torch.testing.assert_close(slow, again, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(official):
    model, golden, _ = official
    inputs = golden["in.x"], golden["in.x_lengths"], golden["in.tr_y"], golden["in.tr_y_lengths"], golden.get("in.spk")
    with pytest.raises(ValueError, match="multiple of 4"):
        model.compute_loss(*inputs[:2], inputs[2][..., :39], *inputs[3:])
    with pytest.raises(ValueError, match="out_size must be"):
        model.compute_loss(*inputs, out_size=10)
    with pytest.raises(ValueError, match="alignment impossible: 13 tokens, 12 frames"):
        model.compute_loss(*inputs[:3], torch.full((2,), 12), inputs[4])
    with pytest.raises(ValueError, match="at least one step"):
        model(*inputs[:2], 0, spk=inputs[4])
    with pytest.raises(ValueError, match="33 frames"):
        model.decoder.estimator(torch.zeros(1, 80, 33), torch.ones(1, 1, 33), torch.zeros(1, 80, 33), torch.ones(1))
    if inputs[4] is not None:
        with pytest.raises(ValueError, match="the number of the speaker"):
            model(*inputs[:2], 1)
        with pytest.raises(ValueError, match="0 to 3"):
            model(*inputs[:2], 1, spk=torch.tensor([0, 4]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 5}, "n_heads=5 must divide"),
        ({"enc_kernel": 4}, "odd"),
        ({"dec_dim": 12}, "multiple of 8"),
        ({"n_feats": 81}, "n_feats=81"),
        ({"n_feats": 40, "n_spks": 2}, "several speakers"),
    ],
    ids=["heads", "kernel", "width", "bands", "speakers"],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradTTS(**{**SMALL, **options})


def test_golden_weights_load_strictly():
    """Every tensor has its place."""
    from safetensors.torch import load_file

    for name in NAMES:
        result = network(name).load_state_dict(load_file(state_file(name)), strict=True)
        assert not result.missing_keys
        assert not result.unexpected_keys
