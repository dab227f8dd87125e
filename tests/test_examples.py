"""Predictions as parts of a page: whose answers are shown, from which videos, and in which shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parsed_page import read_page
from sevila.data.records import Moment, Question
from sevila.data.video import VideoReader
from sevila.examples import example, examples, moment_examples, spread, thumbnails, write_answer
from sevila.report.page import Heading
from sevila.report.timeline import Example

FRAMES = [{"index": index, "time": index / 25, "score": score} for index, score in ((0, 1.0), (4, 9.0), (8, 3.0))]


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, video: str) -> Path:
        return self.root / video


@pytest.fixture
def folder(encode, tmp_path: Path) -> Folder:
    encode("v.mp4", 10)  # 96 x 64
    return Folder(tmp_path)


def question(number: int, answer: int | None) -> Question:
    return Question(str(number), "v.mp4", f"question {number}?", ("a", "b"), answer)


def row(prediction: int) -> dict[str, Any]:
    logits = [float(option == prediction) for option in range(2)]
    return {"prediction": prediction, "option_logits": logits, "frames": FRAMES, "keyframes": FRAMES[1:]}


def told(blocks: list) -> list[str]:
    """Headings, and the examples' questions."""
    return [block.text if isinstance(block, Heading) else block.timeline.question for block in blocks]


def test_wrong_and_right_answers_are_shown_apart(folder: Folder) -> None:
    questions = [question(number, number % 3 % 2) for number in range(9)]  # answers 0 1 0 0 1 0 0 1 0
    blocks = examples(questions, [row(0)] * 9, folder, number=2)
    assert told(blocks) == [
        *("Answered wrongly: 3 of 9", "question 1?", "question 4?"),
        *("Answered rightly: 6 of 9", "question 0?", "question 5?"),
    ]
    hidden = examples([question(0, None)], [row(1)], folder)
    assert told(hidden) == ["Answered, not judged: 1 of 1", "question 0?"]
    assert examples([], [], folder) == []


def test_an_example_is_the_row_of_its_question(folder: Folder) -> None:
    shown = example(question(3, 1), row(0), VideoReader(folder.path("v.mp4")))
    line = shown.timeline
    assert (line.prediction, line.answer, line.options, line.label) == (0, 1, ("a", "b"), "3, v.mp4")
    assert (line.times, line.scores, line.keyframes) == ([0.0, 0.16, 0.32], [1.0, 9.0, 3.0], [1, 2])
    assert line.probabilities == pytest.approx([0.731059, 0.268941], abs=1e-6) and line.duration == pytest.approx(0.4)
    assert line.video == folder.path("v.mp4")
    unscored = row(0) | {"frames": [{**frame, "score": None} for frame in FRAMES]}
    assert example(question(3, 1), unscored, VideoReader(folder.path("v.mp4"))).timeline.scores is None


def test_thumbnails_keep_the_shape_of_the_video(encode, folder: Folder) -> None:
    reader = VideoReader(folder.path("v.mp4"))
    first, again, other = thumbnails(reader, [2, 2, 7])
    assert first.shape == (64, 96, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    flat, upright = np.zeros((200, 800, 3), np.uint8), np.zeros((600, 150, 3), np.uint8)
    assert thumbnails(VideoReader(encode("flat.mp4", [flat])), [0])[0].shape == (80, 320, 3)
    assert thumbnails(VideoReader(encode("upright.mp4", [upright])), [0])[0].shape == (320, 80, 3)


def test_queries_with_true_and_found_moments_and_their_best_frames(folder: Folder) -> None:
    moments = [Moment(str(number), "v.mp4", f"query {number}", 0.4, ((0.1, 0.2),)) for number in range(3)]
    rows: list[dict[str, Any]] = [
        {"qid": 0, "frames": FRAMES, "pred_relevant_windows": [[0.0, 0.2, 0.9], [0.3, 0.4, 0.1]]},
        *({"qid": number, "frames": FRAMES} for number in (1, 2)),
    ]
    blocks = moment_examples(moments, rows, folder, number=2)
    assert told(blocks) == ["Queries: 2 of 3", "query 0", "query 1"]
    first, second = (block.timeline for block in blocks if isinstance(block, Example))
    assert (first.windows, first.found, second.found) == (((0.1, 0.2),), [(0.0, 0.2), (0.3, 0.4)], [])
    assert first.keyframes == [1, 2, 0] and len(blocks[1].images) == 3 and first.prediction is None
    assert moment_examples([], [], folder) == []


def test_an_answer_asks_once_and_leads_into_its_video(folder: Folder, tmp_path: Path) -> None:
    shown = example(question(0, None), row(1), VideoReader(folder.path("v.mp4")))
    write_answer(tmp_path / "out/page.html", shown, {"Model": "tiny"})
    page = read_page(tmp_path / "out/page.html")
    assert (page.texts["dt"], page.texts["dd"]) == (["Model"], ["tiny"]) and "v.mp4" in page.texts["p"]
    assert page.texts["h1"] == ["question 0?"] and "h3" not in page.tags
    assert {link["href"] for link in page.all("a")} == {f"../v.mp4#t={f['time']:.3f}" for f in FRAMES}
    write_answer(tmp_path / "out/picture.png", shown)
    assert (tmp_path / "out/picture.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_spread_is_even() -> None:
    assert list(spread(range(10), 3)) == [0, 3, 6] and list(spread(range(2), 3)) == [0, 1]
