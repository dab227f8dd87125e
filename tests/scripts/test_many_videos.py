"""The measure of long files of questions works; how fast it is, it tells only when it is run at length."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/many_videos.py"


@pytest.mark.slow
def test_the_measure_runs() -> None:
    """In a process of its own: to what a child has used at most, Linux counts what its parent held as it began."""
    command = [sys.executable, str(SCRIPT), "--first=30", "--questions=3000", "--kills=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert re.search(r"first answer of 30 rows after \d+\.\d s, with \d\.\d\d GiB\n", out)
    assert re.search(r"3,000 questions in \d+ s, peak 0\.\d\d GiB\n", out)
    killed = re.search(r"killed with ([\d,]+) rows\n", out)
    assert killed and 0 < int(killed[1].replace(",", "")) <= 3000
    assert out.endswith("resumed to the end: the same bytes\n")
