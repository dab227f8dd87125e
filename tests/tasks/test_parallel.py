"""Videos shared among processes: everyone's results come back in the records' order."""

from __future__ import annotations

import json

import pytest
from torch import distributed

from sevila.data.records import Moment, Question
from sevila.data.store_files import row_key
from sevila.metrics.moments import MomentPrediction
from sevila.model.sevila import ScoredFrame
from sevila.tasks import evaluation
from sevila.tasks.chain import Prediction
from sevila.tasks.evaluation import Retrieval, by_processes, own_places

QUESTIONS = [Question(f"q{i}", video, "what?", ("a", "b"), 0) for i, video in enumerate("abacbd")]


def names(questions: list[Question]) -> list[str]:
    return [question.qid for question in questions]


def test_one_process_has_all() -> None:
    assert own_places(QUESTIONS) == list(range(6)) and by_processes(QUESTIONS, names) == [f"q{i}" for i in range(6)]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_videos_stay_whole_and_results_in_order(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        shares.append(own_places(QUESTIONS))
    videos = [{QUESTIONS[place].video for place in share} for share in shares]
    assert sum(map(len, videos)) == 4 == len(set().union(*videos))
    first = {2: ["q0", "q2", "q3"], 3: ["q0", "q2", "q5"], 5: ["q0", "q2"]}
    assert [f"q{place}" for place in shares[0]] == first[processes]

    parts = [json.dumps([(place, f"q{place}") for place in share]).encode() for share in shares]
    monkeypatch.setattr(evaluation, "check_same", lambda values: None)
    monkeypatch.setattr(evaluation, "gather_bytes", lambda own: parts)
    for rank in range(processes):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        assert by_processes(QUESTIONS, names) == names(QUESTIONS)


FRAMES = (ScoredFrame(0, 0.1, -1.5), ScoredFrame(7, 1 / 3, 0.1 + 0.2))


def test_what_travels_arrives_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions and retrievals, with what is not there and with numbers that a decimal cannot say."""
    monkeypatch.setattr(evaluation, "several", lambda: True)
    seen = []
    monkeypatch.setattr(evaluation, "check_same", seen.append)
    monkeypatch.setattr(evaluation, "gather_bytes", lambda own: [own])
    predictions = [
        Prediction(QUESTIONS[0], FRAMES, (1,), 1, (0.1, -1e-30), (1, 1)),
        Prediction(QUESTIONS[1], (ScoredFrame(3, 2.0, None),), (0,), 0, (2 / 3, -0.0)),
    ]
    assert by_processes(QUESTIONS[:2], lambda own: predictions, Prediction) == predictions
    assert seen == [{"the records": f"2, {row_key(['q0', 'q1'])[:12]}"}]

    moments = [Moment("m0", "a", "a dog", 10.0), Moment("m1", "a", "a cat", 10.0)]
    found = [
        Retrieval(
            moments[0], FRAMES, (0.25, 1 / 7), MomentPrediction("m0", ((0.0, 2.0, 1 / 3), (4.0, 6.0, 0.1)), (0.5,))
        ),
        Retrieval(moments[1], FRAMES, (0.25, 1 / 7), MomentPrediction("m1")),
    ]
    assert by_processes(moments, lambda own: found, Retrieval) == found
