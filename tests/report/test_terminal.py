"""What goes to a terminal steers nothing there."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.report.terminal import knows_unicode, printable


def test_what_steers_a_terminal_is_escaped() -> None:
    assert printable("a\nb\r\x1b[2Jc\x00\x9b\t") == "a\\nb\\r\\x1b[2Jc\\x00\\x9b\\t"
    assert printable("\u202egpj.exe\u2066\u2029\ud83d") == "\\u202egpj.exe\\u2066\\u2029\\ud83d"
    assert printable("what does the [red] star hold? éß漢字 😀 שלום\u200f") == (
        "what does the [red] star hold? éß漢字 😀 שלום\u200f"
    )


@given(st.text())
def test_it_is_one_line_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1 and "\x1b" not in shown
    assert shown.encode("utf-8").decode("utf-8") == shown == printable(shown)


@pytest.mark.parametrize(("encoding", "knows"), [("utf-8", True), ("ascii", False), ("cp1252", False)])
def test_which_streams_know_every_letter(encoding: str, knows: bool) -> None:
    assert knows_unicode(io.TextIOWrapper(io.BytesIO(), encoding=encoding)) is knows
