from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console

from sevila.report.figures import DPI, WIDTH
from sevila.report.metrics_table import curve_points, curves_figure, metric_rows, print_metrics, run_page
from sevila.report.timeline import Timeline, describe

METRICS = {  # sorted, as metrics.json is
    "accuracy": 61.25,
    "accuracy_by_type": {"CW": 60.0, "D": 70.125},
    "keyframe_hit": 90.1,
    "keyframe_recall": 70.0,
    "mAP@0.5": 33.333,
    "n": 400,
}
RECORDS = [
    {"step": 10, "epoch": 0, "lr": 1e-4, "train/loss": 2.5, "train/yes_share": 0.25},
    {"step": 20, "epoch": 0, "lr": 1e-4, "train/loss": 1.25, "train/yes_share": 0.25},
    {"step": 20, "epoch": 1, "val/accuracy": 55.0, "val/keyframe_hit": 80.0},
    {"step": 30, "epoch": 1, "lr": 1e-4, "train/loss": 0.75, "train/yes_share": 0.25},
    {"step": 30, "epoch": 1, "val/accuracy": 60.0, "val/keyframe_hit": 70.0},
]
LINE = Timeline("what?", ("a", "b"), 0, None, (0.75, 0.25), (0.5, 1.5), None, (1,), None, 2.0)
IMAGE = np.zeros((4, 4, 3), np.uint8)


def test_rows_are_in_reading_order() -> None:
    assert metric_rows(METRICS) == [
        ("accuracy", 61.25),
        ("accuracy, CW", 60.0),
        ("accuracy, D", 70.125),
        ("keyframe recall", 70.0),
        ("keyframe hit", 90.1),
        ("mAP@0.5", 33.333),
        ("n", 400),
    ]
    assert metric_rows({"n": 3, "accuracy": 1.0, "accuracy_by_type": {}}) == [("accuracy", 1.0), ("n", 3)]


def test_the_printed_table() -> None:
    out = io.StringIO()
    print_metrics(METRICS | {"accuracy_by_type": {"[b]": None}}, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert [line.rsplit(maxsplit=1) for line in lines if set(line) != {"-"}] == [
        ["metric", "value"],
        ["accuracy", "61.25"],
        ["accuracy, [b]", "-"],
        ["keyframe recall", "70.00"],
        ["keyframe hit", "90.10"],
        ["mAP@0.5", "33.33"],
        ["n", "400"],
    ]
    assert len({len(line) for line in lines}) == 1 and out.getvalue().isascii()


def test_curves_are_the_loss_and_the_validation_metrics() -> None:
    points = curve_points(RECORDS)
    assert list(points.items()) == [
        ("train/loss", [(10, 2.5), (20, 1.25), (30, 0.75)]),
        ("val/accuracy", [(20, 55.0), (30, 60.0)]),
        ("val/keyframe_hit", [(20, 80.0), (30, 70.0)]),
    ]
    panels = curves_figure(RECORDS).axes
    assert [panel.get_label() for panel in panels] == list(points)
    for panel, expected in zip(panels, points.values(), strict=True):
        np.testing.assert_array_equal(panel.lines[0].get_xydata(), expected)
        assert panel.get_title("left") == panel.get_label() and panel.get_xlim()[0] == 0
    assert not any(a.get_position().overlaps(b.get_position()) for a, b in pairwise(panels))


def test_a_training_run(tmp_path: Path, read_page) -> None:
    run_page(tmp_path / "report.html", "runs/<x>", METRICS, RECORDS, [(LINE, [IMAGE])])
    page = read_page(tmp_path / "report.html")
    assert page.texts["h1"] == ["runs/<x>"] and page.texts["h2"] == ["Training", "Examples"]
    assert page.cells[1:3] == [["accuracy", "61.25"], ["accuracy, CW", "60.00"]] and page.cells[-1] == [
        "n",
        "400",
    ]
    assert all([number for _, number, _ in row] == [False, True] for row in page.rows)
    (curves, words), (_, alt) = page.images
    assert curves.shape == (round(2 * 2.75 * DPI), round(WIDTH * DPI), 3)
    assert words == (
        "Curves over the training steps: train/loss ends at 0.75; val/accuracy ends at 60; val/keyframe_hit ends at 70."
    )
    assert alt == describe(LINE)


def test_an_evaluation_has_no_curves(tmp_path: Path, read_page) -> None:
    run_page(tmp_path / "report.html", "eval", METRICS)
    page = read_page(tmp_path / "report.html")
    assert page.images == [] and "h2" not in page.tags and len(page.rows) == 8


def test_a_run_without_metrics_still_has_a_page(tmp_path: Path, read_page) -> None:
    run_page(tmp_path / "report.html", "train", {}, RECORDS[:1])
    page = read_page(tmp_path / "report.html")
    assert page.rows == [] and len(page.images) == 1
