"""The text about the committed study says what its files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results" / "synthetic"
INTERVAL = re.compile(r"[+-]\d+\.\d \[-?\d+\.\d, -?\d+\.\d\]")


def intervals(claims: Path) -> set[str]:
    """Effects with their intervals, as the text prints them."""
    rows = json.loads(claims.read_text())
    return {f"{row['effect']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]" for row in rows}


def test_every_interval_in_the_tables_of_the_text_is_a_committed_one() -> None:
    lines = [line for line in (RESULTS / "README.md").read_text().splitlines() if line.lstrip().startswith("|")]
    told = [interval for line in lines for interval in INTERVAL.findall(line)]
    known = set().union(*map(intervals, RESULTS.rglob("claims.json")))
    assert len(told) >= 30
    assert [interval for interval in told if interval not in known] == []


@pytest.mark.parametrize("claims", sorted(RESULTS.rglob("claims.json")), ids=lambda file: file.parent.name)
def test_a_verdict_follows_from_its_interval(claims: Path) -> None:
    for row in json.loads(claims.read_text()):
        if row["part"] == "check":
            continue
        above, below = row["low"] > row["bound"], row["high"] < row["bound"]
        wanted = "reproduced" if above else "not reproduced" if below else "undecided"
        assert row["verdict"] == wanted, row["claim"]
