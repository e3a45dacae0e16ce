"""N-best lists for tests: the paper's where they are at hand, and made ones whose every statistic is known.

Made lists are of four kinds, ten lists of each, with references of ten words and 259 characters:

| kind | word errors | acoustic score | likelihood |
|---|---|---|---|
| a | 1 | -1 | 10 |
| b | 0, 2 | -1, -2 | 5, 6 |
| c | 1, 0, 4 | -1, -2, -3 | 1, 3, 2 |
| d | 3, 3, 0, 6 | -1, -1, -2, -3 | 1, 2, 3, 4 |

The acoustic score chooses 1, 0, 1 and 3 errors, the likelihood 1, 2, 0 and 6, and the sum of both with a weight between
1/2 and 1 chooses 1, 0, 0 and 3.
"""

import gzip
from pathlib import Path

import pytest

PAPER = Path(__file__).parents[2] / "shared" / "paper" / "nbest"
"""The authors' lists lie beside the repository, not in it: there is no licence to redistribute them."""

KINDS = {
    "a": [(1, -1, 10)],
    "b": [(0, -1, 5), (2, -2, 6)],
    "c": [(1, -1, 1), (0, -2, 3), (4, -3, 2)],
    "d": [(3, -1, 1), (3, -1, 2), (0, -2, 3), (6, -3, 4)],
}
COPIES = 10
WORDS = [f"{letter * 24}s" for letter in "abcdefghij"]
RATES = {
    "acoustic": 12.5,
    "likelihood": 22.5,
    "acoustic + w likelihood": 10.0,
    "random (expected)": 100 * (1 + 1 + 5 / 3 + 3) / 40,
    "oracle best": 2.5,
    "oracle worst": 32.5,
}
"""Word error rates in per cent: 5, 9, 4, 6 2/3, 1 and 13 errors in four lists of ten words."""


def paper_lists(name: str) -> Path:
    """The file of the authors' lists, "wav2vec2_lm" or "whisper_base"."""
    path = PAPER / f"nbest_{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"the paper's n-best lists are not in {PAPER}, and may not be redistributed")
    return path


def write_made_lists(path: Path) -> Path:
    """Write the made lists as CSV, packed if the name ends with .gz; the column `errors` holds what is known."""
    lines = ["utterance_id,reference,hypothesis,am_score,gtts_ll,errors"]
    for copy in range(COPIES):
        for kind, hypotheses in KINDS.items():
            for row, (errors, acoustic, likelihood) in enumerate(hypotheses):
                heard = [f"wrong{row}"] * errors + WORDS[errors:]
                lines.append(f"{kind}{copy},{' '.join(WORDS)},{' '.join(heard)},{acoustic},{likelihood},{errors}")
    content = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
