"""Tables of the study of adaptation: Table 3 of Cross and Ragni, its paired differences, and round trips."""

from __future__ import annotations

import math

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.protocol import is_published
from dmlik_pl.results.adaptation.summaries import adaptation_summary, paired_summary, round_trip_summary
from dmlik_pl.results.columns import Shown, error, error_parts, estimate, paired_tests, table_of, with_interval, words
from dmlik_pl.results.likelihoods import left_out
from dmlik_pl.results.numbers import distinct, span
from dmlik_pl.results.table import Table

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
    ways = ((adaptation_summary, _grid), (paired_summary, _paired), (round_trip_summary, _round_trips))
    return [table(study, frame, raw) for summary, table in ways if len(raw := summary(frame))]


def _grid(study: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    published, recogniser = is_published(frame), distinct(frame, "recogniser")
    vocoder, blurs = distinct(frame, "vocoder"), raw["mean"].unique()
    voices = raw["speaker_similarity"].notna().any()
    columns = (
        words("reverse", "reverse", "way back from x_T"),
        words("μ", "mean", "blur of the recording's mel that is the mean", wanted=len(blurs) > 1),
        Shown(
            "vocoded",
            lambda row: "no" if row["stage"] == "data" else "yes",
            f"whether the mel went through {vocoder}; the recording that did not is only resampled",
        ),
        with_interval(
            "WER %",
            "wer",
            f"errors of {recogniser}, which resamples to its own rate, over all {span(raw['words'])} words",
            form=".1f",
            scale=100,
            wanted=raw["wer"].notna().any(),
        ),
        with_interval("BPD, μ of recording", "bpd", "bits per dimension of the mel under the blur of the recording"),
        with_interval("BPD, own μ", "bpd_own_mean", "the same under the blur of the mel itself"),
        with_interval(
            "ASV",
            "speaker_similarity",
            _voice(frame, published) if voices else "",
            form=".3f",
            scale=0.5 if published else 1.0,
            shift=0.5 if published else 0.0,
            wanted=voices,
        ),
    )
    caption = (
        f"Speech of another domain through the flow and back. Brackets: 95 % intervals over utterances. {left_out(raw)}"
    )
    notes = [describe(frame[frame["bpd"].notna()]), f"μ is {' / '.join(blurs)} of the recording's mel.", _ways(frame)]
    notes.append(error_parts(raw, "bpd", "bpd_own_mean").replace("±", "the error of BPD"))
    if undefined := int(raw["speaker_similarity_undefined"].sum()):
        notes.append(f"{undefined} waves have no voice and are left out of ASV.")
    notes.append(_PUBLISHED if published else _REPAIRED)
    legend = {"forward": "way from the recording to x_T"}
    return table_of(study, caption.rstrip(), raw, columns, raw["forward"], "forward", notes, legend)


def _ways(frame: pd.DataFrame) -> str:
    """The forwards, solvers and speakers in words."""
    solvers = pd.concat(
        [frame[[way, f"{way}_solver"]].set_axis(["name", "solver"], axis=1) for way in ("forward", "reverse")]
    )
    known = {
        "stochastic": "stochastic, one draw from q(x_T | x_0), which keeps next to nothing of the recording but μ",
        "prior": "prior, one draw from N(μ, I)",
    }
    forwards = [text for name, text in known.items() if (frame["forward"] == name).any()]
    named = [f"{name}, {solver}" for name, solver in solvers.dropna().drop_duplicates().itertuples(index=False)]
    text = f"Ways: {'; '.join([*forwards, *named])}."
    there, back = frame["forward_speaker"].iloc[0], frame["reverse_speaker"].iloc[0]
    if there != back:
        return f"{text} The model's speaker is {there} on the way forward and {back} on the way back."
    return f"{text} Where the same solver leads there and back, only its error changes the recording."


def _voice(frame: pd.DataFrame, published: bool) -> str:
    """What voices are compared with."""
    encoder, reference = distinct(frame, "speaker_encoder"), distinct(frame, "reference")
    size, own = int(frame["reference_size"].iloc[0]), pd.to_numeric(frame["reference_similarity"]).iloc[0]
    recordings = f"the mean of {size} recordings" if size > 1 else "one recording"
    text = f"{'(cosine + 1) / 2' if published else 'cosine'} by {encoder} to {recordings} of {reference}"
    return text if math.isnan(own) else f"{text}; these reach {own:.2f} against one another"


def _paired(study: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    heard = raw["wer_difference"].notna().any()
    columns = (
        Shown(
            "against",
            lambda row: "vocoded recording" if row["baseline"] == "vocoded" else "recording",
            "from the vocoded recording only the flow differs, from the recording the vocoder does too",
        ),
        with_interval(
            "WER, points",
            "wer_difference",
            "difference of the corpus rates in percentage points",
            form="+.2f",
            scale=100,
            ends=("low", "high"),
            wanted=heard,
        ),
        Shown(
            "better / worse",
            lambda row: f"{row['better']} / {row['worse']}",
            "utterances with fewer / with more errors",
            wanted=heard,
        ),
        *paired_tests(heard),
        with_interval("BPD", "bpd_change", "under the blur of the recording, on the same probes", form="+.3f"),
        error("± BPD", "bpd_change_standard_error", "total error of BPD: sampling, probes and grid"),
        error("probe error", "bpd_change_probe_error", "part of it that more probes would remove"),
        error("grid error", "bpd_change_grid_error", "part of it by the time grid, of two independent errors"),
        with_interval(
            "cosine",
            "similarity_difference",
            "of the voice to the reference",
            form="+.3f",
            wanted=raw["similarity_difference"].notna().any(),
        ),
    )
    caption = (
        "Adapted speech minus untouched speech, utterance by utterance: negative WER and BPD are gains, a positive "
        "cosine is nearer to the reference voice. Brackets: 95 % intervals over utterances."
    )
    names = raw["forward"] + " → " + raw["reverse"]
    if raw["mean"].nunique() > 1:
        names = raw["mean"] + ": " + names
    return table_of(f"{study}_paired", caption, raw, columns, names, "adapted")


_LOST = (
    error(
        "relative RMS, median",
        "change_rms_median",
        "root mean square change over the standard deviation of the spectrogram: median, mean and largest value over "
        "utterances",
    ),
    error("mean", "change_rms_mean"),
    error("largest", "change_rms_largest"),
    error("largest change (nats)", "change_max", "of any value of any utterance"),
    estimate(
        "RMS of x_T − μ",
        "latent_rms",
        "1 for what the model's prior N(μ, I) holds; more or less says that the recording is unlike the model's data",
    ),
)


def _round_trips(study: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    caption = (
        "Round trips: data to x_T and back with one mean, one speaker and one solver must return the recording. ± is "
        "the standard error over utterances."
    )
    names, title = raw["solver"] + ": " + raw["description"], "solver"
    if raw["mean"].nunique() > 1:
        names, title = raw["mean"] + ", " + names, "μ, solver"
    return table_of(f"{study}_round_trip", caption, raw, _LOST, names, title)
