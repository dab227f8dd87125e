from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.files import (
    MOST_BYTES,
    atomic_path,
    check_place,
    check_plain,
    json_line,
    read_json,
    read_jsonl,
    write_bytes,
    write_json,
    write_jsonl,
    write_text,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_it_is_finished(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "clip.mp4") as temporary:
        assert temporary.parent == tmp_path / "deep"
        assert temporary.suffix == ".mp4" and temporary.name.startswith(".clip")
        temporary.write_bytes(b"new")
        assert not (tmp_path / "deep" / "clip.mp4").exists()
    assert (tmp_path / "deep" / "clip.mp4").read_bytes() == b"new"
    assert names(tmp_path / "deep") == ["clip.mp4"]


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError, match="in between"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("in between")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_written_atomically_too(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "step_3") as temporary:
        temporary.mkdir()
        (temporary / "head").write_bytes(b"1")
    assert names(tmp_path / "step_3") == ["head"]
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "step_4") as temporary:
        temporary.mkdir()
        (temporary / "head").write_bytes(b"1")
        raise RuntimeError
    assert names(tmp_path) == ["step_3"]


def test_text_and_bytes_keep_every_byte(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "ä\r\nb\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa4\r\nb\n"
    write_bytes(tmp_path / "a", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"


def test_json_bytes_do_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1.5, "a": {"é": [1, None]}})
    write_json(tmp_path / "b.json", {"a": {"é": [1, None]}, "b": 1.5})
    text = '{\n  "a": {\n    "é": [\n      1,\n      null\n    ]\n  },\n  "b": 1.5\n}\n'
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "a.jsonl", [{"loss": value}])
    assert names(tmp_path) == []


@given(rows=ROWS)
def test_jsonl_returns_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, (row for row in rows))
    assert read_jsonl(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows)


def test_a_line_keeps_the_order_of_its_keys() -> None:
    assert json_line({"qid": "q", "answer": None, "a": 0.1}) == '{"qid": "q", "answer": null, "a": 0.1}\n'


def test_jsonl_passes_over_empty_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
    assert read_jsonl(tmp_path / "a.jsonl") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": \n', "rows.jsonl, line 3: not valid JSON"),
        (b'{"a": "whole"}\n{"a": "ha', "rows.jsonl, line 2: not valid JSON: Unterminated string starting at column 7"),
        (b'{"a": 1}\n[1]\n', "rows.jsonl, line 2: not a JSON object but list"),
        (b'{"a": "\xff"}\n', "rows.jsonl: not a UTF-8 text file (byte 7)"),
        (b'{"a": 1}\n{"b": {"a": 2, "a": 3}}\n', "rows.jsonl, line 2: key 'a' stands there twice"),
        (b"[" * 100_000, "rows.jsonl, line 1: not valid JSON: nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "rows.jsonl, line 1: holds a number of more than 4300 digits"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_jsonl(tmp_path / "rows.jsonl")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: no such file"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_json(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", "/dev/zero"):
        with pytest.raises(UserError, match="is a pipe or device: name a file"):  # reading them would not end
            read_json(path)


def test_json_is_read_and_its_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([1, {"b": 2}]))
    assert read_json(tmp_path / "a.json") == [1, {"b": 2}]
    (tmp_path / "a.json").write_text('{\n "a" 1}')
    with pytest.raises(UserError, match=r"a\.json, line 2: not valid JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('[{"a": "}\\\\"},\n{"a": {"b": 1},\n"c": 2, "a": 3},\n{}]')
    with pytest.raises(UserError, match=r"a\.json, line 3: key 'a' stands there twice"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "fault"),
    [("[" * 100_000, "not valid JSON: nested too deeply"), ("9" * 5000, "holds a number of more than 4300 digits")],
    ids=["levels", "digits"],
)
def test_json_that_python_gives_up_on_is_refused_like_any_other(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_json(file)
    assert str(caught.value) == f"{file}: {fault}"
    file.write_text('{"a": 1}\n' + text + "\n")
    with pytest.raises(UserError) as caught:
        read_jsonl(file)
    assert str(caught.value) == f"{file}, line 2: {fault}"


def test_pipes_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError) as caught:
            read_json(place)
        assert str(caught.value) == f"{place}: is a pipe or device: name a file"
    with pytest.raises(UserError, match="pipe: is a pipe or device: name a file"):
        check_plain(tmp_path)  # a folder that holds one
    check_plain(tmp_path / "nothing")


def test_a_place_for_a_result_is_checked_before_the_work(tmp_path: Path) -> None:
    check_place("out", tmp_path / ("o" * MOST_BYTES))
    write_text(tmp_path / ("o" * (MOST_BYTES - 5) + ".html"), "page")  # the temporary name is possible too
    with pytest.raises(UserError, match=rf"^out=.*: its name has {MOST_BYTES + 1} bytes, {MOST_BYTES} are possible$"):
        check_place("out", tmp_path / ("o" * (MOST_BYTES + 1)))
    with pytest.raises(UserError, match="is a folder; name a file"):
        check_place("out", tmp_path)
    with pytest.raises(UserError, match="is a device or a pipe; name a file"):
        check_place("out", "/dev/null")
