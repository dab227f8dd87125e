"""scripts/compare_runs.py: the questions that only the second of two evaluations answers rightly, on one page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

import compare_runs
from parsed_page import read_page
from sevila.benchmarks.synthetic import Synthetic
from sevila.data.records import Question

VIDEOS = {"train_videos": 1, "val_videos": 1, "test_videos": 2, "moment_train_videos": 1, "moment_val_videos": 1}
FRAMES = [{"index": i, "time": i / 4 + 0.125} for i in range(0, 64, 8)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"name": "synthetic", "root": str(tmp_path_factory.mktemp("world")), "seed": 515, **VIDEOS}


@pytest.fixture(scope="module")
def questions(data: dict[str, Any]) -> Sequence[Question]:
    return Synthetic(data["root"], 515, **VIDEOS).questions("test")


def evaluated(
    folder: Path, data: dict[str, Any], questions: Sequence[Question], selector: str, wrong: Sequence[int]
) -> Path:
    """A run that answers all but some questions rightly; the Localizer's frames have scores."""
    frames = [{**frame, "score": float(i) if selector == "localizer" else None} for i, frame in enumerate(FRAMES)]
    rows = []
    for i, question in enumerate(questions):
        prediction = (question.answer + (i in wrong)) % len(question.options)
        logits = [2.0 * (j == prediction) for j in range(len(question.options))]
        row = {"qid": question.qid, "prediction": prediction, "option_logits": logits}
        rows.append({**row, "frames": frames, "keyframes": frames[1:5]})
    folder.mkdir()
    config = {"entry": "eval", "data": data, "split": "test", "selector": {"name": selector, "k": 4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_only_questions_that_the_second_gains_are_shown(
    data: dict[str, Any], questions: Sequence[Question], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluated(tmp_path / "first", data, questions, "uniform", [0, 2, 3, 5])
    second = evaluated(tmp_path / "second", data, questions, "localizer", [1, 3])
    out = tmp_path / "page.html"
    assert compare_runs.main([str(first), str(second), "--out", str(out), "--number", "3"]) == 0
    assert "3 questions that only" in capsys.readouterr().out
    page = out.read_text()
    gained = [questions[i] for i in (0, 2, 5)]
    headings = [f"{question.qid}, {question.video}: {question.question}" for question in gained]
    assert read_page(out).texts["h2"] == headings
    total = len(questions)
    for name, number in (("both right", total - 5), ("only the first right", 1), ("only the second", 3), ("both w", 1)):
        (counted,) = [row[1] for row in read_page(out).cells if row[0].startswith(name)]
        assert counted == str(number), name
    pairs = page.split('<div class="beside">')[1:]
    assert len(pairs) == 3
    for pair, question in zip(pairs, gained, strict=True):
        before, after = map(unescape, re.findall(r'class="area" role="img" aria-label="([^"]*)"', pair))
        assert question.question in before and question.question in after and "<h3>" not in pair
        assert ": wrong, the right one is" in before and ": right. Keyframes at 2.12 s" in after
    assert compare_runs.main([str(first), str(second), "--out", str(out), "--number", "2"]) == 0
    assert out.read_text().count('<div class="beside">') == 2


def test_runs_that_cannot_be_compared(
    data: dict[str, Any], questions: Sequence[Question], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluated(tmp_path / "run", data, questions, "uniform", [])
    other = evaluated(tmp_path / "other", {**data, "seed": 516}, questions, "localizer", [])
    fewer = evaluated(tmp_path / "fewer", data, questions[:-1], "localizer", [])
    moments = evaluated(tmp_path / "moments", data, questions, "localizer", [])
    (moments / "predictions.jsonl").write_text(json.dumps({"qid": "a", "windows": []}) + "\n")
    (tmp_path / "empty").mkdir()
    for second, message in (
        (other, "other/config.yaml: its data is not that of"),
        (fewer, "fewer/predictions.jsonl: its questions are not those of data synthetic"),
        (moments, "moments/predictions.jsonl: holds no answers with keyframes"),
        (tmp_path / "empty", "empty: has no config.yaml; expected the folder of a finished sevila.eval"),
    ):
        assert compare_runs.main([str(run), str(second), "--out", str(tmp_path / "p.html")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert compare_runs.main([str(run), str(run), "--out", str(tmp_path / "p.txt")]) == 2
    assert "expected a name that ends in .html" in capsys.readouterr().err
    assert not list(tmp_path.glob("p.*"))
