"""The measure of long files of questions works; how fast it is, it tells only when it is run at length."""

from __future__ import annotations

import re

import pytest

import many_videos


@pytest.mark.slow
def test_the_measure_runs(capfd: pytest.CaptureFixture[str]) -> None:
    assert many_videos.main(["--first=30", "--questions=3000", "--kills=1"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"first answer of 30 rows after \d+\.\d s, with 0\.\d\d GiB\n", out)
    assert re.search(r"3,000 questions in \d+ s, peak 0\.\d\d GiB\n", out)
    killed = re.search(r"killed with ([\d,]+) rows\n", out)
    assert killed and 0 < int(killed[1].replace(",", "")) <= 3000
    assert out.endswith("resumed to the end: the same bytes\n")
