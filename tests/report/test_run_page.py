from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from answered import IMAGES, LINE
from parsed_page import ParsedPage, read_page
from sevila.report.page import Heading
from sevila.report.run_page import metric_rows, print_metrics, run_page
from sevila.report.timeline import Example

METRICS = {  # sorted, as metrics.json is
    "accuracy": 61.25,
    "accuracy_by_type": {"CW": 60.0, "D": 70.125},
    "keyframe_hit": 90.1,
    "keyframe_recall": 70.0,
    "mAP@0.5": 33.333,
    "n": 400,
}
CONFIG: dict[str, Any] = {
    "entry": "train",
    "exp": "synthetic_<forward>",
    "task": {"name": "answer"},
    "precision": "bf16",
    "seed": 7,
    "localizer": "zeroshot",
    "answerer": "zeroshot",
    "model": {"source": "Salesforce/blip2-flan-t5-xl"},
    "data": {"name": "nextqa", "root": "/data"},
    "selector": {"name": "localizer", "k": 4},
    "scorer": {"name": "localizer"},
    "frames": {"n": 32},
    "trainer": {"epochs": 10, "batch_size": 16, "lr": 3e-5},
}
ENVIRONMENT: dict[str, Any] = {
    "sevila": "1.0",
    "python": "3.12",
    "packages": {"torch": "2.6", "av": None},
    "platform": "Linux",
    "device": "cuda:0",
    "commit": "abc+changes",
    "started": "2026-11-28T06:06:48+00:00",
}
RECORDS = [{"step": 10, "train/loss": 2.5}, {"step": 20, "train/loss": 1.25}, {"step": 20, "val/accuracy": 55.0}]


def facts(page: ParsedPage) -> dict[str, str]:
    return dict(zip(page.texts["dt"], page.texts["dd"], strict=True))


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


def test_a_training_run(tmp_path: Path) -> None:
    blocks = [Heading("Answered rightly: 1 of 2"), Example(LINE, IMAGES)]
    run_page(tmp_path, CONFIG, ENVIRONMENT, METRICS | {"step": 20}, RECORDS, blocks)
    page = read_page(tmp_path / "report.html")
    assert page.texts["h1"] == [f"synthetic_<forward>: {tmp_path.name}"]
    assert page.texts["h2"] == ["Training", "Answered rightly: 1 of 2"] and len(page.all("article")) == 1
    assert page.cells[1:3] == [["accuracy", "61.25"], ["accuracy, CW", "60.00"]] and page.cells[-1] == ["n", "400"]
    assert all([number for _, number, _ in row] == [False, True] for row in page.rows)
    assert [figure["class"] for figure in page.all("figure", "chart")] == ["chart", "chart"]
    assert facts(page) == {
        "Experiment": "train +exp=synthetic_<forward>",
        "Task": "answer",
        "Model": "Salesforce/blip2-flan-t5-xl, bf16",
        "Localizer": "zeroshot",
        "Answerer": "zeroshot",
        "Data": "nextqa",
        "Selector": "localizer, k = 4 of 32 frames",
        "Seed": "7",
        "Training": "10 epochs, batches of 16, lr 3e-05",
        "Best step": "20",
        "Versions": "sevila 1.0, python 3.12, torch 2.6",
        "Machine": "cuda:0; Linux",
        "Commit": "abc+changes",
        "Started": "2026-11-28 06:06:48+00:00",
    }


def test_an_evaluation_names_its_split_and_leads_to_the_runs_that_made_its_heads(tmp_path: Path) -> None:
    for name in ("R1", "R2", "chosen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").write_text("x")
    config = {key: value for key, value in CONFIG.items() if key != "trainer"} | {
        "split": "val",
        "model": {"source": "tiny"},
        "data": {"name": "synthetic", "seed": 3},
        "localizer": str(tmp_path / "R1"),
        "answerer": str(tmp_path / "R2/answerer.safetensors"),
        "selector": {"name": "stored", "k": 2, "file": str(tmp_path / "chosen/predictions.jsonl")},
        "scorer": {"name": "clip"},
    }
    run_page(tmp_path / "R4", config, ENVIRONMENT | {"commit": None}, METRICS)
    page = read_page(tmp_path / "R4/report.html")
    assert [link["href"] for link in page.all("a")] == [f"../{name}/report.html" for name in ("R1", "R2", "chosen")]
    assert page.texts["a"] == [config["localizer"], config["answerer"], config["selector"]["file"]]
    shown = page.texts["dd"]
    assert "synthetic, seed 3, split val" in shown and "stored, k = 2 of 32 frames, scores by clip" in shown
    assert "tiny (of the drawn world, good for that world alone), bf16" in shown and "not known" in shown
    assert "h2" not in page.tags and len(page.rows) == 8


def test_a_run_without_metrics_still_has_a_page(tmp_path: Path) -> None:
    run_page(tmp_path, CONFIG, ENVIRONMENT, {}, RECORDS[:1])
    page = read_page(tmp_path / "report.html")
    assert page.rows == [] and len(page.all("figure", "chart")) == 1


def test_hidden_answers_are_told(tmp_path: Path) -> None:
    run_page(tmp_path, CONFIG, ENVIRONMENT, {"n": 0})
    page = read_page(tmp_path / "report.html")
    assert page.cells[1:] == [["n", "0"]] and page.texts["p"][0].startswith("The answers of this split are hidden")
