"""How2QA: VALUE's jsonl and the older csv without a header."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sevila.benchmarks.how2qa import How2QA
from sevila.data.records import Question
from sevila.errors import UserError

ROW = {"vid_name": "25848", "ts": "36.58-58.52", "qid": 30351, "q": "What website?", "answer_idx": 2}
ROW |= {"a0": "A.", "a1": "A.", "a2": "Www.c.com.", "a3": "D."}  # real rows have equal options too


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_as_records(tmp_path: Path) -> None:
    point = {**ROW, "qid": 1, "ts": "61.14-61.14", "vid_name": "e_1134c"}
    long = {**ROW, "qid": 2, "ts": "4.87-65.95"}
    hidden = {key: value for key, value in ROW.items() if key != "answer_idx"} | {"qid": 3}
    questions = How2QA.read_questions(write(tmp_path / "f.jsonl", ROW, point, long, hidden))
    assert questions[0] == Question(
        qid="30351",
        video="25848",
        question="What website?",
        options=("A.", "A.", "Www.c.com.", "D."),
        answer=2,
        clip=(36.58, 58.52),
    )
    assert [q.clip for q in questions[1:3]] == [(61.14, 61.14), (4.87, 65.95)]
    assert questions[3].answer is None


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"ts": "36.58"}, "field ts: expected start and end in seconds, found '36.58' and ''"),
        ({"ts": [1, 2]}, "field ts: expected text, found [1, 2]"),
        ({"answer_idx": 4}, "field answer_idx: expected a whole number from 0 to 3, found 4"),
        ({"a3": None}, "field a3: missing"),
        ({"vid_name": ""}, "field vid_name: empty"),
    ],
)
def test_faults_name_file_line_and_field(tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    path = write(tmp_path / "f.jsonl", ROW, {**ROW, "qid": 5, **values})
    with pytest.raises(UserError) as caught:
        How2QA.read_questions(path)
    assert str(caught.value) == f"{path}, line 2, {problem}"


CSV = [
    "NOuQuofjk44,[7.2:18.0],10,12,16,how many knives?,1",
    'DUEyiEnMVj4,[12.6:13.2],"is ""x, y""",b,c,"Which, of these?","d ""e"""',
]


def test_the_older_csv(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("\n".join(CSV) + "\n")
    first, second = How2QA.read_questions(path)
    assert (first.qid, first.video, first.clip) == ("line_1", "NOuQuofjk44", (7.2, 18.0))
    assert first.options[first.answer] == "1"
    assert [option for option in first.options if option != "1"] == ["10", "12", "16"]
    assert second.question == "Which, of these?" and second.options[second.answer] == 'd "e"'
    assert How2QA.read_questions(path) == [first, second]  # the answer's place is no matter of chance
    path.write_text(f"{CSV[0]}\nx,[1:2],a,b,c,q\n")
    with pytest.raises(UserError, match="line 2: expected 7 fields, found 6"):
        How2QA.read_questions(path)
    path.write_text(CSV[0].replace("7.2:18.0", "18.0"))
    with pytest.raises(UserError, match="line 1, field span: expected start and end"):
        How2QA.read_questions(path)


def test_answers_of_the_csv_stand_in_every_place_equally_often(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("".join(f"v{i},[1:2],a,b,c,question {i}?,d\n" for i in range(800)))
    places = Counter(question.answer for question in How2QA.read_questions(path))
    assert set(places) == {0, 1, 2, 3} and all(150 < count < 250 for count in places.values())


def test_files_bear_ids_or_the_maps_names(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("inUvyZl_hjA_180_240", "e_1134c"):
        (tmp_path / "videos" / f"{name}.mp4").touch()
    (tmp_path / "map.json").write_text('{"0": "inUvyZl_hjA_180_240"}')
    videos = How2QA(str(tmp_path), video_map="map.json").folder()
    assert videos.path("0") == tmp_path / "videos/inUvyZl_hjA_180_240.mp4"
    assert videos.path("e_1134c") == tmp_path / "videos/e_1134c.mp4"  # the map lacks it
    with pytest.raises(UserError, match="video '0' is not in"):
        How2QA(str(tmp_path)).folder().path("0")


def test_the_real_csv(shared: Path) -> None:
    questions = How2QA.read_questions(shared / "samples" / "how2qa" / "how2QA_val_release_sample.csv")
    assert len(questions) == 20
    assert questions[15].question == "How poisonous are poinsettias, based on the clip?"
    assert questions[15].options[questions[15].answer] == "not poisonous"
    assert 'his channel is called "digitaldezignz' in questions[16].options


def test_the_real_quirks(shared: Path) -> None:
    questions = How2QA.read_questions(shared / "annotations" / "how2qa" / "how2qa_val_release.jsonl")
    names = json.loads((shared / "annotations" / "how2qa" / "how2_vid_mapping.json").read_text())
    assert sum(q.clip[0] == q.clip[1] for q in questions) == 2
    assert sum(q.clip[1] > 60.5 for q in questions) == 133  # clips are 60 s long
    assert sum(len(set(q.options)) < 4 for q in questions) == 29
    assert sum(q.video not in names for q in questions) == 176
