"""What a store's folder holds, and that emptying it touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sevila.data.sampling import PLAIN
from sevila.data.store import Misses, Place, Store
from sevila.data.store_files import MARK, Contents, Part, Table, claim, clear, contents, open_folder
from sevila.errors import UserError
from sevila.locks import LOCK


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with patches of two makers and two tables."""
    folder = tmp_path / "store"
    for tower, frames in (("a", (1, 2, 3)), ("b", (4, 5))):
        store = Store(folder, {"tower": tower}, torch.float32, note={"backbone": f"model {tower}"})
        for video in ("0123", "4567"):
            for view in (PLAIN, "crop-0-0-8-8"):
                store.write([Misses(Place(video, view), frames, (0.0,) * len(frames))], torch.ones(len(frames), 2, 2))
        store.flush()
    store.contents.of(Path(__file__))
    Table(folder, "keyframes", {"n": 4}).add({"k": {"x": 1}, "l": {"x": 2}})
    Table(folder, "pseudo_labels", {"n": 4}).add({"k": {"x": 1}})
    return folder


def makers(found: Contents) -> list[Part]:
    return [part for part in found.parts if part.kind == "patches"]


def tables(found: Contents) -> list[Part]:
    return [part for part in found.parts if part.kind != "patches"]


def test_contents_are_counted(folder: Path) -> None:
    found = contents(folder)
    by_backbone = {maker.about["note"]["backbone"]: (maker.videos, maker.rows) for maker in makers(found)}
    assert by_backbone == {"model a": (2, 12), "model b": (2, 8)}
    assert {maker.about["maker"]["tower"] for maker in makers(found)} == {"a", "b"}
    assert [(table.kind, table.rows) for table in tables(found)] == [("keyframes", 2), ("pseudo_labels", 1)]
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert found.bytes == sum(file.stat().st_size for file in files) and found.unfinished == 0
    left = next((folder / "patches").rglob("*.safetensors")).parent / ".3-ab.tmp-0123.safetensors"
    left.write_bytes(b"12345")
    left.with_name("foreign.safetensors").write_bytes(b"")
    assert contents(folder).unfinished == 5 and makers(contents(folder))[0].rows == makers(found)[0].rows


def test_everything_goes(folder: Path) -> None:
    held = contents(folder).bytes
    assert clear(folder) == held - contents(folder).bytes
    assert {file.name for file in folder.iterdir()} == {"store.json", LOCK}


def test_a_run_goes_on_writing_into_a_cleared_store(folder: Path) -> None:
    store = Store(folder, {"tower": "a"}, torch.float32)
    clear(folder)
    store.write([Misses(Place("0123", PLAIN), (1,), (0.0,))], torch.ones(1, 10, 100))
    store.flush()
    again = Store(folder, {"tower": "a"}, torch.float32)
    assert again.read(Place("0123", PLAIN), [1]).rows == [0]


def test_what_is_not_the_stores_stays(folder: Path) -> None:
    (folder / "thesis.tex").write_text("mine")
    clear(folder)
    assert sorted(file.name for file in folder.iterdir()) == [LOCK, "store.json", "thesis.tex"]


def test_one_maker_or_table_goes(folder: Path) -> None:
    first, second = (maker.name for maker in makers(contents(folder)))
    held = contents(folder)
    assert clear(folder, first) == makers(held)[0].bytes
    assert [maker.name for maker in makers(contents(folder))] == [second]
    clear(folder, tables(held)[1].name)
    assert [table.kind for table in tables(contents(folder))] == ["keyframes"]
    with pytest.raises(UserError, match=f"holds no {first}; it has: {second}, "):
        clear(folder, first)


@pytest.mark.parametrize("name", ["..", "../..", ".", "", "keyframes"])
def test_a_name_leads_nowhere_else(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="holds no "):
        clear(folder, name)
    assert len(makers(contents(folder))) == 2


def test_only_stores_are_looked_into(tmp_path: Path) -> None:
    for look in (contents, clear):
        with pytest.raises(UserError, match=f"is no store \\(no {MARK} in it\\)"):
            look(tmp_path)


def test_opening_twice_changes_nothing(tmp_path: Path) -> None:
    open_folder(tmp_path / "new/store")
    before = (tmp_path / "new/store" / MARK).read_bytes()
    open_folder(tmp_path / "new/store")
    assert (tmp_path / "new/store" / MARK).read_bytes() == before


def test_what_killed_runs_left_goes_when_nobody_else_is_there(tmp_path: Path) -> None:
    def leave() -> Path:
        left = tmp_path / "patches/.2-ab.tmp-0123456789ab.safetensors"
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"half")
        return left

    open_folder(tmp_path)
    living = claim(tmp_path)
    left = leave()  # that one is writing
    other = claim(tmp_path)
    assert left.exists()
    other.release()
    living.release()
    assert left.exists() and not (tmp_path / LOCK).exists()
    (tmp_path / LOCK).write_text("")  # as a killed process leaves it
    first = claim(tmp_path)
    assert not left.exists()
    left = leave()
    second = claim(tmp_path)  # beside the first one
    assert left.exists()
    for lock in (first, second):
        lock.release()


def test_links_do_not_lead_out(folder: Path, tmp_path: Path) -> None:
    held = contents(folder)
    (folder / "patches").rename(tmp_path / "patches")
    (folder / "patches").symlink_to(tmp_path / "patches")
    found = contents(folder)
    assert not makers(found) and found.bytes < held.bytes and tables(found) == tables(held)
    with pytest.raises(UserError, match="cannot be cleared"):
        clear(folder)
    assert len(list((tmp_path / "patches").iterdir())) == 2
