from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsed_page import read_page
from sevila.report.page import write_page
from sevila.report.run_page import Axis, Charts, Curve, curves_of

RECORDS = [
    {"step": 10, "epoch": 0, "lr": 1e-4, "train/loss": 2.5, "train/yes_share": 0.25},
    {"step": 20, "epoch": 0, "lr": 1e-4, "train/loss": 1.25, "train/yes_share": 0.25},
    {"step": 20, "epoch": 1, "val/accuracy": 55.0, "val/keyframe_hit": 80.0},
    {"step": 30, "epoch": 1, "lr": 1e-4, "train/loss": 0.75, "train/yes_share": 0.25},
    {"step": 30, "epoch": 1, "val/accuracy": 60.0, "val/keyframe_hit": 70.0},
]


def test_curves_are_the_loss_and_the_validation_metrics() -> None:
    assert [(curve.name, curve.points) for curve in curves_of(RECORDS)] == [
        ("train/loss", [(10, 2.5), (20, 1.25), (30, 0.75)]),
        ("val/accuracy", [(20, 55.0), (30, 60.0)]),
        ("val/keyframe_hit", [(20, 80.0), (30, 70.0)]),
    ]
    assert [curve.title for curve in curves_of(RECORDS)] == [
        "training loss",
        "validation: accuracy, percent",
        "validation: keyframe hit, percent",
    ]


def test_a_small_change_does_not_look_like_a_leap() -> None:
    axis = Curve("val/frame_mAP", [(1, 96.88), (2, 96.89)]).values
    assert axis.high - axis.low == pytest.approx(10) and axis.low < 96.88 < 96.89 < axis.high <= 100
    flat = Curve("val/accuracy", [(1, 100.0), (2, 100.0)]).values
    assert (flat.low, flat.high) == (pytest.approx(90), 100)
    loss = Curve("train/loss", [(1, 2.0), (2, 1.9)]).values
    assert loss.low < 0 < 2.0 < loss.high  # from nothing on


numbers = st.floats(-1e4, 1e4).map(lambda number: round(number, 6))


@given(st.lists(numbers, min_size=1, max_size=8), st.floats(0, 20).map(lambda number: round(number, 6)))
def test_an_axis_holds_its_values_and_a_few_round_ticks(values: list[float], span: float) -> None:
    axis = Axis.around(values, span)
    assert axis.low < min(values) <= max(values) < axis.high and axis.high - axis.low >= span * (1 - 1e-9)
    assert all(0 <= axis.at(value) <= 100 for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 6 and ticks == sorted(set(ticks))
    assert all(-0.01 <= axis.at(tick) <= 100.01 for tick in ticks)


def test_ticks_are_round() -> None:
    assert Axis(0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Axis(3, 16).ticks() == [5, 10, 15]
    assert Axis(0, 3.09).ticks(whole=True) == [0, 1, 2, 3] == Axis(0, 3.09).ticks(10, whole=True)


def test_panels_show_every_value_and_mark_the_best_step(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "T", [Charts(curves_of(RECORDS), best=30)])
    page = read_page(tmp_path / "page.html")
    assert page.texts["figcaption"] == [
        "training loss: 0.75 at step 30",
        "validation: accuracy, percent: 60 at step 30 (orange: the best head)",
        "validation: keyframe hit, percent: 70 at step 30 (orange: the best head)",
    ]
    assert page.texts["title"][1:4] == ["step 10: 2.5", "step 20: 1.25", "step 30: 0.75"]
    assert page.texts["p"] == ["training step"] * 3
    charts = Charts(curves_of(RECORDS))
    drawn = [(c["cx"], float(c["cy"][:-1])) for c in page.all("circle")]
    expected = [(f"{x}%", pytest.approx(100 - y)) for curve in charts.curves for x, y in charts.places(curve)]
    assert drawn == expected and len(page.all("circle", "key")) == 2
