from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ablation import ablation_figure, ablation_page, print_ablation
from sevila.report.figures import DPI, WIDTH
from sevila.report.timeline import Timeline, describe


def row(name: str, selector: str, localizer: str | None, answerer: str, *numbers: float | None) -> dict:
    accuracy, recall, hit = numbers
    return {
        "row": name,
        "selector": selector,
        "localizer": localizer,
        "answerer": answerer,
        "k": 2,
        "accuracy": accuracy,
        "keyframe_recall": recall,
        "keyframe_hit": hit,
        "n": 160,
    }


ROWS = [
    row("uniform", "uniform", None, "zeroshot", 24.5, 13.25, 30.0),
    row("zero_shot", "localizer", "zeroshot", "zeroshot", 55.25, 71.0, 90.125),
    row("oracle", "oracle", None, "zeroshot", 78.0, 100.0, 100.0),
    row("pretrained_finetuned", "localizer", "pretrained", "finetuned", 74.38, 79.4, 94.0),
]
LINE = Timeline("what?", ("a", "b"), 0, 1, (0.75, 0.25), (0.5, 1.5), (1.0, 2.0), (1,), ((1.0, 2.0),), 2.0)
IMAGE = np.zeros((4, 4, 3), np.uint8)


def test_bars_are_the_numbers() -> None:
    (axes,) = ablation_figure(ROWS).axes
    accuracy, recall = axes.containers
    assert [bar.get_width() for bar in accuracy] == [24.5, 55.25, 78.0, 74.38]
    assert [bar.get_width() for bar in recall] == [13.25, 71.0, 100.0, 79.4]
    labels = [text.get_text() for text in axes.texts]
    assert labels[:4] == ["24.50", "55.25", "78.00", "74.38"]
    assert labels[4:8] == ["13.25", "71.00", "100.00", "79.40"]
    assert [text.get_text() for text in axes.get_yticklabels()] == [r["row"] for r in ROWS]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["accuracy", "keyframe recall"]
    assert axes.lines[:] == []


def test_groups_are_set_apart_under_their_headings() -> None:
    (axes,) = ablation_figure(ROWS).axes
    uniform, zero_shot, oracle, finetuned = axes.get_yticks()
    assert zero_shot - uniform == pytest.approx(1) == pytest.approx(oracle - zero_shot)
    assert finetuned - oracle > 2
    (first, first_y), (second, second_y) = [(t.get_text(), t.get_position()[1]) for t in axes.texts[8:]]
    assert (first, second) == ("zero-shot Answerer", "fine-tuned Answerer")
    assert first_y < uniform and oracle < second_y < finetuned  # the axis points down
    bottom, top = axes.get_ylim()
    assert bottom > finetuned > uniform > top


def test_chance_is_a_line() -> None:
    (axes,) = ablation_figure(ROWS, chance=20.0).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [20.0, 20.0] and line.get_label() == "chance (20 %)"


def test_unknown_recall_has_no_bar() -> None:
    rows = [ROWS[0] | {"keyframe_recall": None, "keyframe_hit": None}, ROWS[1]]
    (axes,) = ablation_figure(rows).axes
    accuracy, recall = axes.containers
    assert [bar.get_width() for bar in accuracy] == [24.5, 55.25]
    assert [(bar.get_width(), round(bar.get_y() + 0.19, 6)) for bar in recall] == [
        (71.0, round(axes.get_yticks()[1] + 0.2, 6))
    ]
    (axes,) = ablation_figure([rows[0]]).axes
    assert len(axes.containers) == 1


def test_nothing_is_cut_off_and_names_do_not_overlap() -> None:
    figure = ablation_figure([*ROWS, ROWS[-1] | {"row": r"$\frac$"}], chance=20.0)  # no formula
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    (axes,) = figure.axes
    box = axes.get_tightbbox(renderer)
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    names = [*axes.get_yticklabels(), *axes.texts[8:]]
    boxes = [name.get_window_extent(renderer) for name in names]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def printed(rows: list[dict], width: int = 80) -> list[str]:
    out = io.StringIO()
    print_ablation(rows, Console(file=out, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_printed_table() -> None:
    title, header, rule, *body = printed(ROWS)
    assert title == "percent, k = 2 keyframes, n = 160 questions"
    assert header.split() == ["row", "selector", "localizer", "answerer", "accuracy", "recall", "hit"]
    assert set(rule) == {"-"}
    assert [line.split() for line in body[:3]] == [
        ["uniform", "uniform", "-", "zeroshot", "24.50", "13.25", "30.00"],
        ["zero_shot", "localizer", "zeroshot", "zeroshot", "55.25", "71.00", "90.12"],
        ["oracle", "oracle", "-", "zeroshot", "78.00", "100.00", "100.00"],
    ]
    assert set(body[3]) == {"-"}  # between the groups
    assert body[4].split() == [
        "pretrained_finetuned",
        "localizer",
        "pretrained",
        "finetuned",
        "74.38",
        "79.40",
        "94.00",
    ]
    assert len(body) == 5 and all(line.isascii() for line in (title, header, rule, *body))
    assert len({line.rindex(".") for line in (*body[:3], body[4])}) == 1  # right-aligned


def test_what_differs_between_rows_gets_a_column_and_markup_is_text() -> None:
    rows = [ROWS[0] | {"row": "[red]x", "keyframe_hit": None}, ROWS[1] | {"k": 4, "n": 99}]
    title, header, _, first, second = printed(rows, width=100)
    assert title == "percent"
    assert header.split()[4:] == ["k", "accuracy", "recall", "hit", "n"]
    assert first.split() == ["[red]x", "uniform", "-", "zeroshot", "2", "24.50", "13.25", "-", "160"]
    assert second.split()[4:] == ["4", "55.25", "71.00", "90.12", "99"]


def test_it_prints_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_ablation(ROWS)
    assert "pretrained_finetuned" in capsys.readouterr().out


def test_the_page(tmp_path: Path, read_page) -> None:
    path = tmp_path / "report.html"
    ablation_page(path, ROWS, [(LINE, [IMAGE])], {"seed": "7", "world": "<drawn>"}, chance=20.0)
    page = read_page(path)
    assert page.texts["dt"] == ["seed", "world"] and page.texts["dd"] == ["7", "<drawn>"]
    assert page.cells[0] == [
        "row",
        "selector",
        "localizer",
        "answerer",
        "k",
        "accuracy",
        "keyframe recall",
        "keyframe hit",
        "n",
    ]
    assert page.cells[1] == ["uniform", "uniform", "–", "zeroshot", "2", "24.50", "13.25", "30.00", "160"]
    assert [cells[0] for cells in page.cells[1:]] == [r["row"] for r in ROWS]
    bold = [(cells[0][0], text) for cells in page.rows for text, _, strong in cells if strong]
    assert bold == [("pretrained_finetuned", text) for text in ("74.38", "79.40", "94.00")]  # the oracle is out of it
    (chart, words), (example, alt) = page.images
    assert chart.shape[1] == example.shape[1] == WIDTH * DPI
    assert "oracle 78.00 and 100.00" in words and alt == describe(LINE)
    assert page.texts["h2"] == ["Examples"]


def test_a_page_without_examples_or_notes(tmp_path: Path, read_page) -> None:
    ablation_page(tmp_path / "report.html", ROWS, [], {})
    page = read_page(tmp_path / "report.html")
    assert len(page.images) == 1 and "h2" not in page.tags and "dl" not in page.tags
