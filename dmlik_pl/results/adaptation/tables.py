"""Tables of the study of adaptation: Table 3 of Cross and Ragni, its paired differences, and round trips."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.results.adaptation.summaries import adaptation_summary, paired_summary, round_trip_summary
from dmlik_pl.results.table import MISSING, Table, probability, short, with_error

__all__ = ["adaptation_tables"]

_PUBLISHED = (
    "Protocol: published. As in the paper's code, spectrograms were padded with zeros to a multiple of 4 frames before "
    "they were blurred, so that zeros (far above silence) bleed into the edge; the padding counts in the log-density, "
    "its prior included, but not in the number of dimensions; ASV is (cosine + 1) / 2 to one file. The paper calls the "
    "stochastic draw Euler. Not reproduced, by design: the paper's recogniser heard audio of 22.05 kHz as if it had 16 "
    "kHz, which raises all its word error rates, those of untouched speech too; here audio is resampled. Unknown: how "
    "the printed BPD were made (the paper's code prints + log p / ln 2 / frames)."
)
_REPAIRED = "Protocol: repaired. Real frames only; blurs take nothing in from beyond the edges; ASV is a plain cosine."


def adaptation_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Table 3, every adapted row against the untouched recording, and what solvers lose on a round trip."""
    tables = [_grid_table(study, frame), _paired_table(study, frame), _round_trip_table(study, frame)]
    return [table for table in tables if len(table.shown)]


def _grid_table(study: str, frame: pd.DataFrame) -> Table:
    raw = adaptation_summary(frame)
    published = frame["protocol"].iloc[0] == "published"
    shown = pd.DataFrame({"reverse": raw["reverse"]})
    shown.index = pd.Index(raw["forward"], name="forward")
    several = raw["mean"].nunique() > 1
    if several:
        shown["μ"] = raw["mean"].tolist()
    shown["vocoded"] = ["no" if stage == "data" else "yes" for stage in raw["stage"]]
    rows = raw.to_dict("records")
    captions = []
    if raw["wer"].notna().any():
        fewest, most = int(raw["words"].min()), int(raw["words"].max())
        words = most if fewest == most else f"{fewest} to {most}"
        shown["WER %"] = [_interval(row, "wer", 100, 1) for row in rows]
        captions.append(
            f"WER: errors of {_only(frame, 'recogniser')}, which resamples to its own rate, over all {words} words."
        )
    shown["BPD, μ of recording"] = [_interval(row, "bpd") for row in rows]
    shown["BPD, own μ"] = [_interval(row, "bpd_own_mean") for row in rows]
    captions.append(
        "BPD: bits per dimension of the mel under the blur of the recording, and under the blur of the mel itself."
    )
    if raw["speaker_similarity"].notna().any():
        scale, shift = (0.5, 0.5) if published else (1.0, 0.0)
        shown["ASV"] = [_interval(row, "speaker_similarity", scale, 3, shift) for row in rows]
        captions.append(_voice_caption(frame, published))
        if undefined := int(raw["speaker_similarity_undefined"].sum()):
            captions.append(f"{undefined} waves have no voice and are left out of ASV.")
    caption = (
        f"Speech of another domain through the flow and back. {describe(frame[frame['bpd'].notna()])} "
        f"μ: {' / '.join(raw['mean'].unique())} of the recording's mel. {_ways(frame)} {' '.join(captions)} "
        f"Not vocoded: the recording, only resampled; all else goes through {_only(frame, 'vocoder')}. Brackets: "
        f"bootstrap 95 % interval over utterances. {_PUBLISHED if published else _REPAIRED}"
    )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    return Table(study, caption, shown.astype(str), raw)


def _ways(frame: pd.DataFrame) -> str:
    """The forwards, solvers and speakers in words."""
    solvers = pd.concat(
        [
            frame[[f"{way}", f"{way}_solver"]].set_axis(["name", "solver"], axis=1).dropna()
            for way in ("forward", "reverse")
        ]
    ).drop_duplicates()
    known = {
        "stochastic": "stochastic, one draw from q(x_T | x_0), which keeps next to nothing of the recording but μ",
        "prior": "prior, one draw from N(μ, I)",
    }
    forwards = [text for name, text in known.items() if (frame["forward"] == name).any()]
    named = [f"{row.name_}, {row.solver}" for row in solvers.rename(columns={"name": "name_"}).itertuples()]
    text = f"Ways: {'; '.join([*forwards, *named])}."
    there, back = frame["forward_speaker"].iloc[0], frame["reverse_speaker"].iloc[0]
    if there != back:
        return f"{text} The model's speaker is {there} on the way forward and {back} on the way back."
    return f"{text} Where the same solver leads there and back, only its error changes the recording."


def _voice_caption(frame: pd.DataFrame, published: bool) -> str:
    reference, size = _only(frame, "reference"), int(frame["reference_size"].iloc[0])
    form = "(cosine + 1) / 2" if published else "cosine"
    text = f"ASV: {form} by {_only(frame, 'speaker_encoder')} to "
    text += f"the mean of {size} recordings of {reference}" if size > 1 else f"one recording of {reference}"
    own = pd.to_numeric(frame["reference_similarity"]).iloc[0]
    return f"{text}; these reach {own:.2f} against one another." if not math.isnan(own) else f"{text}."


def _paired_table(study: str, frame: pd.DataFrame) -> Table:
    raw = paired_summary(frame)
    if raw.empty:
        return Table(f"{study}_paired", "", raw, raw)
    lines = []
    for row in raw.to_dict("records"):
        line = {"against": "vocoded recording" if row["baseline"] == "vocoded" else "recording"}
        if raw["wer_difference"].notna().any():
            points = f"{100 * row['wer_difference']:+.2f}"
            line["WER, points"] = f"{points} {_bracket(row['low'], row['high'], 100, 2)}".strip()
            line["better / worse"] = f"{row['better']} / {row['worse']}"
            line["p (matched pairs)"] = probability(row["matched_pairs_p"])
            line["Holm (m. p.)"] = probability(row["matched_pairs_p_holm"])
            line["p (permutation)"] = probability(row["permutation_p"])
            line["Holm (perm.)"] = probability(row["permutation_p_holm"])
        line["BPD"] = _interval(row, "bpd_change", decimals=3, sign=True)
        line["probe error"] = short(row["bpd_change_probe_error"])
        if raw["similarity_difference"].notna().any():
            line["cosine"] = _interval(row, "similarity_difference", decimals=3, sign=True)
        lines.append(line)
    caption = (
        "Adapted speech minus untouched speech, utterance by utterance; negative WER and BPD are gains, a positive "
        "cosine is nearer to the reference voice. Against the vocoded recording only the flow differs; against the "
        "recording the vocoder does too. WER: difference of the corpus rates in percentage points; better, worse: "
        "utterances with fewer, with more errors; matched pairs: Gillick and Cox's test, an utterance a segment; "
        "permutation: over all exchanges within utterances; Holm: corrected over all rows. BPD: under the blur of the "
        "recording and on the same probes; probe error: the part of its standard error that more probes would remove. "
        "Brackets: bootstrap 95 % intervals over utterances."
    )
    names = raw["forward"] + " → " + raw["reverse"]
    if raw["mean"].nunique() > 1:
        names = raw["mean"] + ": " + names
    return Table(f"{study}_paired", caption, pd.DataFrame(lines, index=pd.Index(names, name="adapted")), raw)


def _round_trip_table(study: str, frame: pd.DataFrame) -> Table:
    raw = round_trip_summary(frame)
    lines = [
        {
            "relative RMS, median": short(row["change_rms_median"]),
            "mean": short(row["change_rms_mean"]),
            "largest": short(row["change_rms_largest"]),
            "largest change (nats)": short(row["change_max"]),
            "RMS of x_T − μ": with_error(row["latent_rms"], row["latent_rms_standard_error"]),
        }
        for row in raw.to_dict("records")
    ]
    index = pd.Index([f"{row.solver}: {row.description}" for row in raw.itertuples()], name="solver")
    if len(raw) and raw["mean"].nunique() > 1:
        index = pd.Index(raw["mean"] + ", " + index, name="μ, solver")
    caption = (
        "Round trips: data to x_T and back with one mean, one speaker and one solver must return the recording. "
        "Relative RMS: root mean square of the change over the spectrogram's standard deviation, over utterances; "
        "largest change: of any value of any utterance. RMS of x_T − μ: 1 for what the model's prior N(μ, I) holds; "
        "more or less says that the recording is none of the model's own. ± is the standard error over utterances."
    )
    return Table(f"{study}_round_trip", caption, pd.DataFrame(lines, index=index), raw)


def _interval(
    row: dict[Any, Any], name: str, scale: float = 1.0, decimals: int = 2, shift: float = 0.0, sign: bool = False
) -> str:
    """A value with its 95 % interval."""
    value = scale * row[name] + shift
    if math.isnan(value):
        return MISSING
    shown = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    low, high = (scale * row[f"{name}_{end}"] + shift for end in ("low", "high"))
    return f"{shown} {_bracket(low, high, 1, decimals)}".strip()


def _bracket(low: float, high: float, scale: float, decimals: int) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{scale * low:.{decimals}f}, {scale * high:.{decimals}f}]"


def _only(frame: pd.DataFrame, name: str) -> str:
    return " / ".join(sorted(frame[name].dropna().unique()))
