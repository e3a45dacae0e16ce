"""What a run need not measure again, and when it had better stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from dmlik_pl.data.base import EvaluationData, Identity
from dmlik_pl.plain_text import terminal
from dmlik_pl.records.origin import Expected, write_parts, write_samples
from dmlik_pl.records.sharing import offers, take_over
from dmlik_pl.records.store import RecordStore, Unit

__all__ = ["PATIENCE", "Patience", "resume"]

PATIENCE = 3  # samples; if a study can measure none of the first, a setting is wrong and not the samples

_NAMED = 5  # samples that a message names; it counts the others


def resume(folder: Path, parts: Mapping[str, str], data: EvaluationData) -> dict[str, set[str]]:
    """Find out which results a run folder, or another beside it, holds of the present samples.

    Samples of which there are results are looked at: read again, unless where and when they were read from says that
    they are the same. The folder then says what the run is of, and records of anything else count no more.

    Args:
        folder: The run folder.
        parts: Digests of what is computed, by unit.
        data: The samples.

    Returns:
        The finished samples of each unit.
    """
    console = terminal(stderr=True)
    names = data.sample_ids()
    write_parts(folder, parts)
    own = [unit for unit in RecordStore(folder).units() if unit.error is None]
    offered = offers(folder, names)
    known: dict[str, list[Identity]] = {}
    for unit in [*own, *(unit for units in offered.values() for unit in units)]:
        known.setdefault(unit.sample_id, []).append(Identity(unit.origin.fingerprint, unit.origin.stamp))
    known = {name: known[name] for name in names if name in known}
    with console.status(f"Checking {len(known)} samples that have results for changes ...") if known else _Quiet():
        present = dict(data.identities(known))
    expected = {name: Expected() for name in names}
    expected |= {name: Expected(each.fingerprint, each.stamp) for name, each in present.items()}
    write_samples(folder, expected)
    for other, count in take_over(folder, offered).items():
        console.print(f"Taken over from {other}: {count} results of the same settings.", soft_wrap=True)
    done = RecordStore(folder).done()
    for line in [*_changes(own, parts, expected), *_finished(folder, parts, names, done)]:
        console.print(line, soft_wrap=True)
    return done


def _changes(own: Sequence[Unit], parts: Mapping[str, str], expected: Mapping[str, Expected]) -> list[str]:
    """What in a run folder no longer counts, in sentences."""
    gone = dict.fromkeys(unit.sample_id for unit in own if unit.sample_id not in expected)
    there = [unit for unit in own if unit.sample_id in expected]
    same = {unit.sample_id for unit in there if unit.origin.fingerprint == expected[unit.sample_id].fingerprint}
    changed = dict.fromkeys(unit.sample_id for unit in there if unit.sample_id not in same)
    good = {(unit.study, unit.sample_id) for unit in there if parts.get(unit.study) == unit.origin.part}
    stale = {(unit.study, unit.sample_id) for unit in there if unit.sample_id in same} - good
    lines = []
    if changed:
        lines.append(f"Changed, and measured again: {len(changed)} of {len(expected)} samples ({_some(changed)}).")
    if gone:
        lines.append(f"No longer in the data, and left out: {len(gone)} measured samples ({_some(gone)}).")
    if stale:
        lines.append(f"Made with other weights, code or settings, and measured again: {len(stale)} results.")
    return lines


def _finished(
    folder: Path, parts: Mapping[str, str], names: Sequence[str], done: Mapping[str, AbstractSet[str]]
) -> list[str]:
    finished = set(names).intersection(*(done.get(unit, set()) for unit in parts))
    return [f"Resuming {folder}: {len(finished)} of {len(names)} samples are done."] if finished else []


def _some(names: Mapping[str, None]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


class _Quiet:
    """Shows nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class Patience:
    """Ends a run early whose first samples all fail in the same study: a setting is wrong then, and not the samples.

    The records of all processes decide, so that a run ends alike on one process and on many, at once or resumed.

    Args:
        folder: The run folder.
        left: Names of the samples that this start is to measure, in order.
        done: What is finished already, by unit.
    """

    def __init__(self, folder: Path, left: Sequence[str], done: Mapping[str, AbstractSet[str]]) -> None:
        self._folder = folder
        self._first = set(left[:PATIENCE])
        self._before = RecordStore(folder).lines()
        self._settled = {unit.partition("/")[0] for unit, samples in done.items() if samples}

    def check(self, unit: str, error: str) -> None:
        """Look whether a failure is the last straw.

        Args:
            unit: Study or "study/part" that failed.
            error: What went wrong.

        Raises:
            ValueError: If each of the first samples has failed in this start, and none was ever measured.
        """
        study = unit.partition("/")[0]
        if study in self._settled or len(self._first) < PATIENCE:
            return
        units = RecordStore(self._folder).units(self._before)
        own = [each for each in units if each.study.partition("/")[0] == study]
        if any(each.error is None for each in own):
            self._settled.add(study)
        elif self._first <= {each.sample_id for each in own}:
            raise ValueError(f"{study} could not measure the first {PATIENCE} samples: {error}")
