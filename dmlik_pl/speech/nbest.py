"""N-best lists with stored scores: reading them, counting their errors, and naming every row that cannot be used.

Rows are checked in this order, and the first rule that a row breaks is its reason in the column `excluded`:

1. a row without utterance id, reference or hypothesis (also: nothing left of it after normalisation, or a text that
   cannot be normalised, such as a number of thousands of digits) is left out;
2. a row with a score that is missing, not a number or not finite is left out for every score, so that all are compared
   on the same hypotheses;
3. a list whose rows name different references is left out as a whole;
4. a copy of an earlier row of its list (equal text, equal scores) is left out. Equal text with other scores is a
   repeated scoring: it is kept and counted (`duplicates="copies"`), or left out too (`duplicates="texts"`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dmlik_pl.extras import load
from dmlik_pl.speech.nbest_file import as_number, as_text, read_file
from dmlik_pl.speech.text.normaliser import english_normaliser

__all__ = ["Duplicates", "NBestColumns", "NBestLists", "Normalisation", "check", "count_word_errors", "read"]

Normalisation = Literal["none", "whisper"]
Duplicates = Literal["copies", "texts"]

_RECORDED = (
    *("sample_id", "row", "reference", "hypothesis", "words", "errors", "excluded", "normalisation", "duplicates"),
    *("probe_count", "kind", "part", "protocol"),
)


@dataclass(frozen=True)
class NBestColumns:
    """What the columns of a file of n-best lists are called.

    Attributes:
        utterance: Id of the utterance; rows with the same id are one list.
        reference: The words that were spoken.
        hypothesis: What was recognised.
        scores: Column of each score by the score's name; a higher score is better. Some names have a meaning:
            `acoustic` is the recogniser's own score, `likelihood` log p(audio | text), `unconditional` log p(audio) of
            the same audio and `duration` the log-probability of the alignment's durations, all in nats.
        standard_errors: Column of the standard error over probes of a score, by the score's name.
        repeats: Column with the same score from other, independent probes, by the score's name.
        attributes: Columns of text that say what an utterance is of, such as its speaker, by which errors may be
            clustered; all rows of a list have the same.
    """

    utterance: str = "utterance_id"
    reference: str = "reference"
    hypothesis: str = "hypothesis"
    scores: dict[str, str] = field(default_factory=lambda: {"acoustic": "am_score", "likelihood": "gtts_ll"})
    standard_errors: dict[str, str] = field(default_factory=dict)
    repeats: dict[str, str] = field(default_factory=dict)
    attributes: list[str] = field(default_factory=list)

    def texts(self) -> dict[str, str]:
        """Columns of text, by their names in the records.

        Raises:
            ValueError: If an attribute is called as a column that the records have anyway.
        """
        if taken := sorted({*self.attributes} & {*_RECORDED, *self.numbers()}):
            raise ValueError(
                f"columns.attributes: {taken[0]!r} is a column of the records anyway: rename it in the file"
            )
        own = {name: name for name in self.attributes}
        return {"sample_id": self.utterance, "reference": self.reference, "hypothesis": self.hypothesis} | own

    def numbers(self) -> dict[str, str]:
        """Columns of numbers, by their names in the records."""
        kinds = {"score": self.scores, "standard_error": self.standard_errors, "repeat": self.repeats}
        return {f"{kind}_{name}": column for kind, columns in kinds.items() for name, column in columns.items()}


@dataclass(frozen=True)
class NBestLists:
    """The usable hypotheses of N lists, M in all, the rows of a list side by side.

    Attributes:
        utterances: Ids of the N utterances, sorted.
        words: Words of each reference, [N].
        member: The list that each hypothesis belongs to, [M], ascending.
        texts: The hypotheses, M texts.
        errors: Word errors of each hypothesis, [M].
        scores: Scores by name, each [M].
        standard_errors: Standard errors of some scores over probes, each [M].
        repeats: Some scores again from independent probes, each [M].
        probes: Number of probes that each score is the mean of.
        protocol: "repaired", or "published": choices are made as the paper's code made them.
        characters: Characters of each reference, [N]; published oracles are chosen by errors per character.
        clusters: Label of what lists have in common, such as their speaker, [N]; None if lists are independent.
    """

    utterances: list[str]
    words: np.ndarray
    member: np.ndarray
    texts: list[str]
    errors: np.ndarray
    scores: dict[str, np.ndarray]
    standard_errors: dict[str, np.ndarray]
    repeats: dict[str, np.ndarray]
    probes: int = 1
    protocol: str = "repaired"
    characters: np.ndarray = field(default_factory=lambda: np.zeros(0))
    clusters: np.ndarray | None = None

    @classmethod
    def from_records(cls, frame: pd.DataFrame) -> NBestLists:
        """Take the usable rows of records.

        Args:
            frame: Rows as `read` returns them, or a study's records with the same columns, in any order of lists.

        Raises:
            ValueError: If no row is usable.
        """
        usable = frame[frame["excluded"] == ""].sort_values("sample_id", kind="stable")
        if usable.empty:
            raise ValueError(f"none of {len(frame)} hypotheses is usable: {_counted(frame['excluded'])}")
        member, utterances = pd.factorize(usable["sample_id"], sort=True)
        first = np.flatnonzero(np.diff(member, prepend=-1))

        def values(kind: str) -> dict[str, np.ndarray]:
            names = [str(name) for name in usable.columns if str(name).startswith(f"{kind}_")]
            return {name.removeprefix(f"{kind}_"): usable[name].to_numpy(np.float64) for name in names}

        return cls(
            utterances=[str(name) for name in utterances],
            words=usable["words"].to_numpy(np.int64)[first],
            member=member,
            texts=usable["hypothesis"].tolist(),
            errors=usable["errors"].to_numpy(np.int64),
            scores=values("score"),
            standard_errors=values("standard_error"),
            repeats=values("repeat"),
            probes=int(usable["probe_count"].iloc[0]) if "probe_count" in usable else 1,
            protocol=str(usable["protocol"].iloc[0]) if "protocol" in usable else "repaired",
            characters=usable["reference"].str.len().to_numpy(np.int64)[first],
        )

    @property
    def starts(self) -> np.ndarray:
        """First hypothesis of each list, [N]."""
        return np.flatnonzero(np.diff(self.member, prepend=-1))

    @property
    def sizes(self) -> np.ndarray:
        """Number of hypotheses of each list, [N]."""
        return np.bincount(self.member, minlength=len(self.utterances))

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over each list, [M] to [N]."""
        return np.bincount(self.member, weights=values, minlength=len(self.utterances))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over each list, [M] to [N]."""
        return self.total(values) / self.sizes

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Values minus their list's mean, [M]: all that a choice within the list can depend on."""
        return values - self.mean(values)[self.member]


def read(
    path: str | Path,
    columns: NBestColumns | None = None,
    normalisation: Normalisation = "none",
    duplicates: Duplicates = "copies",
    probes: int = 1,
) -> pd.DataFrame:
    """Read n-best lists and check every row.

    Args:
        path: A file of lists: .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz, one hypothesis per row.
        columns: What its columns are called.
        normalisation: How both texts are made comparable before errors are counted: "none" splits them at spaces
            only; "whisper" applies Whisper's English normaliser.
        duplicates: Which repeated texts of a list are left out: "copies" (the scores are equal too) or all "texts" but
            the first.
        probes: Number of probes that each stored score is the mean of.

    Returns:
        One row per hypothesis, unusable ones too, in the order of the file: sample_id, row (counted from 1, without the
        header), reference, hypothesis, the attributes, `score_*`, `standard_error_*`, `repeat_*`, words (of the
        reference), errors (in words; both NaN for excluded rows), excluded ("" or the reason), normalisation,
        duplicates and probe_count.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the kind of file is not known, it holds no row, or a column is missing.
    """
    path, columns = Path(path), columns or NBestColumns()
    stored = read_file(path)
    names = columns.texts() | columns.numbers()
    if missing := sorted(set(names.values()) - set(stored.columns)):
        where = f"{path}, line 1" if ".csv" in path.name.lower() else path
        found = ", ".join(map(repr, stored.columns)) or "none"
        raise ValueError(
            f"{where} has no column {', '.join(map(repr, missing))}; it has {found}. Say which column holds what in "
            "`columns`."
        )
    if not columns.scores:
        raise ValueError("name at least one column of scores")
    if stored.empty:
        raise ValueError(f"{path} holds no hypothesis")
    frame = pd.DataFrame({name: stored[column].map(as_text) for name, column in columns.texts().items()})
    frame.insert(1, "row", np.arange(1, len(frame) + 1))
    for name, column in columns.numbers().items():
        frame[name] = stored[column].map(as_number).astype(np.float64)
    return check(frame, normalisation, duplicates).assign(probe_count=probes)


def check(
    frame: pd.DataFrame, normalisation: Normalisation = "none", duplicates: Duplicates = "copies"
) -> pd.DataFrame:
    """Count the errors of every hypothesis and name the rows that cannot be used; see the module for the rules.

    Args:
        frame: Rows with sample_id, row, reference, hypothesis and `score_*`; reasons that a column `excluded` holds
            already come first.
        normalisation: "none" or "whisper", see `read`.
        duplicates: "copies" or "texts", see `read`.

    Returns:
        A copy with the columns words, errors, excluded, normalisation and duplicates.
    """
    normalise = _normaliser(normalisation)
    known = {text: _normalised(text, normalise) for text in {*frame["reference"], *frame["hypothesis"]}}
    spoken, recognised = (frame[name].map(known).astype(object) for name in ("reference", "hypothesis"))
    scores = [str(name) for name in frame.columns if str(name).startswith("score_")]
    excluded = frame["excluded"].copy() if "excluded" in frame else pd.Series("", frame.index, dtype=object)

    def exclude(broken: pd.Series, reason: str | pd.Series) -> None:
        chosen = broken & (excluded == "")
        excluded[chosen] = reason if isinstance(reason, str) else reason[chosen]

    exclude(frame["sample_id"].str.strip() == "", "no utterance id")
    exclude(spoken.isna() | recognised.isna(), "a text cannot be normalised")
    exclude(spoken == "", "no reference")
    exclude(recognised == "", "empty hypothesis")
    for name in scores:
        exclude(~np.isfinite(frame[name]), f"{name.removeprefix('score_')} score is not a finite number")
    usable = excluded == ""
    references = spoken[usable].groupby(frame["sample_id"][usable]).nunique()
    exclude(frame["sample_id"].isin(references.index[references > 1]), "the list's rows name different references")
    key = ["sample_id", "hypothesis", *(scores if duplicates == "copies" else [])]
    usable = excluded == ""
    first = frame[usable].groupby(key)["row"].transform("min").reindex(frame.index)
    wording = "copy of row " if duplicates == "copies" else "same text as row "
    exclude(usable & (first != frame["row"]), wording + first.fillna(0).astype(int).astype(str))

    usable = (excluded == "").to_numpy()
    errors, words = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    errors[usable], words[usable] = count_word_errors(spoken[usable].tolist(), recognised[usable].tolist())
    return frame.assign(
        words=words, errors=errors, excluded=excluded, normalisation=normalisation, duplicates=duplicates
    )


def count_word_errors(references: list[str], hypotheses: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Fewest substitutions, deletions and insertions between pairs of texts, words being what spaces separate.

    Args:
        references: M texts, none empty.
        hypotheses: M texts.

    Returns:
        Errors and reference words of each pair, both [M].

    Example:
        >>> errors, words = count_word_errors(["the cat sat", "a b"], ["the cat sat down", "a c"])
        >>> errors.tolist(), words.tolist()
        ([1.0, 1.0], [3.0, 2.0])
    """
    if not references:
        return np.zeros(0), np.zeros(0)
    aligned = load("jiwer", "counting word errors").process_words(references, hypotheses)
    errors = [
        sum(
            max(part.ref_end_idx - part.ref_start_idx, part.hyp_end_idx - part.hyp_start_idx)
            for part in parts
            if part.type != "equal"
        )
        for parts in aligned.alignments
    ]
    return np.array(errors, dtype=np.float64), np.array([len(words) for words in aligned.references], np.float64)


def _normaliser(normalisation: Normalisation) -> Callable[[str], str]:
    normalisers: Mapping[str, Callable[[], Callable[[str], str]]] = {
        "none": lambda: str.strip,
        "whisper": english_normaliser,
    }
    if normalisation not in normalisers:
        raise ValueError(f"text normalisation {normalisation!r} is unknown: take {' or '.join(normalisers)}")
    return normalisers[normalisation]()


def _normalised(text: str, normalise: Callable[[str], str]) -> str | None:
    """Return a text as words are counted in it; None if the normaliser fails on it, as it may in its own ways."""
    try:
        return normalise(text)
    except Exception:
        return None


def _counted(reasons: pd.Series) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in reasons[reasons != ""].value_counts().items())
