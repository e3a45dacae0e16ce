"""Tables of a sweep over time: Tables 4, 5 and 7 of Cross and Ragni."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import describe
from dmlik_pl.results.protocol import protocol_caption
from dmlik_pl.results.sweep_summaries import sweep_summary
from dmlik_pl.results.table import MISSING, Table, with_error
from dmlik_pl.results.tables import register_tables

__all__ = ["time_sweep_tables"]


@register_tables("time_sweep")
def time_sweep_tables(study: str, frame: pd.DataFrame, failed: int) -> list[Table]:
    """Table 4: likelihood, Frechet distance and CLIP score of X_t, from noise to data."""
    raw = sweep_summary(frame)
    headings = ["Data" if row.stage == "data" else f"{row.time:.2f}" for row in raw.itertuples()]
    if len(set(headings)) < len(headings):
        headings = ["Data" if row.stage == "data" else f"{row.time:.6g}" for row in raw.itertuples()]
    lines = {"σ": [f"{sigma:.3g}" if np.isfinite(sigma) else MISSING for sigma in raw["sigma"]]}
    for heading, name in (("BPD", "bpd"), ("BPD marginal", "bpd_marginal"), ("FID", "fid"), ("CLIP", "clip")):
        if raw[name].notna().any():
            lines[heading] = [
                with_error(value, error) for value, error in zip(raw[name], raw[f"{name}_standard_error"], strict=True)
            ]
    shown = pd.DataFrame(list(lines.values()), index=pd.Index(lines, name="t"), columns=headings)
    marginal = " BPD marginal is its density at its own time t." if "BPD marginal" in lines else ""
    caption = (
        f"Time sweep, noise (t = 1) to data (t = 0). {describe(frame, failed)} BPD (bits per dimension) reads x_t as "
        f"data at t = 0.{marginal} σ is the noise-to-signal ratio. Values are means over samples ± standard error "
        "(sampling and probes)."
    )
    caption = " ".join(filter(None, (caption, protocol_caption(frame))))
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    if "FID" in lines:
        n, features = int(raw["n"].min()), int(raw["fid_features"].max())
        caption += (
            f" FID of N = {n} samples a column against the data, {features} features, ± jackknife standard error; it "
            "is biased upwards by about features / N, so compare it only within this table."
        )
    return [Table(study, caption, shown, raw)]
