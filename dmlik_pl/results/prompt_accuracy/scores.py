"""The likelihood of every sample under every prompt, from the scores that records hold as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import listed, named_scores
from dmlik_pl.results.likelihoods import nats_per_bpd, total_errors
from dmlik_pl.results.prompt_accuracy.schema import SCHEMA

__all__ = ["prompt_scores"]


def prompt_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each sample, part, attribute and prompt.

    Args:
        frame: The records of the study.

    Returns:
        Columns sample_id, those of the records' key, prompt, log_p and its total error (nats), bpd and bpd_error, and
        correct, whether the prompt is the true one. A prompt that was screened out has no log_p.
    """
    rows: list[dict[str, Any]] = []
    keys = [name for name in ("sample_id", *SCHEMA.key) if name in frame]
    known = frame[frame["scores"].notna()] if "scores" in frame else frame.iloc[:0]
    for record, unit in zip(known.to_dict("records"), nats_per_bpd(known), strict=True):
        offered = listed(record["candidates"])
        scores = named_scores(record["scores"], offered)
        text = record.get("scores_standard_error")
        errors = named_scores(text, offered) if isinstance(text, str) else {}
        for prompt, score in scores.items():
            rows.append(
                {name: record[name] for name in keys}
                | {
                    "prompt": prompt,
                    "log_p": score if np.isfinite(score) else np.nan,
                    "standard_error": errors.get(prompt, np.nan) if np.isfinite(score) else np.nan,
                    "discretisation": record.get("discretisation", np.nan) if np.isfinite(score) else np.nan,
                    "unit": unit,
                    "correct": prompt == record["truth"],
                }
            )
    if not rows:
        return pd.DataFrame()
    found = pd.DataFrame(rows)
    found = found.assign(standard_error=found["standard_error"].where(np.isfinite(found["standard_error"])))
    found = found.assign(error=total_errors(found, "log_p"), bpd=-found["log_p"] / found["unit"])
    found = found.assign(bpd_error=found["error"] / found["unit"])
    return found[[*keys, "prompt", "log_p", "error", "bpd", "bpd_error", "correct"]]
