"""Pictures and sounds find the likelihoods that belong to them."""

from pathlib import Path

import pandas as pd
import pytest

from dmlik_pl.records.sharing import picture_path, sound_path
from dmlik_pl.results.page.exhibits import exhibits

LABELS = ("guidance=1,size=data", "guidance=1,size=data,reconstructed", "guidance=7.5,size=data,reconstructed")


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def frame() -> pd.DataFrame:
    """Bits per dimension say what they are of: sample, guidance, reconstruction, stage."""
    return pd.DataFrame(
        {
            "sample_id": name,
            "kind": "time_sweep",
            "part": f"guidance={weight:g},size=data{',reconstructed' if again else ''}",
            "guidance": weight,
            "reconstructed": again,
            "size": 32,
            "prompt": f"a photo of {name}",
            "stage": "data" if time is None else "sample",
            "time": time,
            "bpd": float(f"{number}{int(weight)}{int(again)}.{0 if time is None else 1}"),
            "bpd_standard_error": 0.1,
        }
        for number, name in ((1, "x/1"), (2, "x/2"))
        for weight in (1.0, 7.5)
        for again in (False, True)
        for time in (None, 0.5)
    )


def test_each_part_has_its_own_records(frame: pd.DataFrame, tmp_path: Path) -> None:
    for label in LABELS:
        write(picture_path(tmp_path, f"sweep/{label}", "x/2"))
    found = list(exhibits(tmp_path, "sweep", frame))
    assert [(shown.sample_id, shown.part) for shown in found] == [("x/2", label) for label in LABELS]
    assert [shown.bits_per_dim()["data"] for shown in found] == [(210.0, 0.1), (211.0, 0.1), (271.0, 0.1)]
    assert found[0].bits_per_dim()["t = 0.5"] == (210.1, 0.1)
    assert found[0].text == "a photo of x/2"


def test_sounds_keep_their_names(frame: pd.DataFrame, tmp_path: Path) -> None:
    whole = frame[(frame["guidance"] == 1) & ~frame["reconstructed"]].assign(reconstructed=False)
    paths = [write(sound_path(tmp_path, "speech", "x/1", name)) for name in ("source", "RK45-Euler")]
    (shown,) = exhibits(tmp_path, "speech", whole)
    assert shown.picture is None and shown.sounds == {"source": paths[0], "RK45-Euler": paths[1]}


def test_nothing_kept_is_nothing_shown(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert not list(exhibits(tmp_path, "sweep", frame))


def test_prompts_that_compete_show_the_likelihood_of_the_true_one(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        [
            {
                "sample_id": "one",
                "kind": "prompt_accuracy",
                "attribute": "colour",
                "truth": "red",
                "candidates": "red|blue",
                "scores": '{"red": -6.931471805599453, "blue": -9.0}',
                "scores_standard_error": '{"red": 1.3862943611198906, "blue": 9.0}',
                "dims": 10,
            }
        ]
    )
    write(picture_path(tmp_path, "prompts", "one"))
    (shown,) = exhibits(tmp_path, "prompts", rows)
    assert shown.bits_per_dim()["data"] == pytest.approx((1.0, 0.2))
