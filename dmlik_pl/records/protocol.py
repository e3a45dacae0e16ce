"""Protocols: what the paper's code did, or what is right; and saying which it was.

Every study of the paper has an argument `protocol`. "repaired", the default, is how we would measure. "published" does
as the paper's code did, for numbers to compare with the printed ones. Such a study has an attribute or property
`deviations`: a tuple of phrases, one for each departure from good practice, as they apply to its settings; none under
"repaired". What the published code did and the study does not, for instance a plain bug, is a phrase too that begins
with "not reproduced:". :func:`protocol_columns` puts all this into each record, :func:`protocol_caption` takes it out
again for the caption of a table, so that tables need to know nothing of the study. A table that itself does otherwise
under a protocol asks :func:`is_published`, and may say in its own words what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

__all__ = ["ProtocolName", "is_published", "protocol_caption", "protocol_columns"]

ProtocolName = Literal["repaired", "published"]

_BETWEEN = " | "


def protocol_columns(protocol: ProtocolName, deviations: Sequence[str]) -> dict[str, str]:
    """What a record says of its protocol.

    Args:
        protocol: The study's protocol.
        deviations: Its deviations, as phrases without a full stop.

    Raises:
        ValueError: If a phrase holds what separates phrases.
    """
    if unfit := [phrase for phrase in deviations if _BETWEEN in phrase]:
        raise ValueError(f"a deviation may not hold {_BETWEEN!r}: {unfit[0]!r}")
    return {"protocol": protocol, "deviations": _BETWEEN.join(deviations)}


def is_published(frame: pd.DataFrame) -> bool:
    """Whether records were made under the published protocol; those that say nothing were not."""
    return "protocol" in frame and bool((frame["protocol"] == "published").any())


def protocol_caption(frame: pd.DataFrame) -> str:
    """One sentence for a caption with the deviations of a frame of records; none for the repaired protocol."""
    if not is_published(frame):
        return ""
    texts = frame["deviations"].dropna().unique() if "deviations" in frame else []
    phrases = dict.fromkeys(phrase for text in texts for phrase in text.split(_BETWEEN) if phrase)
    return f"Published protocol: {'; '.join(phrases)}." if phrases else "Published protocol."
