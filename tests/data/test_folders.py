from __future__ import annotations

from pathlib import Path

import pytest

from sevila.data.folders import VideoFolder
from sevila.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for name in ("a.mp4", "b.webm", "1105/6037747123.mp4", "x_60.0_210.0.mp4", "both.avi", "both.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (tmp_path / "outside.mp4").write_bytes(b"")
    return folder


def test_an_id_becomes_a_path(root: Path) -> None:
    folder = VideoFolder(root)
    assert folder.path("a") == root / "a.mp4"
    assert folder.path("b") == root / "b.webm"
    assert folder.path("x_60.0_210.0") == root / "x_60.0_210.0.mp4"  # the id's own dots are no extension
    assert folder.path("both") == root / "both.mp4"  # the first extension wins
    assert VideoFolder(root, extensions=(".avi", ".mp4")).path("both") == root / "both.avi"


def test_names_lead_to_files(root: Path) -> None:
    folder = VideoFolder(root, names={"6037747123": "1105/6037747123"})
    assert folder.path("6037747123") == root / "1105/6037747123.mp4"
    with pytest.raises(UserError, match="video 'a' has no entry in the map"):
        folder.path("a")


def test_a_missing_video_names_id_root_and_extensions(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        VideoFolder(root, extensions=(".mp4", ".mkv")).path("b")
    message = str(caught.value)
    assert "'b'" in message and str(root) in message and ".mp4, .mkv" in message
    assert "\n" not in message


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        VideoFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("video", ["../outside", "x/../../outside", "/etc/passwd"])
def test_an_id_never_leaves_the_root(root: Path, video: str) -> None:
    with pytest.raises(UserError, match="leads out of the video folder"):
        VideoFolder(root).path(video)


def test_an_absolute_id_of_a_real_file_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="leads out"):
        VideoFolder(root).path(str(root.parent / "outside"))


def test_a_name_never_leaves_the_root(root: Path) -> None:
    with pytest.raises(UserError, match="leads out"):
        VideoFolder(root, names={"a": "../outside"}).path("a")


def test_a_link_never_leaves_the_root(root: Path) -> None:
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "inner.mp4").symlink_to(root / "a.mp4")
    with pytest.raises(UserError, match="leads out"):
        VideoFolder(root).path("link")
    assert VideoFolder(root).path("inner") == root / "inner.mp4"


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert VideoFolder(tmp_path / "link").path("a") == tmp_path / "link/a.mp4"


@pytest.mark.parametrize("video", ["", "a\0b"])
def test_an_id_that_is_no_name(root: Path, video: str) -> None:
    with pytest.raises(UserError, match="is no file name"):
        VideoFolder(root).path(video)
