"""Patches on disk: what is found again, what never is, and what happens to files that are not whole."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sevila.data import store as store_module
from sevila.data.sampling import PLAIN
from sevila.data.store import Misses, Place, Store
from sevila.data.store_files import size_of
from sevila.data.video import VideoInfo
from sevila.errors import UserError
from sevila.files import TEMPORARY_MARK

MAKER = {"tower": "aa", "size": "32", "device": "cpu"}
PLACE = Place("0123456789abcdef", PLAIN)
Make = Callable[..., Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(...) opens the store of this test, as a run does."""

    def store(maker: dict[str, str] = MAKER, dtype: torch.dtype = torch.float32, **options: object) -> Store:
        return Store(tmp_path / "store", maker, dtype, **options)

    return store


def patches(*indices: int, width: int = 8) -> torch.Tensor:
    """[T, 3, width], of each frame its own."""
    rows = [torch.randn(3, width, generator=torch.Generator().manual_seed(index)) for index in indices]
    return torch.stack(rows)


def misses(*indices: int, place: Place = PLACE) -> Misses:
    return Misses(place, indices, tuple(index / 25 for index in indices))


def put(store: Store, missing: Misses, made: torch.Tensor) -> torch.Tensor:
    """What `write` gives, once all is on disk."""
    given = store.write([missing], made)
    store.flush()
    return given


def chunks(store: Store) -> list[Path]:
    return sorted(file for file in store.folder.rglob("*.safetensors") if TEMPORARY_MARK not in file.name)


def test_what_was_written_is_found_bit_for_bit(make: Make) -> None:
    assert make().read(PLACE, [3, 5]).patches is None
    put(make(), misses(5, 3, 9), patches(5, 3, 9))
    found = make().read(PLACE, [3, 4, 9, 3])
    assert found.rows == [0, 2, 3] and torch.equal(found.patches, patches(3, 9, 3))
    assert {index: found.times[index] for index in (3, 9)} == {3: 3 / 25, 9: 9 / 25}
    whole = make().read(PLACE, [3, 5, 9])
    assert whole.rows == [0, 1, 2] and torch.equal(whole.patches, patches(3, 5, 9))
    assert make().read(replace(PLACE, view="crop-0-0-8-8"), [3]).rows == []
    assert make().read(replace(PLACE, video="other"), [3]).rows == []


def test_a_video_that_a_batch_has_twice_is_written_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write_chunk = store_module.write_chunk
    monkeypatch.setattr(
        store_module, "write_chunk", lambda file, *rest: written.append(file) or write_chunk(file, *rest)
    )
    kept = make()
    kept.write([misses(3, 5), misses(4), misses(5, 3)], patches(3, 5, 4, 5, 3))
    kept.flush()
    assert len(written) == 2 and written == sorted(chunks(kept), reverse=True)
    assert torch.equal(make().read(PLACE, [3, 4, 5]).patches, patches(3, 4, 5))


def test_frames_of_several_files_come_together(make: Make) -> None:
    store = make()
    for part in ((1, 2), (4, 3), (2, 7)):
        put(store, misses(*part), patches(*part))
    assert len(chunks(store)) == 3
    for reader in (store, make()):
        found = reader.read(PLACE, [7, 1, 5, 4, 2])
        assert found.rows == [0, 1, 3, 4] and torch.equal(found.patches, patches(7, 1, 4, 2))


def test_of_a_frame_written_twice_the_first_one_counts(make: Make) -> None:
    store = make()
    put(store, misses(1, 2), patches(1, 2))
    put(store, misses(1, 2), -patches(1, 2))  # the same frames: nothing is written
    (first,) = chunks(store)
    os.utime(first, ns=(0, 0))  # as if it had been written long ago
    put(store, misses(2, 3), -patches(2, 3))
    assert len(chunks(store)) == 2
    assert torch.equal(make().read(PLACE, [1, 2]).patches, patches(1, 2))


@pytest.mark.parametrize(
    "other", [{"maker": {**MAKER, "tower": "ab"}}, {"maker": {**MAKER, "size": "33"}}, {"dtype": torch.bfloat16}]
)
def test_another_maker_finds_nothing(make: Make, other: dict[str, object]) -> None:
    put(make(), misses(1), patches(1))
    assert make(**other).read(PLACE, [1]).rows == []
    assert make().read(PLACE, [1]).rows == [0]


def test_a_file_that_was_put_into_another_makers_place_is_refused(make: Make, capsys: pytest.CaptureFixture) -> None:
    first, second = make(), make({**MAKER, "tower": "ab"})
    put(first, misses(1), patches(1))
    put(second, misses(1), -patches(1))
    (mine,) = (file for file in chunks(first) if first.id in file.parts)
    (other,) = (file for file in chunks(first) if second.id in file.parts)
    mine.write_bytes(other.read_bytes())
    reader = make()
    assert reader.read(PLACE, [1]).rows == [] == reader.read(PLACE, [1]).rows
    assert capsys.readouterr().err.count("is not what its place says; its frames are encoded again") == 1
    put(reader, misses(1), patches(1))  # and it is put right
    assert torch.equal(reader.read(PLACE, [1]).patches, patches(1))
    assert torch.equal(make().read(PLACE, [1]).patches, patches(1))


@pytest.mark.parametrize("cut", [0, 7, 100, 300, -1])
def test_a_file_that_was_cut_short_is_passed_over_and_made_again(
    make: Make, cut: int, capsys: pytest.CaptureFixture
) -> None:
    put(make(), misses(1, 2), patches(1, 2))
    (file,) = chunks(make())
    file.write_bytes(file.read_bytes()[:cut])
    reader = make()
    put(reader, misses(4), patches(4))
    assert reader.read(PLACE, [1, 4]).rows == [1]
    assert f"sevila: warning: {file}: cannot be read" in capsys.readouterr().err
    put(make(), misses(1, 2), patches(1, 2))  # by a process that has not seen it yet
    assert torch.equal(make().read(PLACE, [1, 2]).patches, patches(1, 2))


def test_a_flipped_bit_is_noticed(make: Make, capsys: pytest.CaptureFixture) -> None:
    put(make(), misses(1, 2), patches(1, 2))
    (file,) = chunks(make())
    tensors = load_file(file)
    start = file.read_bytes().index(tensors["patches"][1].numpy().tobytes())
    data = bytearray(file.read_bytes())
    data[start + 5] ^= 1
    file.write_bytes(data)
    assert torch.equal(make().read(PLACE, [1]).patches, patches(1))  # the other frame is whole
    reader = make()
    assert reader.read(PLACE, [1, 2]).rows == []
    assert "is damaged (a checksum is wrong); its frames are encoded again" in capsys.readouterr().err
    put(make(), misses(1, 2), patches(1, 2))
    assert make().read(PLACE, [1, 2]).rows == [0, 1]


def everything(store: Store, video: Path) -> tuple[object, ...]:
    """What a store knows of two frames, and of a video whose probing gives another rate."""
    found = store.read(PLACE, [1, 2])
    rows = [] if found.patches is None else found.patches.tolist()
    return found.rows, rows, found.times, store.info(video, lambda _: OTHER_INFO), store.place(video, PLAIN).video


INFO, OTHER_INFO = VideoInfo(50, 25.0, 96, 64, 2.0), VideoInfo(51, 25.0, 96, 64, 2.0)


@pytest.mark.parametrize("kind", ["patches", "videos", "content"])
def test_a_byte_flipped_anywhere_is_noticed(make: Make, tmp_path: Path, kind: str, capsys) -> None:
    """Patches, frame numbers, times, rates: what is not as it was written is not there, and is made again."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"a video")
    put(make(), misses(1, 2), patches(1, 2))
    make().info(video, lambda _: INFO)
    whole = everything(make(), video)
    assert whole[0] == [0, 1] and whole[3] == INFO
    lost = ([], [], {}, INFO, whole[4]) if kind == "patches" else (*whole[:3], OTHER_INFO, whole[4])
    (file,) = (
        f
        for f in (tmp_path / "store" / kind).rglob("*")
        if f.suffix in (".safetensors", ".json") and f.name != "maker.json"
    )
    content, noticed = file.read_bytes(), 0
    for place in range(0, len(content), 5):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        capsys.readouterr()
        found = everything(make(), video)
        assert found in (whole, lost), place
        told = capsys.readouterr().err
        assert (found == whole and kind != "content") or told.startswith(f"sevila: warning: {file}: ")
        noticed += bool(told)
        file.write_bytes(content)
    assert noticed > len(content) // 5 - 5  # all but filling


@pytest.mark.parametrize("depth", [0, 1, 3, 5])
def test_links_are_not_followed(make: Make, tmp_path: Path, depth: int, capsys: pytest.CaptureFixture) -> None:
    put(make(), misses(1), patches(1))
    (file,) = chunks(make())
    link = (file, *file.parents)[depth]
    link.rename(tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    store = make()
    assert store.read(PLACE, [1]).rows == []
    assert "is a link, which a store has none of" in capsys.readouterr().err
    put(store, misses(2), patches(2))
    if depth:  # nothing is written through a link either
        assert len(list((tmp_path / "elsewhere").rglob("*.safetensors"))) == 1
        assert "(a link in it leads elsewhere); nothing is added any more" in capsys.readouterr().err


def test_a_foreign_file_is_no_patches(make: Make, capsys: pytest.CaptureFixture) -> None:
    put(make(), misses(1), patches(1))
    (file,) = chunks(make())
    save_file({"weights": torch.ones(2)}, file.with_name("1-foreign.safetensors"))
    file.with_name("notes.txt").write_text("mine")
    assert torch.equal(make().read(PLACE, [1]).patches, patches(1))
    assert "1-foreign.safetensors: is not what its place says" in capsys.readouterr().err


def test_files_that_vanish_are_missed_only(make: Make) -> None:
    store = make()
    put(store, misses(1), patches(1))
    assert store.read(PLACE, [1]).rows == [0]
    chunks(store)[0].unlink()
    assert store.read(PLACE, [1]).rows == []
    put(store, misses(1), patches(1))
    assert store.read(PLACE, [1]).rows == [0]


def _write_many(folder: Path, first: int, start: object) -> None:
    store = Store(folder, MAKER, torch.float32)
    start.wait(30)
    for index in range(first, first + 30):
        put(store, misses(index, index + 1), patches(index, index + 1))


def test_two_processes_write_at_once(make: Make) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    store = make()
    workers = [context.Process(target=_write_many, args=(store.folder, first, start)) for first in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = store.read(PLACE, list(range(41)))
    assert found.rows == list(range(41)) and torch.equal(found.patches, patches(*range(41)))
    assert len(chunks(store)) == 40 and not [f for f in store.folder.rglob("*") if TEMPORARY_MARK in f.name]


def _die_writing(folder: Path) -> None:
    store, done = Store(folder, MAKER, torch.float32), []

    def fsync(_: int) -> None:
        if done:  # maker.json was the first
            os._exit(9)  # the bytes are there, their name is not
        done.append(True)

    os.fsync = fsync
    put(store, misses(1), patches(1))


def test_a_crash_in_the_middle_of_a_write_leaves_nothing_half(make: Make, capfd: pytest.CaptureFixture) -> None:
    context = multiprocessing.get_context("fork")
    store = make()
    worker = context.Process(target=_die_writing, args=(store.folder,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    assert [file for file in store.folder.rglob("*.safetensors")] and not chunks(store)  # only an unfinished one
    assert store.read(PLACE, [1]).rows == []
    put(store, misses(1), patches(1))
    assert store.read(PLACE, [1]).rows == [0] and capfd.readouterr().err == ""


def test_nothing_is_added_to_a_full_store(make: Make, capsys: pytest.CaptureFixture) -> None:
    size = 20_000
    store = make(max_bytes=size)
    for index in range(100):
        put(store, misses(index), patches(index, width=100))
    assert size - 2000 < size_of(store.folder) <= size
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1 and "it is full (store.max_gb=2e-05); nothing is added any more" in warned
    kept = store.read(PLACE, list(range(100))).rows
    assert kept == list(range(len(kept))) and 10 < len(kept) < 20
    fresh = make(max_bytes=size)  # counts what others wrote
    put(fresh, misses(500), patches(500, width=100))
    assert fresh.read(PLACE, [500]).rows == [] and fresh.read(PLACE, [0]).rows == [0]
    put(make(max_bytes=2 * size), misses(500), patches(500, width=100))
    assert fresh.read(PLACE, [500]).rows == [0]


def test_bf16_at_rest_rounds_once(make: Make) -> None:
    exact, rough = make(), make(rest=torch.bfloat16)
    assert torch.equal(put(exact, misses(2), patches(2)), patches(2))
    settled = put(rough, misses(1), patches(1))
    assert settled.dtype == torch.float32 and 0 < (settled - patches(1)).abs().max() < 0.02
    assert torch.equal(rough.read(PLACE, [1]).patches, settled)  # what a run with a cold store computes with
    assert exact.read(PLACE, [1]).rows == []


def test_compute_dtype_is_kept(make: Make) -> None:
    store = make(dtype=torch.bfloat16)
    put(store, misses(1), patches(1).bfloat16())
    found = store.read(PLACE, [1]).patches
    assert found.dtype == torch.bfloat16 and torch.equal(found, patches(1).bfloat16())


def test_a_store_that_may_only_be_read(make: Make, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    put(make(), misses(1), patches(1))
    store = make()

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sevila.data.chunks.write_bytes", refused)
    put(store, misses(2), patches(2))
    put(store, misses(3), patches(3))
    assert store.read(PLACE, [1, 2]).rows == [0]
    assert capsys.readouterr().err.count("cannot be written to (Permission denied); nothing is added any more") == 1


def test_a_write_does_not_wait_for_the_disk_but_a_read_does(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store, disk, begun = make(), threading.Event(), []
    plain = os.fsync

    def slow(handle: int) -> None:
        begun.append(handle)
        assert disk.wait(20)
        plain(handle)

    monkeypatch.setattr(os, "fsync", slow)
    both = [misses(1, 2), misses(7, place=replace(PLACE, video="other"))]
    given = patches(1, 2, 7)
    settled = store.write(both, given)
    store.write(both, given)  # on its way already: not once more
    given.zero_()  # what becomes of them afterwards is the caller's
    assert torch.equal(settled, given) and chunks(store) == []
    assert store.read(replace(PLACE, video="third"), [1]).rows == []  # nobody writes there
    threading.Timer(0.2, disk.set).start()
    assert torch.equal(store.read(PLACE, [2, 1]).patches, patches(2, 1))
    store.flush()
    assert torch.equal(make().read(both[1].place, [7]).patches, patches(7))
    assert len(chunks(store)) == 2 and len(begun) == 3  # and maker.json


@pytest.mark.parametrize("call", ["read", "write", "flush"])
def test_what_goes_wrong_in_between_is_raised(make: Make, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store = make()

    def broken(*_: object) -> None:
        raise ArithmeticError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr("sevila.data.store.write_chunk", broken)
        store.write([misses(1)], patches(1))
        with pytest.raises(ArithmeticError, match="a bug"):
            if call == "flush":
                store.flush()
            elif call == "read":
                store.read(PLACE, [5])
            while call == "write":  # until the thread is there
                store.write([misses(2)], patches(2))
    with suppress(ArithmeticError):  # of those that were written on the way
        store.flush()
    store.flush()
    put(store, misses(3), patches(3))
    assert make().read(PLACE, [3]).rows == [0]


def test_a_disk_that_fills_up_in_between_ends_the_writing_only(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    store, plain = make(), os.fsync
    put(store, misses(1), patches(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for index in range(2, 6):
        assert torch.equal(store.write([misses(index)], patches(index)), patches(index))
    store.flush()
    monkeypatch.setattr(os, "fsync", plain)
    put(store, misses(6), patches(6))  # nor is anything added later
    assert capsys.readouterr().err.count("cannot be written to (No space left on device); nothing is added any") == 1
    assert make().read(PLACE, list(range(7))).rows == [1]
    assert not [file for file in store.folder.rglob("*") if TEMPORARY_MARK in file.name]


def _killed_with_much_to_write(folder: Path) -> None:
    store = Store(folder, MAKER, torch.float32)
    for index in range(200):
        store.write([misses(index)], patches(index))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_loses_what_was_on_its_way_and_nothing_else(make: Make, capfd: pytest.CaptureFixture) -> None:
    store = make()
    worker = multiprocessing.get_context("fork").Process(target=_killed_with_much_to_write, args=(store.folder,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    found = store.read(PLACE, list(range(200)))
    assert found.rows == list(range(len(chunks(store)))) and len(found.rows) < 200  # the first ones, each of them whole
    if found.rows:
        assert torch.equal(found.patches, patches(*found.rows))
    put(store, misses(*range(200)), patches(*range(200)))
    assert make().read(PLACE, list(range(200))).rows == list(range(200)) and capfd.readouterr().err == ""


def test_what_is_kept_in_memory_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sevila.data.store.KNOWN_PLACES", 3)
    store = make()
    for number in range(8):
        place = replace(PLACE, video=f"video {number}")
        put(store, misses(1, place=place), patches(1))
        assert store.read(place, [1]).rows == [0]
        (tmp_path / "v.mp4").write_bytes(b"video %d" % number)
        assert store.info(tmp_path / "v.mp4", lambda _: INFO) == INFO
    assert (len(store._places), len(store._checked), len(store._infos)) == (3, 3, 3)


def test_a_folder_with_other_things_is_no_store(tmp_path: Path, make: Make) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds other things than a store; name an empty or new folder"):
        Store(tmp_path / "other", MAKER, torch.float32)
    with pytest.raises(UserError, match="cannot be written to"):
        Store(tmp_path / "other/thesis.tex", MAKER, torch.float32)
    make()
    (tmp_path / "store/store.json").write_text('{"sevila": "store", "version": 0}')
    with pytest.raises(UserError, match="a store of another version of sevila"):
        make()


def test_what_is_known_of_a_video_is_found_out_once(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"a video")
    info = VideoInfo(2, 1.5, 96, 64, 4 / 3, times=(0.0, 1 / 3))
    probed: list[Path] = []

    def probe(video: Path) -> VideoInfo:
        probed.append(video)
        return info

    assert make().info(path, probe) == info == make().info(path, probe)
    other = tmp_path / "renamed.mp4"
    path.rename(other)
    assert make().info(other, probe) == info and probed == [path]
    other.write_bytes(b"another")
    assert make().info(other, probe) == info and probed == [path, other]
