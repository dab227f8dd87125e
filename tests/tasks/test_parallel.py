"""Videos shared among processes: everyone's results come back in the records' order."""

from __future__ import annotations

import errno

import pytest
from torch import distributed

from sevila.data.records import Question
from sevila.data.store_files import row_key
from sevila.errors import UserError
from sevila.tasks.evaluation import by_processes, own_places

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

    among = row_key(names(QUESTIONS))
    made = [("", among, [(place, f"q{place}") for place in share]) for share in shares]
    monkeypatch.setattr(distributed, "all_gather_object", lambda parts, mine: parts.__setitem__(slice(None), made))
    for rank in range(processes):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        assert by_processes(QUESTIONS, names) == names(QUESTIONS)

    made[1] = ("record q2: unreadable", among, [])
    with pytest.raises(UserError, match="record q2: unreadable"):  # of another process
        by_processes(QUESTIONS, names)
    made[1] = ("", "another list", [])
    with pytest.raises(UserError, match="the processes read different records"):
        by_processes(QUESTIONS, names)


def test_a_fault_of_ones_own_reaches_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    sent = []
    monkeypatch.setattr(
        distributed, "all_gather_object", lambda parts, mine: (sent.append(mine), parts.__setitem__(0, mine))
    )

    faults: list[tuple[Exception, str]] = [
        (UserError("no such video"), "no such video"),
        (OSError(errno.ENOSPC, "No space left on device", "s/x"), "s/x: No space left on device; make room"),
        (ZeroDivisionError("division by zero"), "another process failed: ZeroDivisionError: division by zero"),
    ]
    for error, told in faults:

        def fail(questions: list[Question], error: Exception = error) -> list[str]:
            raise error

        with pytest.raises(type(error)) as raised:
            by_processes(QUESTIONS, fail)
        assert raised.value is error and sent.pop()[0].startswith(told)
