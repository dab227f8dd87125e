"""score: files of predictions against annotation files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevila import score

Put = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, content: Any) -> str:
        """A json, a jsonl, or a text as it stands; the path."""
        path = tmp_path / name
        if isinstance(content, str):
            path.write_text(content)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[dict[str, str], dict[str, Any]]]:
    """Score with `out=`: what the table says, and what was written."""

    def go(*words: str) -> tuple[dict[str, str], dict[str, Any]]:
        out = tmp_path / "out.json"
        assert score.cli([*words, f"--out={out}"]) == 0, capsys.readouterr().err
        printed = capsys.readouterr().out
        assert printed.endswith(f"written: {out}\n")
        lines = [line.rsplit(maxsplit=1) for line in printed.splitlines()[2:-1] if not line.startswith("note: ")]
        notes = [line.removeprefix("note: ") for line in printed.splitlines() if line.startswith("note: ")]
        return {**dict(lines), "notes": "; ".join(notes)}, json.loads(out.read_text())

    return go


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def go(*words: str) -> str:
        assert score.cli(words) == 2
        streams = capsys.readouterr()
        assert streams.out == "" and streams.err.count("\n") == 1
        return streams.err.removeprefix("sevila: error: ").rstrip("\n")

    return go


def test_the_output_is_no_input(put: Put, refusal: Any) -> None:
    annotations, predictions = put("a.csv", "video,qid\n"), put("p.json", {})
    for key, path in (("annotations", annotations), ("predictions", predictions)):
        words = ["nextqa", f"--annotations={annotations}", f"--predictions={predictions}", f"--out={path}"]
        assert refusal(*words) == f"--out={path}: is the input --{key}={path}; name another file"
    assert Path(annotations).read_text() == "video,qid\n"


# -- the official numbers, from the command line ---


def test_nextqa_official(shared: Path, run: Any) -> None:
    table, written = run(
        "nextqa",
        f"--annotations={shared}/annotations/nextqa/val.csv",
        f"--predictions={shared}/golden/metrics/nextqa/HGA_val_predictions.json",
    )
    official = json.loads((shared / "golden/metrics/nextqa/golden_metrics.json").read_text())
    official = official["HGA-bert-ft-h256-val-example.json"]
    assert table["Acc"] == "49.74" and table["n"] == "4996" and not table["notes"]
    assert [table[name] for name in "CTD"] == ["46.26", "50.74", "59.33"] and table["TP"] == "57.41"
    assert written["metrics"] == official["metrics"] and written["Acc"] == official["Acc"]


@pytest.mark.parametrize(
    ("benchmark", "annotations", "predictions", "value"),
    [
        ("star", "star/star_val_unified.json", "star/official_results_val.json", ("Avg", "44.46")),
        ("how2qa", "how2qa/how2qa_val_release.jsonl", "how2qa/how2qa_val_predictions.json", ("accuracy", "73.13")),
        ("vlep", "vlep/vlep_dev_release.jsonl", "vlep/vlep_dev_predictions.json", ("accuracy", "68.42")),
    ],
)
def test_multiple_choice_official(
    benchmark: str, annotations: str, predictions: str, value: tuple[str, str], shared: Path, run: Any
) -> None:
    table, written = run(
        benchmark,
        f"--annotations={shared}/annotations/{annotations}",
        f"--predictions={shared}/golden/metrics/{predictions}",
    )
    assert table[value[0]] == value[1]
    assert written == json.loads((shared / f"golden/metrics/{benchmark}/metrics.json").read_text())


@pytest.mark.parametrize("file", ["small_preds", "small_preds_reversed_no_saliency", "small_preds_saliency_lengths"])
def test_qvhighlights_official(file: str, shared: Path, run: Any) -> None:
    folder = shared / "golden/metrics/qvhighlights"
    table, written = run(
        "qvhighlights", f"--annotations={folder}/small_gt.jsonl", f"--predictions={folder}/{file}.jsonl"
    )
    official = json.loads((folder / "small_metrics.json").read_text())[file]
    assert written == official
    assert {name: float(table[name]) for name in official["brief"]} == official["brief"] and table["n"] == "40"


def test_qvhighlights_with_fewer_predictions(shared: Path, run: Any, refusal: Any, put: Put) -> None:
    folder = shared / "golden/metrics/qvhighlights"
    rows = [json.loads(line) for line in (folder / "small_preds.jsonl").read_text().splitlines()[:25]]
    words = [
        "qvhighlights", f"--annotations={folder}/small_gt.jsonl", f"--predictions={put('p.jsonl', rows)}",
    ]  # fmt: skip
    assert "no prediction for 15 of 40 questions, first" in refusal(*words)
    table, written = run(*words, "--missing=skip")
    assert written == json.loads((folder / "small_metrics.json").read_text())["small_preds_first_25_match_number_False"]
    assert table["n"] == "25" and "no prediction for 15 of 40" in table["notes"]


@pytest.mark.parametrize("case", ["full_video", "random_pairs_sparse", "gauss_norm"])
def test_nextgqa_official(case: str, shared: Path, run: Any) -> None:
    folder = shared / "golden/metrics"
    table, written = run(
        "nextgqa",
        f"--annotations={shared}/annotations/nextgqa/val.csv",
        f"--segments={shared}/annotations/nextgqa/gsub_val.json",
        f"--spans={folder}/nextgqa/preds/val_{case}.json",
        f"--answers={folder}/nextqa/HGA_val_predictions.json",
        *(["--normalised"] if case == "gauss_norm" else []),
    )
    official = json.loads((folder / "nextgqa/golden_metrics.json").read_text())[f"val/{case}"]
    assert {key: written[key] for key in ("printed", "precise", "n_pred")} == {
        key: official[key] for key in ("printed", "precise", "n_pred")
    }
    assert {name: float(table[name]) for name in official["printed"]} == official["printed"]
    assert "1638 predictions are for questions outside" in table["notes"]
    assert ("1680 of 3358 questions have no span" in table["notes"]) == (case == "random_pairs_sparse")


# -- every benchmark, by hand ---

NEXTQA = """video,question,answer,qid,type,a0,a1,a2,a3,a4
111,what,1,0,CW,a,b,c,d,e
111,how,2,1,CH,a,b,c,d,e
22,when,0,0,TN,a,b,c,d,e
"""
NEXTGQA = NEXTQA.replace("video,", "video_id,").replace(",1,0,", ",b,0,").replace(",2,1,", ",c,1,")
NEXTGQA = NEXTGQA.replace(",0,0,TN", ",a,0,TN")
SEGMENTS = {
    "111": {"duration": 20, "location": {"0": [[2, 6]], "1": [[0, 1], [10, 14]]}, "fps": 30.0},
    "22": {"duration": 10, "location": {"0": [[5, 10]]}, "fps": 30.0},
}


def own(*rows: tuple[str, int, int | None], times: tuple[float, float] = (2.0, 6.0)) -> list[dict[str, Any]]:
    keyframes = [{"index": int(30 * time), "time": time, "score": 0.0} for time in times]
    return [{"qid": qid, "prediction": p, "answer": a, "keyframes": keyframes} for qid, p, a in rows]


def test_predictions_of_a_run(put: Put, run: Any) -> None:
    rows = own(("CW_111_0", 1, 1), ("CH_111_1", 0, 2), ("TN_22_0", 0, 0))
    table, written = run(
        "nextqa", f"--annotations={put('val.csv', NEXTQA)}", f"--predictions={put('predictions.jsonl', rows)}"
    )
    assert (table["Acc"], table["C"], table["T"], table["CW"], table["n"]) == (
        "66.67",
        "50.00",
        "100.00",
        "100.00",
        "3",
    )
    assert "D" not in table
    assert written["metrics"] == {
        "Why": 100.0, "How": 0.0, "Bef&Aft": 100.0, "Acc_C": 50.0, "Acc_T": 100.0,
    }  # fmt: skip


def test_grounded_predictions_of_a_run(put: Put, run: Any) -> None:
    rows = own(("CW_111_0", 1, 1), ("CH_111_1", 2, 2), ("TN_22_0", 1, 0), times=(2.004, 12.0))
    table, written = run(
        "nextgqa",
        f"--annotations={put('val.csv', NEXTGQA)}",
        f"--segments={put('gsub.json', SEGMENTS)}",
        f"--predictions={put('predictions.jsonl', [*rows, *own(('CW_9_9', 0, 0))])}",
    )
    # The span is 2..12: IoP 4/10, 2/10, 5/10; IoU 4/10, 2/12, 5/10
    assert written["precise"]["mIoP"] == round(100 * 1.1 / 3, 10)
    assert written["precise"]["mIoU"] == round(100 * (0.4 + 2 / 12 + 0.5) / 3, 10)
    assert (table["TIoP@0.3"], table["TIoP@0.5"]) == ("66.7", "33.3")
    assert (table["Acc@GQA"], table["Acc@QA"]) == ("0.0", "66.7")  # the one that is grounded is wrong
    assert table["notes"] == "1 predictions are for questions outside of the annotations: passed over"


def test_nextgqas_own_sevila_files(put: Put, run: Any, refusal: Any) -> None:
    words = ["nextgqa", f"--annotations={put('val.csv', NEXTGQA)}", f"--segments={put('gsub.json', SEGMENTS)}"]
    rows = {
        "111_0": {"prediction": 1, "answer": 1, "location": [2.0, 3.5, 6.0]},
        "111_1": {"prediction": 2, "answer": 2, "location": [0.5]},
        "22_0": {"prediction": 1, "answer": 0, "location": [0.0, 4.0]},
    }
    table, _ = run(*words, f"--predictions={put('test_ground.json', rows)}")
    assert (table["Acc@GQA"], table["mIoP"], table["mIoU"]) == ("66.7", "66.7", "33.3")
    for frames in ([], 3, None, ["a"]):
        rows["22_0"]["location"] = frames
        message = refusal(*words, f"--predictions={put('test_ground.json', rows)}")
        assert "test_ground.json, key 22_0, field location: expected the keyframes with their times" in message


def test_star_with_a_type_that_is_all_wrong(put: Put, run: Any) -> None:
    rows = [
        {"video": "v", "num_option": 2, "qid": qid, "a0": "x", "a1": "y", "answer": 0, "question": "q"}
        for qid in ("Interaction_T1_0", "Sequence_T1_0", "Sequence_T1_1")
    ]
    submission = {
        "Interaction": [{"question_id": "Interaction_T1_0", "answer": 0}],
        "Sequence": [{"question_id": f"Sequence_T1_{i}", "answer": 1} for i in range(2)],
    }
    table, written = run("star", f"--annotations={put('val.json', rows)}", f"--predictions={put('p.json', submission)}")
    assert (table["Avg"], table["Sequence"], table["n"]) == ("50.00", "0.00", "3")
    assert written == {"agg_metrics": 50.0, "total": 3, "Interaction": 100.0, "Sequence": 0.0}


def test_tvqa_by_hand(put: Put, run: Any) -> None:
    rows = [
        {"qid": i, "q": "q", "vid_name": "v", "ts": "1-2", "answer_idx": i % 5, **{f"a{k}": "a" for k in range(5)}}
        for i in range(7)
    ]
    chosen = {str(i): 0 for i in range(7)}  # right for 0 and 5
    words = ["tvqa", f"--predictions={put('p.json', chosen)}"]
    table, written = run(*words, f"--annotations={put('tvqa_val.jsonl', rows)}")
    assert (table["accuracy"], table["n"]) == ("28.57", "7") and written == {"val": 28.57}
    solution = {
        "split": "x",
        "solution": {"A": {str(i): i % 5 for i in range(4)}, "B": {str(i): i % 5 for i in (4, 5, 6)}},
    }
    table, written = run(*words, f"--annotations={put('s.json', solution)}", "--split=test_public")
    assert table["accuracy"] == "28.57" and written == {"test_public": 28.57}


def test_tvqa_plus_by_hand(shared: Path, put: Put, run: Any) -> None:
    """Of all 3,017 questions: option 2 everywhere, and the share of questions whose answer that is."""
    path = shared / "annotations/tvqa/tvqa_plus_val.json"
    rows = json.loads(path.read_text())
    table, _ = run("tvqa", f"--annotations={path}", f"--predictions={put('p.json', {str(r['qid']): 2 for r in rows})}")
    right = sum(row["answer_idx"] == "2" for row in rows)
    assert table["accuracy"] == f"{100 * right / 3017:.2f}" and table["n"] == "3017"


def test_moments_from_frame_scores(put: Put, run: Any) -> None:
    truth = [{
        "qid": 5, "query": "q", "vid": "v", "duration": 20, "relevant_windows": [[4, 8]],
        "relevant_clip_ids": [2, 3], "saliency_scores": [[4, 4, 4], [4, 4, 4]],
    }]  # fmt: skip
    frames = [{"index": i, "time": 2 * i + 1.0, "score": 3.0 if i in (2, 3) else -2.0} for i in range(10)]
    table, written = run(
        "qvhighlights",
        f"--annotations={put('gt.jsonl', truth)}",
        f"--predictions={put('predictions.jsonl', [{'qid': '5', 'video': 'v', 'frames': frames}])}",
    )
    assert table["MR-full-R1@0.7"] == "100.00" and written["brief"]["HL-min-VeryGood-Hit1"] == 100.0
    assert table["notes"].startswith("windows made from frame scores by MinMaxSpans(span_threshold=6")


def test_windows_of_a_run_stand_before_its_frame_scores(put: Put, run: Any) -> None:
    truth = [{"qid": 5, "query": "q", "vid": "v", "duration": 20, "relevant_windows": [[4, 8]]}]
    row = {"qid": 5, "pred_relevant_windows": [[0, 8, 1]], "frames": [{"index": 0, "time": 1.0, "score": 1.0}]}
    table, written = run(
        "qvhighlights", f"--annotations={put('gt.jsonl', truth)}", f"--predictions={put('p.jsonl', [row])}"
    )
    assert written["full"]["MR-R1"]["0.5"] == 100.0 and written["full"]["MR-R1"]["0.55"] == 0.0
    assert not table["notes"]


# -- what is refused ---


@pytest.fixture
def nextqa(put: Put) -> list[str]:
    return ["nextqa", f"--annotations={put('val.csv', NEXTQA)}"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("CW_111_0", 1, 1), ("XX_1_1", 0, 0)], "p.jsonl, line 2, field qid: no question 'XX_1_1' in "),
        (
            [("CW_111_0", 1, 1), ("111_0", 0, 1)],
            "p.jsonl, line 2, field qid: question '111_0' has a prediction already",
        ),
        ([("CW_111_0", 5, 1)], "p.jsonl, line 1, field prediction: expected an option from 0 to 4, found 5"),
        ([("CW_111_0", 1, 3)], "p.jsonl, line 1, field answer: 3, but the annotations say 1"),
        ([("TN_22_0", 1, 0)], "p.jsonl: no prediction for 2 of 3 questions, first 'CW_111_0'; --missing skip leaves"),
    ],
)
def test_bad_predictions(rows: Any, message: str, nextqa: list[str], put: Put, refusal: Any) -> None:
    assert message in refusal(*nextqa, f"--predictions={put('p.jsonl', own(*rows))}")


def test_missing_predictions_can_be_skipped(nextqa: list[str], put: Put, run: Any) -> None:
    table, written = run(*nextqa, f"--predictions={put('p.jsonl', own(('TN_22_0', 0, 0)))}", "--missing=skip")
    assert table["Acc"] == "100.00" and table["n"] == "1" and written["total"] == 1
    assert table["notes"] == "no prediction for 2 of 3 questions, first 'CW_111_0': left out of the score"


def test_hidden_answers(put: Put, refusal: Any) -> None:
    hidden = "\n".join(",".join(c for i, c in enumerate(line.split(",")) if i != 2) for line in NEXTQA.splitlines())
    rows = own(("CW_111_0", 1, None), ("CH_111_1", 0, None), ("TN_22_0", 0, None))
    words = ["nextqa", f"--annotations={put('test.csv', hidden)}", f"--predictions={put('p.jsonl', rows)}"]
    assert refusal(*words) == "no question has a known answer: nothing to score; use a split with answers"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: BENCHMARK, --annotations; sevila score --help says more"),
        (["nextq", "--annotations=a"], "argument BENCHMARK: invalid choice: 'nextq' (choose from "),
        (
            ["nextqa", "--annotations=a", "--prediction=b"],
            "unrecognized arguments: --prediction=b (did you mean '--predictions'?); sevila score --help says more",
        ),
        (["nextqa", "--annotations=a", "--missing=wrong"], "argument --missing: invalid choice: 'wrong' (choose from "),
        (["nextqa", "--annotations=nowhere.csv", "--predictions=p.json"], "nowhere.csv: no such file"),
        (["nextqa", "--annotations=a", "--spans=b"], "--spans=b: nextqa has no use for it; leave it out"),
        (["star", "--annotations=a", "--split=val"], "--split=val: star has no use for it"),
        (["nextgqa", "--annotations=a", "--predictions=b"], "--segments has no value: nextgqa needs --segments FILE"),
        (["nextgqa", "--annotations=a", "--segments=b"], "nextgqa needs --predictions FILE, or --answers FILE and"),
    ],
)
def test_bad_words(words: list[str], message: str, refusal: Any) -> None:
    assert message in refusal(*words)


def test_a_file_of_predictions_is_needed(nextqa: list[str], refusal: Any) -> None:
    assert refusal(*nextqa) == "--predictions has no value: nextqa needs --predictions FILE"


def test_an_output_that_cannot_be_written(nextqa: list[str], put: Put, tmp_path: Path, capsys: Any) -> None:
    rows = own(("CW_111_0", 1, 1), ("CH_111_1", 0, 2), ("TN_22_0", 0, 0))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    assert score.cli([*nextqa, f"--predictions={put('p.jsonl', rows)}", f"--out={tmp_path / 'folder'}"]) == 2
    assert f"--out={tmp_path / 'folder'}: is a folder" in capsys.readouterr().err


@pytest.fixture
def grounded(put: Put) -> Callable[..., list[str]]:
    def words(spans: Any, answers: Any = None) -> list[str]:
        answers = {"111_0": {"prediction": 1}, "111_1": {"prediction": 2}, "22_0": {"prediction": 0}, **(answers or {})}
        return [
            "nextgqa",
            f"--annotations={put('val.csv', NEXTGQA)}",
            f"--segments={put('gsub.json', SEGMENTS)}",
            f"--spans={put('spans.json', spans)}",
            f"--answers={put('answers.json', answers)}",
        ]

    return words


def test_points_and_normalised_spans_by_hand(grounded: Any, run: Any) -> None:
    table, _ = run(*grounded({"111_0": [3, 3], "22_0": [11, 11]}))
    assert (table["Acc@GQA"], table["mIoP"], table["mIoU"], table["n"]) == ("50.0", "50.0", "0.0", "2")
    assert table["notes"] == "1 of 3 questions have no span: left out of the means"
    table, _ = run(*grounded({"111_0": [0.1, 0.3], "22_0": [0.5, 1]}), "--normalised")  # 2..6 of 20, 5..10 of 10
    assert (table["mIoP"], table["mIoU"], table["Acc@GQA"]) == ("100.0", "100.0", "100.0")


@pytest.mark.parametrize(
    ("spans", "words", "message"),
    [
        ({"111_0": [3]}, [], "spans.json, key 111_0: expected [start, end] in seconds, found [3]"),
        ({"111_0": [3, 1]}, [], "spans.json, key 111_0: expected [start, end] in seconds, found [3, 1]"),
        ({"111_0": [3, 4]}, ["--normalised"], "spans.json, key 111_0: [3.0, 4.0] does not lie in 0..1"),
        ({"5_5": [3, 4]}, [], "spans.json, key 5_5, field qid: no question '5_5' in "),
        ([{"111_0": [3, 4]}], [], "spans.json: expected {qid: [start, end]}"),
        (
            {"111_0": [3, 4]},
            ["--predictions=p.jsonl"],
            "--spans: --predictions holds answers and keyframes; leave it out",
        ),
    ],
)
def test_bad_spans(spans: Any, words: list[str], message: str, grounded: Any, refusal: Any) -> None:
    assert message in refusal(*grounded(spans), *words)


def test_a_span_needs_an_answer(put: Put, grounded: Any, refusal: Any) -> None:
    words = grounded({"111_0": [3, 4]})
    put("answers.json", {"111_1": {"prediction": 2}})
    assert "answers.json: no answer to 1 questions with a span, first 'CW_111_0'" in refusal(*words)


def test_windows_that_run_backwards_are_counted(put: Put, run: Any) -> None:
    truth = [{"qid": 5, "query": "q", "vid": "v", "duration": 20, "relevant_windows": [[4, 8]]}]
    row = {"qid": 5, "pred_relevant_windows": [[9, 4, 0.9], [9, 3, 0.8], [4, 8, 0.7]]}
    table, _ = run("qvhighlights", f"--annotations={put('gt.jsonl', truth)}", f"--predictions={put('p.jsonl', [row])}")
    assert (table["MR-full-R1@0.5"], table["MR-full-mAP"]) == ("0.00", "33.33")
    assert "2 predicted windows end before they start: they count as misses" in table["notes"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"qid": 6}, "p.jsonl, line 1, field qid: no query 6 in "),
        (
            {"qid": 5, "pred_relevant_windows": [[1, 2]]},
            "p.jsonl, line 1, field pred_relevant_windows or pred_saliency",
        ),
        (
            {"qid": 5, "pred_relevant_windows": [[1, 10**4000, 1]]},
            "p.jsonl, line 1, field pred_relevant_windows or pred_saliency",
        ),
        ({"qid": 5, "frames": [{"time": 1}]}, "p.jsonl, line 1, field frames: expected"),
        ({"qid": 5, "frames": []}, "p.jsonl, line 1: query 5: expected a finite score and time for each frame"),
        ({"qid": 5}, "queries 5: every prediction needs windows, or every one saliency scores, or both"),
    ],
)
def test_bad_moments(row: Any, message: str, put: Put, refusal: Any) -> None:
    truth = [{"qid": 5, "query": "q", "vid": "v", "duration": 20, "relevant_windows": [[4, 8]]}]
    words = ["qvhighlights", f"--annotations={put('gt.jsonl', truth)}", f"--predictions={put('p.jsonl', [row])}"]
    assert message in refusal(*words)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert score.cli(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: sevila score BENCHMARK --annotations FILE --predictions FILE [options]")
    assert "Score a file of predictions as the benchmark's own script does." in text


def test_ones_own_data(put: Put, run: Any) -> None:
    rows = "video,question,a0,a1,answer,qtype\nv,q,x,y,0,who\nv,r,x,y,y,who\n"
    chosen = [{"qid": "line_2", "prediction": 0}, {"qid": "line_3", "prediction": 0}]
    table, written = run("custom", f"--annotations={put('a.csv', rows)}", f"--predictions={put('p.jsonl', chosen)}")
    assert (table["accuracy"], table["who"], table["n"]) == ("50.00", "50.00", "2")
    assert written == {"accuracy": 50.0, "accuracy_by_type": {"who": 50.0}, "n": 2}
