from __future__ import annotations

import pytest

from sevila.training import averages, progress
from sevila.training.progress import ProgressBar, clock


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600 + 125, 36000)] == ["0:00:00", "0:01:00", "1:02:05", "10:00:00"]


def test_rate_and_time_left_do_not_count_what_was_done_before(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with ProgressBar("refine", done=10, total=50) as bar:
        assert bar.pace(10) == ""
        now[0] += 5.0
        bar.note(20, "loss 0.5000")
        now[0] += 35.0
        assert bar.pace(20) == "4.0 s/step  0:02:00 left"
    assert capsys.readouterr().err == "refine  step 20/50  loss 0.5000  2.0 steps/s  0:00:15 left\n"


def test_quiet(capsys):
    with ProgressBar("refine", 0, 5, quiet=True) as bar:
        bar.step(1, 0.5)
        bar.note(1, "x")
    assert capsys.readouterr().err == ""


def test_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar("refine", 0, 4) as bar:
        bar.step(3, 0.25)
        bar.note(3, "val accuracy 50.00 [best]")
    err = capsys.readouterr().err
    assert "refine  step 3/4  val accuracy 50.00 [best]" in err and "3/4" in err and "loss 0.2500" in err


def test_averages():
    sums: averages.Sums = {}
    for value in (1.0, 2.0, 6.0):
        averages.add(sums, "loss", value)
    averages.add(sums, "rare", 4.0)
    assert averages.means(sums) == {"loss": 3.0, "rare": 4.0}
    merged = averages.merge([sums, {"loss": [1.0, 1]}, {}])
    assert merged == {"loss": [10.0, 4], "rare": [4.0, 1]}
    assert averages.means(merged)["loss"] == pytest.approx(2.5)
    assert sums["loss"] == [9.0, 3]
