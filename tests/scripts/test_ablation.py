from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from parsed_page import read_page
from selfchain import ablation_page, print_ablation
from sevila.report.page import Heading
from sevila.report.timeline import Example, Timeline


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


def test_the_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for run in ("eval_uniform", "pretrained"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "report.html").write_text("x")
    pages = {name: tmp_path / name / "report.html" for name in ("eval_uniform", "pretrained", "uniform")}
    examples = [Heading("Examples"), Example(LINE, [IMAGE])]
    ablation_page(path, ROWS, examples, {"seed": "7", "world": "<drawn>"}, chance=20.0, pages=pages)
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
    links = list(zip(page.texts["a"], (link["href"] for link in page.all("a")), strict=True))
    assert links == [("uniform", "eval_uniform/report.html"), ("pretrained", "pretrained/report.html")]
    assert page.texts["h2"] == ["Examples"] and len(page.all("article", "wrong")) == 1


def test_bars_are_the_numbers_and_guessing_is_marked(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"keyframe_recall": None, "keyframe_hit": None}, ROWS[1]]
    ablation_page(tmp_path / "report.html", rows, [], {}, chance=20.0)
    page = read_page(tmp_path / "report.html")
    bars = [values["style"] for values in page.all("span") if "style" in values]
    assert bars == ["width: 24.5%", "width: 55.25%", "width: 71.0%", "width: 90.125%"]
    assert [mark["style"] for mark in page.all("i")] == ["left: 20.0%"] * 2
    assert page.texts["figcaption"][0].endswith("The mark in the bars of accuracy: guessing, 20 %.")
    assert "h2" not in page.tags and "dl" not in page.tags
    ablation_page(tmp_path / "report.html", rows, [], {})
    page = read_page(tmp_path / "report.html")
    assert not page.all("i") and "guessing" not in page.texts["figcaption"][0]
