from __future__ import annotations

import pytest

from sevila import progress
from sevila.progress import ProgressBar, clock, track


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600 + 125, 36000)] == ["0:00:00", "0:01:00", "1:02:05", "10:00:00"]


def test_rate_and_time_left_do_not_count_what_was_done_before(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with ProgressBar("refine", total=50, done=10, unit="step") as bar:
        assert bar.pace(10) == ""
        now[0] += 5.0
        bar.note(20, "loss 0.5000")
        now[0] += 35.0
        assert bar.pace(20) == "4.0 s/step  0:02:00 left"
    assert capsys.readouterr().err == "refine  step 20/50  loss 0.5000  2.0 steps/s  0:00:15 left\n"


def test_quiet(capsys):
    with ProgressBar("refine", 5, quiet=True) as bar:
        bar.update(1, "loss 0.5")
        bar.note(1, "x")
    assert capsys.readouterr().err == ""


def test_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar("refine", 4, unit="step") as bar:
        bar.update(3, "loss 0.2500")
        bar.note(3, "val accuracy 50.00 [best]")
    err = capsys.readouterr().err
    assert "refine  step 3/4  val accuracy 50.00 [best]" in err and "3/4" in err and "loss 0.2500" in err


class Clock:
    """Time that a work takes: it stands still between `passes`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_a_line_now_and_then_without_a_terminal(monkeypatch, capsys):
    """Long steps do not wait for the next log record, and slow work is told in seconds."""
    clock = Clock(monkeypatch)
    with ProgressBar("refine", 4, unit="step") as bar:
        for step in range(1, 4):
            clock.passes(15.0)
            bar.update(step, "loss 0.5")
    for _ in track(range(3), 3, "videos"):
        clock.passes(25.0)
    assert capsys.readouterr().err.splitlines() == [
        "refine  step 1/4  loss 0.5  15.0 s/step  0:00:45 left",
        "refine  step 3/4  loss 0.5  15.0 s/step  0:00:15 left",
        "videos  1/3  25.0 s each  0:00:50 left",
        "videos  2/3  25.0 s each  0:00:25 left",
        "videos  3/3  in 75.0 s",
    ]


def test_short_work_within_other_work_is_silent(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with ProgressBar("refine", 4, unit="step"):
        list(track(range(3), 3, "validation"))
        assert capsys.readouterr().err == ""
        for _ in track(range(2), 2, "validation"):
            clock.passes(12.0)
    assert capsys.readouterr().err == "validation  1/2  12.0 s each  0:00:12 left\nvalidation  2/2  in 24.0 s\n"
    list(track(range(3), 3, "validation"))
    assert capsys.readouterr().err == "validation  3/3  in 0.0 s\n"


def test_a_bar_within_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar("refine", 4, unit="step") as bar:
        for _ in track(range(3), 3, "validation"):
            bar._display.refresh()
        bar.update(4)
    err = capsys.readouterr().err
    assert "validation" in err and "2/3" in err and "4/4" in err


def test_of_several_processes_the_first_one_shows_it(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    list(track(range(3), 3, "videos"))
    assert capsys.readouterr().err == ""
