"""Content hashes: of the bytes, computed once, and anew when a file changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from sevila.data import store_files as content
from sevila.data.store_files import ContentHashes, write_sealed
from sevila.errors import UserError


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read through to be hashed."""
    read: list[Path] = []
    plain = content._file_hash

    def counted(path: Path) -> str:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(content, "_file_hash", counted)
    return read


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[Path]) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"one")
    first = ContentHashes(tmp_path / "h").of(video)
    assert ContentHashes(tmp_path / "h").of(video) == first and len(first) == 32 and len(hashed) == 1
    same = tmp_path / "same.mp4"
    shutil.copy2(video, same)
    assert ContentHashes(tmp_path / "h").of(same) == first and len(hashed) == 2


def test_a_changed_file_is_noticed(tmp_path: Path, hashed: list[Path]) -> None:
    video, hashes = tmp_path / "v.mp4", ContentHashes(tmp_path / "h")
    video.write_bytes(b"one")
    state = video.stat()
    first = hashes.of(video)
    other = tmp_path / "other"
    other.write_bytes(b"two")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size, same time: as after cp -p
    other.replace(video)
    assert hashes.of(video) != first and ContentHashes(tmp_path / "h").of(video) == hashes.of(video)
    assert len(hashed) == 2


def test_a_damaged_memory_is_made_again(tmp_path: Path, hashed: list[Path]) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"one")
    first = ContentHashes(tmp_path / "h").of(video)
    for text in ("", "[]", '{"path": 1}'):
        next((tmp_path / "h").rglob("*.json")).write_text(text)
        assert ContentHashes(tmp_path / "h").of(video) == first
    assert len(hashed) == 4


def test_another_hash_in_the_memory_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"one")
    first = ContentHashes(tmp_path / "h").of(video)
    (file,) = (tmp_path / "h").rglob("*.json")
    file.write_text(file.read_text().replace(first, "0" * 32))
    assert ContentHashes(tmp_path / "h").of(video) == first
    assert capsys.readouterr().err == (
        f"sevila: warning: {file}: is damaged (its checksum is wrong); its video is hashed again\n"
    )


def test_a_hash_of_another_form_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Whole, and in its place, but not what this version writes."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"one")
    first = ContentHashes(tmp_path / "h").of(video)
    (file,) = (tmp_path / "h").rglob("*.json")
    write_sealed(tmp_path / "h", file, {"path": str(video), "hash": first})
    assert ContentHashes(tmp_path / "h").of(video) == first
    assert capsys.readouterr().err.endswith("holds hash, path, not content, path, state; its video is hashed again\n")


def test_folders_of_pictures(tmp_path: Path) -> None:
    hashes = ContentHashes(tmp_path / "h")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in (1, 2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number:05}.png")
    first = hashes.of(tmp_path / "a")
    assert hashes.of(tmp_path / "b") == first
    Image.new("RGB", (8, 8), (3, 0, 0)).save(tmp_path / "b/00002.png")
    assert hashes.of(tmp_path / "b") != first
    (tmp_path / "a/fps.txt").write_text("7")
    assert hashes.of(tmp_path / "a") != first  # other frames are sampled at another rate


def test_there_must_be_a_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4 cannot be opened \(No such file or directory\)"):
        ContentHashes(tmp_path / "h").of(tmp_path / "none.mp4")
