"""What a reader of a run's numbers has to know, collected from its records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from dmlik_pl.plain_text import for_markdown
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.coverage import coverage_of_study, failures_of, named_studies
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.page.caveat_gaps import failed_samples, unfinished
from dmlik_pl.results.page.caveat_rows import Severity
from dmlik_pl.results.page.caveat_rules import RULES

__all__ = ["Caveat", "caveat_counts", "caveat_line", "find_caveats", "markdown_list"]

SEVERITIES: tuple[Severity, ...] = ("serious", "caution", "note")
_PLURALS = {"serious": "serious", "caution": "cautions", "note": "notes"}
_LONGEST = 4000  # letters
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


def find_caveats(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[Caveat]:
    """Every caveat of a run, the serious ones first.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: What could not be made of the records so far, which is a caveat too.
    """
    attempts = attempts or Attempts()
    names, found = named_studies(records), []
    # Where the records do not say what the run is of, it is what any of its studies has.
    everything = {str(sample) for name in names for sample in records.get(name, _NOTHING)["sample_id"]}
    for name in names:
        frame, failed, covered = (
            records.get(name, _NOTHING),
            failures_of(records, name),
            coverage_of_study(records, name),
        )
        missing: Collection[str] = covered.missing
        run = covered.expected
        if run is None:
            missing, run = everything - {*frame["sample_id"], *failed["sample_id"]}, len(everything)
        kind = kind_of(name, frame)
        rules = [partial(failed_samples, failed), partial(unfinished, missing, run, kind, frame)]
        rules += [partial(rule, kind, frame) for rule in RULES if len(frame)]
        for rule in rules:
            with attempts.making("A caveat", name):
                found += [Caveat(name, *finding) for finding in rule()]
    found += [Caveat(study or "run", "report", text, "serious") for study, text in attempts.unmade]
    return sorted(found, key=lambda caveat: SEVERITIES.index(caveat.severity))


def markdown_list(caveats: Sequence[Caveat]) -> str:
    """Caveats as a list in Markdown."""
    return "\n".join(
        f"- {for_markdown(', '.join(filter(None, (each.severity.capitalize(), each.study, each.topic))))}: "
        f"{for_markdown(each.text, _LONGEST)}"
        for each in caveats
    )


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
            topics.setdefault(caveat.study.replace("_", " "), {})[caveat.topic] = None
    about = "; ".join(f"{study}: {', '.join(named)}" for study, named in topics.items())
    return f"Caveats: {caveat_counts(caveats)}{f' ({about})' if about else ''}."
