"""Samples that belong together, such as the utterances of one speaker: named by what the records know of them.

A cluster is a property of the sample, so a name that one study of a run records holds for all of its studies. Any
column that is the same in all records of a sample will do: an attribute (speaker, class), the text, or what prompts
compete about; besides, `image` is the image of which samples are captions, and `folder` the folder of their files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import CLUSTER, clusters_of, image_of
from dmlik_pl.records.store import RecordStore, read, studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.kinds import kind_of

__all__ = ["NAMED", "check_cluster", "clustered", "clusters_in_words", "records_of", "settings_of"]

NAMED: dict[str, Callable[[str], str]] = {"image": image_of, "folder": lambda sample_id: sample_id.rpartition("/")[0]}
"""Clusters that the names of the samples tell."""

_TEXTS = ("text", "prompt")


def clustered(records: Mapping[str, pd.DataFrame], name: str) -> dict[str, pd.DataFrame]:
    """Records that know the cluster of their sample, by which :func:`dmlik_pl.records.frames.clusters_of` finds it.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        name: By what; empty for nothing but the captions of one image. A sample without it is a cluster of its own.

    Raises:
        ValueError: If no study has a record of it, or it differs within a sample.
    """
    if not name:
        return dict(records)
    labels = _labels(records, name)
    found = dict(records)
    for study, frame in studies(records).items():
        samples = frame["sample_id"].astype(str)
        found[study] = frame.assign(**{CLUSTER: [labels.get(sample, f"{sample} alone") for sample in samples]})
        found[study].attrs[CLUSTER] = name
    return found


def records_of(folder: Path, cluster: str | None = None, attempts: Attempts | None = None) -> dict[str, pd.DataFrame]:
    """The records of a run with the clusters of their samples; those that were not merged yet are merged.

    Args:
        folder: The run folder.
        cluster: What samples are clustered by; empty for nothing, None for what the run's configuration says.
        attempts: Keeps that the configuration's name will not do; without, it is logged only.

    Raises:
        FileNotFoundError: If the folder holds no records.
        ValueError: If the samples cannot be clustered by the name that is given.
    """
    store = RecordStore(folder)
    records = store.finalise() if any(store.folder.glob("rank*.jsonl")) else read(folder)
    if cluster is not None:
        return clustered(records, cluster)
    with (attempts or Attempts()).making("Errors over clusters of samples"):
        return clustered(records, str(settings_of(folder).get("cluster") or ""))
    return records


def settings_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run; empty where there is none.

    Raises:
        ValueError: If it is no YAML.
    """
    path = folder / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    return settings if isinstance(settings, dict) else {}


def clusters_in_words(frame: pd.DataFrame) -> str:
    """What the samples of a study are clustered by, for a caption: "Clustered by speaker (8)."; empty: by nothing."""
    clusters = clusters_of(frame)
    if clusters is None:
        return ""
    name, count = frame.attrs.get(CLUSTER, ""), len(set(clusters))
    if not name and count == frame["sample_id"].nunique():
        return ""
    return f"Clustered by {one_line(name or 'image')} ({count}{'' if count > 1 else ', which gives no error'})."


def check_cluster(name: str, attributes: Mapping[str, object]) -> None:
    """See whether samples can be clustered by a name before anything of them is recorded.

    Args:
        name: The name; empty for nothing.
        attributes: The attributes of a sample.

    Raises:
        ValueError: If not.
    """
    if name and name not in (known := [*attributes, *NAMED, *_TEXTS]):
        raise ValueError(f"cluster: the samples have no {name!r} to be clustered by; they have {', '.join(known)}")


def _labels(records: Mapping[str, pd.DataFrame], name: str) -> dict[str, str]:
    """The cluster of each sample that has one."""
    pairs = list(_pairs(records, name))
    if not pairs:
        known = ", ".join(dict.fromkeys(_known(records)))
        raise ValueError(f"the records have no {name!r} to cluster samples by; they have {known}")
    labels: dict[str, str] = {}
    for sample, label in pairs:
        if labels.setdefault(sample, label) != label:
            raise ValueError(
                f"samples cannot be clustered by {name!r}, which differs within the sample {one_line(sample)!r}: "
                f"{one_line(labels[sample])!r} and {one_line(label)!r}"
            )
    return labels


def _pairs(records: Mapping[str, pd.DataFrame], name: str) -> Iterator[tuple[str, str]]:
    """Samples with their labels, as the records of each study have them."""
    for frame in studies(records).values():
        rows = frame.iloc[:0]
        if name in frame and name != "sample_id":
            rows = frame[frame[name].notna()].assign(label=lambda known: known[name])
        elif {"attribute", "truth"} <= set(frame.columns) and (frame["attribute"] == name).any():
            rows = frame[frame["attribute"] == name].assign(label=lambda known: known["truth"])
        elif name in NAMED:
            rows = frame.assign(label=frame["sample_id"].astype(str).map(NAMED[name]))
        if len(rows):
            yield from rows[["sample_id", "label"]].astype(str).drop_duplicates().itertuples(index=False, name=None)


def _known(records: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What samples may well be clustered by."""
    for study, frame in studies(records).items():
        schema = kind_of(study, frame).schema
        yield from (str(name) for name in frame if schema.is_attribute(str(name)) and frame[name].notna().any())
        yield from (str(name) for name in frame.get("attribute", pd.Series(dtype=str)).dropna().unique())
        yield from (name for name in _TEXTS if name in frame)
    yield from NAMED
