"""Records as the studies write them, with known properties, for the tests of tables, figures and reports."""

import json
import math

import numpy as np
import pandas as pd

from dmlik_pl.results.kinds import kinds
from dmlik_pl.results.table import Table

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


def record(kind: str, **values: object) -> Row:
    """A record of a kind of study, with what its declaration says of every likelihood."""
    schema = kinds()[kind].schema
    row = {name: value for name, value in _LIKELIHOOD.items() if schema.column(name)} | {"kind": kind} | values
    schema.check([dict.fromkeys(schema.key) | row])
    return row


def frame_of(units: dict[str, list[Row]], kind: str = "") -> pd.DataFrame:
    """The records of all samples as one frame; of this kind, unless they say their own."""
    named = {"kind": kind} if kind else {}
    return pd.DataFrame([{"sample_id": name} | named | row for name, rows in units.items() for row in rows])


def said(table: Table) -> str:
    """All that a table says in words: its caption, what its headings mean, and its notes."""
    return "\n".join([table.caption, *(f"{key}: {text}" for key, text in table.legend.items()), *table.notes])


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
                record("time_sweep")
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


def sweep_grid_units(
    n: int = 32,
    guidances: tuple[float, ...] = (1.0, 3.0, 7.0),
    sizes: tuple[int, ...] = (32, 64),
    reconstructed: tuple[bool, ...] = (False, True),
    seed: int = 0,
) -> dict[str, list[Row]]:
    """Rows of a time sweep over settings: guidance adds 0.1 bits a unit to samples, reconstruction takes 0.2 off."""
    generator = np.random.default_rng(seed)
    content, styles = generator.normal(0, 1, (n, 16)), generator.normal(0, 1, 16)
    units: dict[str, list[Row]] = {}
    for size in sizes:
        base = sweep_units(n, seed + size)
        for again in reconstructed:
            for guidance in guidances:
                for i, (name, rows) in enumerate(base.items()):
                    for row in rows:
                        data, level = row["stage"] == "data", 0.0 if row["time"] is None else 0.05 + 0.95 * row["time"]
                        pull = (guidance - 1) * (1 - level) * (not data)
                        bpd = row["bpd"] + 0.1 * pull - 0.2 * again + generator.normal(0, 0.03)
                        noise = generator.normal(0, 1, 16)
                        feature = content[i] * (1 - level) + level * (1 + noise) + 0.1 * pull * styles
                        units.setdefault(name, []).append(
                            row
                            | {
                                "guidance": guidance,
                                "size": size,
                                "reconstructed": again,
                                "dims": size * size // 4,
                                "bpd": bpd,
                                "log_p": -bpd * size * size / 4 * math.log(2),
                                "bpd_pixels": bpd + 0.3,
                                "bpd_pixels_standard_error": 0.02,
                                "clip": row["clip"] + 0.5 * pull + (not data) * generator.normal(0, 0.2),
                                "feature": (feature + 0.05 * again * noise).tolist(),
                                "round_trip": 0.02 + 0.01 * guidance if again else None,
                                "round_trip_pixels": 1.5 * guidance if again else None,
                            }
                        )
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
                    "candidates": json.dumps(values),
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


CELLS = ((1.0, False), (1.0, True), (3.0, False), (3.0, True))
"""Guidance and reconstruction of the parts of a prompt accuracy study."""


def prompt_units(n: int = 48, cells: tuple = CELLS, draws: int = 16, seed: int = 0) -> dict[str, list[Row]]:
    """Rows of a prompt accuracy study with every method: each part of each sample, a row an attribute.

    Scores are log-likelihoods of Gaussian evidence, so that those of the likelihood are calibrated at guidance 1 and
    three times too large at 3. The bound has the same scores in noise of 3 nats, and its draws know the prompt best at
    a log-SNR of 0. Screening keeps the better half by the bound, and every second sample is computed in full.
    """
    generator = np.random.default_rng(seed)
    units: dict[str, list[Row]] = {}
    for i in range(n):
        name, colour, shape = identity(i)
        units[name] = []
        for guidance, reconstructed in cells:
            gain, gain_error = generator.normal(40, 25), float(generator.gamma(4) * 1.5)
            for attribute, truth, values, strength in (("colour", colour, COLOURS, 3.0), ("shape", shape, SHAPES, 1.0)):
                row = _prompt_row(generator, truth, values, strength, draws)
                scale = 1.0 if guidance == 1 else 3.0
                scores = {key: scale * value for key, value in row.pop("evidence").items()}
                noisy = {key: value + generator.normal(0, 3) for key, value in scores.items()}
                mutual = {key: value - 5 for key, value in noisy.items()}
                kept = sorted(values, key=lambda key, noisy=noisy: -noisy[key])[: (len(values) + 1) // 2]
                screened = {key: scores[key] if key in kept else None for key in values}
                checked = i % 2 == 0
                similar = {key: 25 + (key == truth) + generator.normal(0, 0.7) for key in values}
                calls = 66 * len(values) * (1 if guidance == 1 else 2)
                units[name].append(
                    record("prompt_accuracy")
                    | row
                    | {"attribute": attribute, "guidance": guidance, "reconstructed": reconstructed}
                    | {"null_log_p": -1500.0, "null_log_p_standard_error": 6.0}
                    | {"null_margin": gain, "null_margin_standard_error": gain_error}
                    | _decision("", scores if checked else screened, truth, calls, 1.0)
                    | _decision("elbo_", noisy, truth, draws * len(values), 3.0)
                    | _decision("pmi_", mutual, truth, draws * (len(values) + 1), 3.0)
                    | _decision("clip_", similar, truth, None, None)
                    | _decision("screened_", screened, truth, 66 * len(kept) + draws * len(values), 1.0)
                    | {"screened_kept": len(kept), "screened_checked": checked}
                )
    return units


def _prompt_row(generator: np.random.Generator, truth: str, values: tuple, strength: float, draws: int) -> Row:
    """Evidence for each value, errors of single draws by their level, and how many draws each value was given."""
    signal = generator.normal(0, 1, len(values)) + strength * (np.array(values) == truth)
    evidence = {value: strength * float(s) for value, s in zip(values, signal, strict=True)}
    levels = np.sort(generator.uniform(-6, 6, draws))
    clear = 4 * np.exp(-(levels**2) / 4)
    errors = {value: 50 - clear * (value == truth) + generator.normal(0, 2, draws) for value in values}
    given = {value: draws if value == truth or generator.random() < 0.3 else draws // 2 for value in values}
    if generator.random() < 0.1:
        given[truth] = draws // 2
    return {
        "truth": truth,
        "candidates": json.dumps(values),
        "evidence": evidence,
        "elbo_levels": levels.tolist(),
        "elbo_level_errors": json.dumps({value: error.tolist() for value, error in errors.items()}),
        "elbo_eliminated": json.dumps(given),
    }


def _decision(prefix: str, scores: dict, truth: str, calls: int | None, error: float | None) -> Row:
    """What a method says of one row; without errors nothing of decided."""
    order = sorted((value, key) for key, value in scores.items() if value is not None)[::-1]
    margin, predicted = order[0][0] - order[1][0], order[0][1]
    row: Row = {
        f"{prefix}predicted": predicted,
        f"{prefix}correct": predicted == truth,
        f"{prefix}scores": json.dumps(scores),
        f"{prefix}nfe": calls,
    }
    if error is not None:
        row |= {f"{prefix}margin": margin, f"{prefix}margin_standard_error": error}
        row |= {f"{prefix}decided": margin > 1.96 * error}
    if not prefix:
        own = scores[truth]
        rival = max((value for key, value in scores.items() if key != truth and value is not None))
        row |= {"true_margin": None if own is None else own - rival, "true_margin_standard_error": error}
        row["scores_standard_error"] = json.dumps(dict.fromkeys(scores, 6.0))
    return row
