"""Questions and videos of one's own; the recipe of data/README.md from the files to metrics.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.benchmarks.custom import Custom
from sevila.data.records import Moment, Question
from sevila.errors import UserError

Encode = Callable[..., Path]

CSV = """\
video,question,a0,a1,a2,answer,qtype,start,end
kitchen,What is cut?,bread,"cheese, or ham",onion,onion,what,1.5,9
garden,How many birds?,two,three,,1,count,,
street,Why?,rain,sun,snow,,,,
"""


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    path.write_text(CSV)
    assert Custom.read_questions(path, split="val") == [
        Question("line_2", "kitchen", "What is cut?", ("bread", "cheese, or ham", "onion"), 2, "what", (1.5, 9.0)),
        Question("line_3", "garden", "How many birds?", ("two", "three"), 1, "count"),
        Question("line_4", "street", "Why?", ("rain", "sun", "snow")),
    ]


def test_jsonl(tmp_path: Path) -> None:
    rows = [
        {"video": "a/b", "question": "x", "options": ["2", "1", "0"], "answer": 2, "qid": 17, "windows": [[1, 2.5]]},
        {"video": "c", "question": "y", "options": ["yes", "no"], "answer": "no", "start": 0, "end": 3, "qid": "n"},
        {"video": "c", "question": "z", "a0": "p", "a1": "q", "answer": None, "options": None},
    ]
    path = tmp_path / "val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Custom.read_questions(path, split="val") == [
        Question("17", "a/b", "x", ("2", "1", "0"), 2, windows=((1.0, 2.5),)),  # a number is a number
        Question("n", "c", "y", ("yes", "no"), 1, clip=(0.0, 3.0)),
        Question("line_3", "c", "z", ("p", "q")),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"a1": None}, "field a2: stands after a1, which is empty"),
        ({"a1": None, "a2": None}, "field a0, a1, ...: expected 2 to 26, found 1"),
        ({"options": []}, "field options: expected 2 to 26, found 0"),
        ({"options": "x|y"}, "field options: expected a list of texts, found 'x|y'; in csv give a0, a1, ..."),
        ({"options": [1, 2]}, "field options: expected a list of texts, found [1, 2]; in csv give a0, a1, ..."),
        (
            {"answer": "green"},
            "field answer: 'green' is none of the options 'red', 'blue', 'grey', nor the number of one",
        ),
        ({"answer": "7"}, "field answer: expected a whole number from 0 to 2, found '7'"),
        ({"answer": 1.5}, "field answer: expected a whole number from 0 to 2, found 1.5"),
        (
            {"answer": "9" * 5000},
            f"field answer: '{'9' * 99}... is none of the options 'red', 'blue', 'grey', nor the number of one",
        ),
        (
            {"options": ["1.0", "2.0", "3.0"], "answer": "2.0"},
            "field answer: '2.0' is both an option's number and another's text: use jsonl, and a number",
        ),
        (
            {"options": ["a", "b\ud83d"]},
            r"field options: 'b\ud83d' holds half a character, as of an emoji that was cut, or is no UTF-8: mend it",
        ),
        (
            {"question": "\ude00?"},
            r"field question: '\ude00?' holds half a character, as of an emoji that was cut, or is no UTF-8: mend it",
        ),
        (
            {"qid": "\ud83d"},
            r"field qid: '\ud83d' holds half a character, as of an emoji that was cut, or is no UTF-8: mend it",
        ),
        (
            {"start": 1, "end": 10**4000},
            f"field start and end: expected start and end in seconds, found 1 and 1{'0' * 99}...",
        ),
        ({"answer": 3}, "field answer: expected a whole number from 0 to 2, found 3"),
        (
            {"options": ["1", "2", "3"], "answer": "2"},
            "field answer: '2' is both an option's number and another's text: use jsonl, and a number",
        ),
        ({"start": 3}, "field start and end: expected start and end in seconds, found 3 and None"),
        ({"windows": [[2, 1]]}, "field windows: a window ends before it starts: [[2, 1]]"),
        ({"video": ""}, "field video: empty"),
        ({"question": None}, "field question: missing"),
    ],
)
def test_faults_name_file_line_and_field(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    good = {"video": "v", "question": "q", "a0": "red", "a1": "blue", "a2": "grey"}
    path = tmp_path / "val.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps({**good, **row})}\n")
    with pytest.raises(UserError) as caught:
        Custom.read_questions(path, split="val")
    assert str(caught.value) == f"{path}, line 2, {problem}"


def test_moments(tmp_path: Path, encode: Encode) -> None:
    """Rows with windows, of a question or of a query; the video's own length where none is given."""
    (tmp_path / "videos").mkdir()
    encode("videos/kitchen.mp4", 50)
    rows = [
        {"video": "kitchen", "query": "a cat jumps", "windows": [[0, 0.5], [1, 1.5]], "qid": "m", "split": "val"},
        {"video": "kitchen", "question": "Why?", "options": ["a", "b"], "windows": [[1, 2]], "duration": 9},
        {"video": "kitchen", "question": "Who?", "options": ["a", "b"]},
        {"video": "kitchen", "query": "to be looked for", "question": "What?", "options": ["a", "b"], "duration": 3},
    ]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Custom(str(tmp_path), train="val.jsonl", val="val.jsonl", test=None)
    assert data.moments("val") == [
        Moment("m", "kitchen", "a cat jumps", 2.0, ((0.0, 0.5), (1.0, 1.5))),
        Moment("line_2", "kitchen", "Why?", 9.0, ((1.0, 2.0),)),
        Moment("line_4", "kitchen", "to be looked for", 3.0),
    ]
    assert [q.question for q in data.questions("val")] == ["Why?", "Who?", "What?"]
    assert [m.qid for m in data.moments("train")] == ["line_2", "line_4"]


def test_what_a_file_lacks_is_told_with_the_task_that_needs_it_not(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("video,question,a0,a1\nv,why,x,y\n")
    (tmp_path / "m.jsonl").write_text('{"video": "v", "query": "x", "windows": [[1, 2]], "duration": 3}\n')
    (tmp_path / "videos").mkdir()
    data = Custom(str(tmp_path), train="q.csv", val="m.jsonl", test=None)
    with pytest.raises(UserError) as caught:
        data.moments("train")
    assert str(caught.value) == (
        f"split=train: {tmp_path}/q.csv has no moment queries, which are rows of a jsonl with `windows`; "
        "add some, or train on its questions with task.name=answer"
    )
    with pytest.raises(UserError, match=r"m.jsonl has no questions; add some, or train .* with task.name=pretrain"):
        data.questions("val")


def test_one_file_for_all_splits(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("video,question,a0,a1,split\nv,1,x,y,train\nv,2,x,y,val\nv,3,x,y,train\nv,4,x,y,\n")
    data = Custom(str(tmp_path), train="all.csv", val="all.csv", test=None)
    assert [q.question for q in data.questions("train")] == ["1", "3", "4"]
    assert [(q.qid, q.question) for q in data.questions("val")] == [("line_3", "2"), ("line_5", "4")]
    path.write_text("video,question,a0,a1,split\nv,1,x,y,train\nv,2,x,y,valid\n")
    for split in ("train", "val"):
        with pytest.raises(UserError, match="line 3, field split: expected train, val, test or nothing, found 'valid'"):
            data.questions(split)


def test_an_answer_as_pandas_writes_it(tmp_path: Path) -> None:
    """A column of whole numbers with a gap is written as 1.0."""
    (tmp_path / "val.csv").write_text("video,question,a0,a1,answer\nv,1,x,y,1.0\nv,2,x,y,\nv,3,x,y,0.0\n")
    assert [q.answer for q in Custom.read_questions(tmp_path / "val.csv", split="val")] == [1, None, 0]
    (tmp_path / "val.jsonl").write_text('{"video": "v", "question": "1", "options": ["x", "y"], "answer": 1.0}\n')
    assert [q.answer for q in Custom.read_questions(tmp_path / "val.jsonl", split="val")] == [1]


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    path.write_text("video,question,a0,a1,answer,answer\nv,1,x,y,0,1\n")
    with pytest.raises(UserError, match=r"val\.csv, line 1: column 'answer' stands there twice: remove one"):
        Custom.read_questions(path, split="val")
    path.write_text("video,question,a0,a1,answer,,\nv,1,x,y,0,,\n")  # a spreadsheet's empty columns
    assert [q.answer for q in Custom.read_questions(path, split="val")] == [0]


def test_a_qid_that_stands_twice(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    path.write_text("qid,video,question,a0,a1\nq1,v,1,x,y\nq1,v,2,x,y\n")
    with pytest.raises(UserError, match="line 3, field qid: 'q1' stands in line 2 already"):
        Custom.read_questions(path, split="val")


option = st.text(min_size=1, max_size=8).filter(lambda text: text.strip() and "\0" not in text)


@given(st.lists(option, min_size=2, max_size=26, unique=True), st.data())
def test_any_texts_survive_jsonl(options: list[str], data: st.DataObject) -> None:
    import tempfile

    answer = data.draw(st.integers(0, len(options) - 1))
    row = {"video": "v", "question": options[0], "options": options, "answer": answer}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.jsonl"
        path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
        (question,) = Custom.read_questions(path, split="val")
    assert (question.options, question.answer, question.question) == (tuple(options), answer, options[0])


def test_the_recipe_from_files_to_metrics(tmp_path: Path, encode: Encode, one_thread: None) -> None:
    from sevila import eval as evaluation

    shop = tmp_path / "shop"
    (shop / "videos").mkdir(parents=True)
    encode("shop/videos/monday.mp4", 40)
    encode("shop/videos/tuesday.mkv", 30)
    (shop / "questions.csv").write_text(
        "video,question,a0,a1,a2,answer,qtype,start,end,split\n"
        "monday,Who comes in?,a man,a woman,nobody,nobody,who,,,test\n"
        "monday,What is bought?,bread,milk,,1,what,0.2,1.2,test\n"
        "tuesday,Who comes in?,a man,a woman,nobody,0,who,,,test\n"
        "tuesday,Who comes in?,a man,a woman,nobody,0,who,,,train\n"
    )
    (tmp_path / "configs" / "data").mkdir(parents=True)
    (tmp_path / "configs" / "data" / "shop.yaml").write_text(
        f"# Our shop.\nname: custom\nroot: {shop}\n"
        "train: questions.csv\nval: questions.csv\ntest: questions.csv\nvideos: videos\n"
    )
    run = tmp_path / "run"
    words = ["data=shop", "frames.n=4", "selector.k=2", f"run_dir={run}", "--config-dir", str(tmp_path / "configs")]
    assert evaluation.cli(words) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n"] == 3 and set(metrics["accuracy_by_type"]) == {"who", "what"}
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [(row["qid"], row["video"], row["answer"]) for row in rows] == [
        ("line_2", "monday", 2),
        ("line_3", "monday", 1),
        ("line_4", "tuesday", 0),
    ]
    assert all(len(row["frames"]) == 4 and len(row["keyframes"]) == 2 for row in rows)
    assert all(0.2 <= frame["time"] <= 1.2 for frame in rows[1]["frames"])
