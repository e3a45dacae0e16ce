"""What a reader of a run's numbers has to know, collected from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dmlik_pl.results.caveat_rules import RULES, Severity, failed_samples, unfinished
from dmlik_pl.results.store import FAILURES

__all__ = ["Caveat", "caveat_counts", "caveat_line", "find_caveats"]

SEVERITIES: tuple[Severity, ...] = ("serious", "caution", "note")
_PLURALS = {"serious": "serious", "caution": "cautions", "note": "notes"}
_NOTHING = pd.DataFrame({"sample_id": pd.Series(dtype=object)})


@dataclass(frozen=True)
class Caveat:
    """Something that limits what a study's numbers say.

    Attributes:
        study: Name of the study.
        topic: What it is about, in one or two words.
        text: What was found, in sentences with numbers.
        severity: "serious": numbers are missing, or wrong by more than their errors. "caution": look at their errors,
            or at what they can be compared with. "note": what the numbers are.
    """

    study: str
    topic: str
    text: str
    severity: Severity


def find_caveats(records: Mapping[str, pd.DataFrame]) -> list[Caveat]:
    """Every caveat of a run, the serious ones first.

    Args:
        records: One frame a study, and `failures`, as the record store returns them.
    """
    failures = records.get(FAILURES, pd.DataFrame(columns=["study", "sample_id", "error"]))
    of_study = failures["study"].astype(str).str.partition("/")[0] if len(failures) else failures["study"]
    names = dict.fromkeys([*(name for name in records if name != FAILURES), *of_study])
    everything = {str(sample) for name in names for sample in records.get(name, _NOTHING)["sample_id"]}
    found = []
    for name in names:
        frame, failed = records.get(name, _NOTHING), failures[of_study == name]
        findings = [*failed_samples(failed), *unfinished(everything, frame, failed)]
        if len(frame):
            findings += [finding for rule in RULES for finding in rule(frame)]
        found += [Caveat(name, *finding) for finding in findings]
    return sorted(found, key=lambda caveat: SEVERITIES.index(caveat.severity))


def caveat_counts(caveats: Sequence[Caveat]) -> str:
    """How many caveats there are of each severity, in words."""
    counts = {name: sum(caveat.severity == name for caveat in caveats) for name in SEVERITIES}
    listed = [f"{count} {name if count == 1 else _PLURALS[name]}" for name, count in counts.items() if count]
    return ", ".join(listed) or "none"


def caveat_line(caveats: Sequence[Caveat]) -> str:
    """One line for a terminal: how many caveats of each severity, and what all but the notes are about."""
    topics: dict[str, dict[str, None]] = {}
    for caveat in caveats:
        if caveat.severity != "note":
            topics.setdefault(caveat.study, {})[caveat.topic] = None
    about = "; ".join(f"{study}: {', '.join(named)}" for study, named in topics.items())
    return f"Caveats: {caveat_counts(caveats)}{f' ({about})' if about else ''}."
