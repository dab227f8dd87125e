"""Rows by key: additions of several writers, other facts, damaged files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sevila.data.store_files import Table, row_key


def test_rows_of_several_writers_come_together(tmp_path: Path) -> None:
    first, second = (Table(tmp_path, "labels", {"head": "a"}) for _ in range(2))
    assert first.rows() == {}
    first.add({"k": {"x": [1, 0.1 + 0.2]}})
    second.add({"l": {"x": 2}, "k": {"x": [1, 0.1 + 0.2]}})
    second.add({})
    assert first.rows() == {"k": {"key": "k", "x": [1, 0.1 + 0.2]}, "l": {"key": "l", "x": 2}} == second.rows()
    assert len(list(first.folder.glob("*.jsonl"))) == 2


def test_other_facts_are_another_table(tmp_path: Path) -> None:
    Table(tmp_path, "labels", {"head": "a", "n": 4}).add({"k": {}})
    assert set(Table(tmp_path, "labels", {"n": 4, "head": "a"}).rows()) == {"k"}
    assert Table(tmp_path, "labels", {"head": "b", "n": 4}).rows() == {}
    assert Table(tmp_path, "choices", {"head": "a", "n": 4}).rows() == {}


def test_a_damaged_file_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = Table(tmp_path, "labels", {})
    table.add({"k": {"x": 1}})
    (table.folder / "zz.jsonl").write_text('{"key": "l", "x"')
    (table.folder / "zy.jsonl").write_text('{"x": 1}\n')
    assert table.rows() == {"k": {"key": "k", "x": 1}}
    assert capsys.readouterr().err.count("1 of 1 rows are damaged; they are made again") == 2
    assert table.rows() == {"k": {"key": "k", "x": 1}} and capsys.readouterr().err == ""  # met once
    (table.folder / "zx.jsonl").write_bytes(b"\xff")
    assert table.rows() == {"k": {"key": "k", "x": 1}}
    assert "zx.jsonl: passed over (not a UTF-8 text file" in capsys.readouterr().err


def test_an_edited_number_is_noticed_and_the_good_rows_stay(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = Table(tmp_path, "labels", {})
    table.add({"k": {"x": 12345}, "l": {"x": 2}})
    (file,) = table.folder.glob("*.jsonl")
    file.write_text(file.read_text().replace("12345", "12346"))
    for _ in range(2):
        assert table.rows() == {"l": {"key": "l", "x": 2}}
    assert capsys.readouterr().err.count("1 of 2 rows are damaged; they are made again") == 1
    assert not file.exists()


def test_rows_of_another_table_are_damaged_here(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = Table(tmp_path, "labels", {"head": "a"}), Table(tmp_path, "labels", {"head": "b"})
    first.add({"k": {"x": 1}})
    shutil.copytree(first.folder, second.folder)
    assert second.rows() == {} and first.rows() == {"k": {"key": "k", "x": 1}}
    assert "rows are damaged" in capsys.readouterr().err


def test_links_are_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    away, here = Table(tmp_path / "away", "labels", {}), Table(tmp_path / "here", "labels", {})
    for folder in ("away", "here"):
        (tmp_path / folder).mkdir()
    away.add({"k": {"x": 1}})
    (file,) = away.folder.glob("*.jsonl")
    here.folder.mkdir(parents=True)
    (here.folder / "a.jsonl").symlink_to(file)
    assert here.rows() == {} and "is a link, which a store has none of" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "here/tables")
    (tmp_path / "here/tables").symlink_to(tmp_path / "away/tables")
    assert here.rows() == {}
    here.add({"l": {"x": 2}})
    assert "cannot be written to (a link in it leads elsewhere); nothing added" in capsys.readouterr().err
    assert away.rows() == {"k": {"key": "k", "x": 1}}


def test_the_folder_of_a_run_that_is_gone_is_not_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Table(tmp_path / "run/unfinished", "answers", {}).add({"k": {}})
    assert not (tmp_path / "run").exists()
    assert "cannot be written to (No such file or directory); nothing added" in capsys.readouterr().err


def test_keys_tell_contents_apart() -> None:
    assert row_key("a", [1, 2], None) == row_key("a", [1, 2], None) != row_key("a", [1], 2)
    assert len(row_key("ä")) == 32
