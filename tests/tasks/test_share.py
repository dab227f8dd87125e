"""Videos shared among processes: everyone's results come back in the records' order."""

from __future__ import annotations

import pytest
from torch import distributed

from sevila.data.records import Question
from sevila.tasks.share import Share

QUESTIONS = [Question(f"q{i}", video, "what?", ("a", "b"), 0) for i, video in enumerate("abacbd")]


def test_one_process_has_all() -> None:
    share = Share.of(QUESTIONS)
    assert share.records == QUESTIONS and share.gather([q.qid for q in QUESTIONS]) == [f"q{i}" for i in range(6)]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_videos_stay_whole_and_results_in_order(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        shares.append(Share.of(QUESTIONS))
    videos = [{question.video for question in share.records} for share in shares]
    assert sum(map(len, videos)) == 4 == len(set().union(*videos))
    first = {2: ["q0", "q2", "q3"], 3: ["q0", "q2", "q5"], 5: ["q0", "q2"]}
    assert [question.qid for question in shares[0].records] == first[processes]

    made = [[(place, QUESTIONS[place].qid) for place in share.places] for share in shares]
    monkeypatch.setattr(distributed, "all_gather_object", lambda parts, mine: parts.__setitem__(slice(None), made))
    for share in shares:
        assert share.gather([q.qid for q in share.records]) == [q.qid for q in QUESTIONS]
