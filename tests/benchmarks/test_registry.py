"""Every data set by its name, its config, and the full real annotation files."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest

from sevila.benchmarks import BENCHMARKS, STAR, TVQA, VLEP, How2QA, NExTGQA, NExTQA, QVHighlights
from sevila.config import load
from sevila.schema import named

NAMES = ["custom", "how2qa", "nextgqa", "nextqa", "qvhighlights", "star", "synthetic", "tvqa", "vlep"]
FILES = sorted(set(NAMES) - {"synthetic"})


def test_names() -> None:
    assert sorted(BENCHMARKS) == NAMES


@pytest.mark.parametrize("name", FILES)
def test_the_config_says_every_key_and_its_default(name: str, tmp_path: Path) -> None:
    config = load("eval", ["+exp=synthetic_eval", f"data={name}"]).data
    assert config["root"] == f"data/{name}"
    parameters = inspect.signature(BENCHMARKS[name]).parameters
    assert list(config) == ["name", *parameters]
    defaults = {key: value.default for key, value in parameters.items() if key != "root"}
    assert {key: config[key] for key in defaults} == defaults
    data = named("data", {**config, "root": str(tmp_path)}, BENCHMARKS)  # nothing is read before it is asked for
    assert data.name == name and data.dropped == []
    assert (data.question_splits or data.moment_splits) == ("train", "val", "test")
    assert data.prompts == ("event" if name == "vlep" else "question")


def test_values_from_the_command_line() -> None:
    words = ["data=how2qa", "data.val=my val.jsonl", "data.video_map=maps/a.json", "data.drop_bad_rows=true"]
    config = load("eval", ["+exp=synthetic_eval", *words]).data
    assert (config["val"], config["video_map"], config["drop_bad_rows"]) == ("my val.jsonl", "maps/a.json", True)


def test_every_row_of_the_real_files(shared: Path) -> None:
    folder = shared / "annotations"
    gsub, highlights = folder / "nextgqa/gsub_val.json", folder / "qvhighlights"
    started = time.monotonic()
    found = {
        "nextqa": NExTQA.read_questions(folder / "nextqa/val.csv"),
        "nextgqa": NExTGQA.read_questions(folder / "nextgqa/val.csv", windows=gsub),
        "star": STAR.read_questions(folder / "star/star_val_unified.json"),
        "star_raw": STAR.read_questions(folder / "star/STAR_raw_one_row.json"),
        "vlep": VLEP.read_questions(folder / "vlep/vlep_dev_release.jsonl"),
        "how2qa": How2QA.read_questions(folder / "how2qa/how2qa_val_release.jsonl"),
        "tvqa_plus": TVQA.read_questions(folder / "tvqa/tvqa_plus_val.json"),
        "tvqa": TVQA.read_questions(folder / "tvqa/tvqa_test_public.jsonl"),
        "qvh_train": QVHighlights.read_moments(highlights / "highlight_train_release.jsonl"),
        "qvh_val": QVHighlights.read_moments(highlights / "highlight_val_release.jsonl"),
        "qvh_test": QVHighlights.read_moments(highlights / "highlight_test_with_gt.jsonl"),
    }
    assert time.monotonic() - started < 10
    assert {name: len(records) for name, records in found.items()} == {
        "nextqa": 4996,
        "nextgqa": 3358,
        "star": 7098,
        "star_raw": 1,
        "vlep": 4392,
        "how2qa": 3115,
        "tvqa_plus": 3017,
        "tvqa": 7623,
        "qvh_train": 7218,
        "qvh_val": 1550,
        "qvh_test": 1542,
    }
    for records in found.values():
        assert len({record.qid for record in records}) == len(records)
    options = {"nextqa": 5, "nextgqa": 5, "star": 4, "vlep": 2, "how2qa": 4, "tvqa_plus": 5, "tvqa": 5}
    for name, count in options.items():
        assert {len(question.options) for question in found[name]} == {count}
    for name in ("nextqa", "nextgqa", "star", "vlep", "how2qa", "tvqa_plus"):
        assert {question.answer for question in found[name]} == set(range(options[name]))
    assert all(question.clip is None for name in ("nextqa", "nextgqa") for question in found[name])
    clipped = [question for name in ("star", "vlep", "how2qa", "tvqa_plus") for question in found[name]]
    assert all(question.clip is not None and 0 <= question.clip[0] <= question.clip[1] for question in clipped)
    assert len({question.video for question in found["nextqa"]}) == 570
    counts = {kind: sum(question.qtype == kind for question in found["star"]) for kind in ("Sequence", "Feasibility")}
    assert counts == {"Sequence": 3586, "Feasibility": 490}
