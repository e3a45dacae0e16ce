"""Records as the studies write them, with known properties, for the tests of tables, figures and reports."""

import json
import math

import numpy as np

Row = dict[str, object]

COLOURS = ("red", "green", "blue", "gray", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "cylinder", "sphere")
TIMES = (1.0, 0.75, 0.5, 0.25, 0.0)
SIGMAS = (14.6, 3.63, 1.42, 0.574, 0.0413)
DIMS = 1024

_LIKELIHOOD: Row = {
    "dims": DIMS,
    "nfe_forward": 33,
    "nfe_vjp": 33,
    "nfe_jvp": 0,
    "density": "p(x|y)",
    "guidance": 1.0,
    "space": "VAE latents times 0.13025",
    "r_min": 0.0413,
    "r_max": 14.6,
    "solver": "ab3 in log-SNR, 33 nodes",
    "probes": "1 Rademacher a node",
}


def identity(i: int) -> tuple[str, str, str]:
    """Sample id, colour and shape of the i-th sample."""
    return f"test-{i:05d}", COLOURS[i % 8], SHAPES[i % 3]


def sweep_units(n: int = 64, seed: int = 0) -> dict[str, list[Row]]:
    """Rows of a time sweep for each sample: BPD falls and CLIP rises from noise to data."""
    generator = np.random.default_rng(seed)
    units = {}
    for i in range(n):
        name, colour, shape = identity(i)
        offset, content = generator.normal(0, 0.15), generator.normal(0, 1, 16)
        rows = []
        stages = [("data", None, SIGMAS[-1])] + [("sample", t, s) for t, s in zip(TIMES, SIGMAS, strict=True)]
        for stage, time, sigma in stages:
            level = 0.0 if time is None else 0.05 + 0.95 * time
            bpd = -0.9 + 3.2 * level + offset + generator.normal(0, 0.08)
            noise = generator.normal(1, 1, 16)
            rows.append(
                _LIKELIHOOD
                | {
                    "prompt": f"a photo of a {colour} {shape}",
                    "colour": colour,
                    "shape": shape,
                    "stage": stage,
                    "time": time,
                    "sigma": sigma,
                    "log_p": -bpd * DIMS * math.log(2),
                    "standard_error": 0.02 * DIMS * math.log(2),
                    "discretisation": -0.0004 * DIMS * math.log(2),
                    "bpd": bpd,
                    "bpd_standard_error": 0.02,
                    "bpd_marginal": bpd + 2.9 * level if time else None,
                    "bpd_marginal_standard_error": 0.02 if time else None,
                    "clip": 29.5 - 7 * level + generator.normal(0, 1.5),
                    "feature": (content * (1 - level) + level * noise).tolist(),
                }
            )
        units[name] = rows
    return units


def accuracy_units(n: int = 96, seed: int = 0, with_elbo: bool = False) -> dict[str, list[Row]]:
    """Rows of a prompt accuracy study for each sample: colours are easy, shapes hard; "red" and "cube" are favoured."""
    generator = np.random.default_rng(seed)
    units = {}
    for i in range(n):
        name, colour, shape = identity(i)
        rows = []
        for attribute, truth, values, signal in (("colour", colour, COLOURS, 9.0), ("shape", shape, SHAPES, 2.5)):
            scores = generator.normal(0, 4, len(values)) - 1500
            scores[values.index(truth)] += signal * generator.gamma(2)
            scores[0] += 3
            others = np.delete(scores, values.index(truth))
            order = np.argsort(scores)[::-1]
            margin = float(scores[order[0]] - scores[order[1]])
            error = float(generator.gamma(4) * 0.35)
            clip_right = bool(generator.random() < (0.9 if attribute == "colour" else 0.6))
            elbo_right = bool(generator.random() < 0.7) if with_elbo else None
            rows.append(
                {
                    k: _LIKELIHOOD[k]
                    for k in ("dims", "nfe_forward", "nfe_vjp", "nfe_jvp", "density", "guidance", "space")
                }
                | {
                    "attribute": attribute,
                    "truth": truth,
                    "candidates": "|".join(values),
                    "predicted": values[order[0]],
                    "correct": values[order[0]] == truth,
                    "decided": margin > 1.96 * error,
                    "margin": margin,
                    "margin_standard_error": error,
                    "true_margin": float(scores[values.index(truth)] - others.max()),
                    "true_margin_standard_error": error,
                    "scores": json.dumps(dict(zip(values, scores.tolist(), strict=True))),
                    "scores_standard_error": json.dumps(dict.fromkeys(values, 6.0)),
                    "clip_predicted": truth if clip_right else values[(values.index(truth) + 1) % len(values)],
                    "clip_correct": clip_right,
                    "elbo_predicted": (truth if elbo_right else values[(values.index(truth) + 1) % len(values)])
                    if with_elbo
                    else None,
                    "elbo_correct": elbo_right,
                }
            )
        units[name] = rows
    return units
