from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.data.folders import AnyFile, VideoFolder
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
    folder = VideoFolder(root, names={"6037747123": "1105/6037747123", "b": "1105/b"})
    assert folder.path("6037747123") == root / "1105/6037747123.mp4"
    assert folder.path("a") == root / "a.mp4"  # no other name
    assert folder.path("b") == root / "b.webm"  # not under its other name: under its own
    with pytest.raises(UserError, match="as '1105/c' or 'c' with any of"):
        VideoFolder(root, names={"c": "1105/c"}).path("c")


def test_a_folder_of_frames_is_a_video(root: Path) -> None:
    for name in ("c", "a"):
        (root / name).mkdir()
    assert VideoFolder(root).path("c") == root / "c"
    assert VideoFolder(root).path("a") == root / "a.mp4"  # a file comes first
    (root / "out").symlink_to(root.parent)
    with pytest.raises(UserError, match="leads out"):
        VideoFolder(root).path("out")


@pytest.mark.parametrize("name", ["monday.MP4", "monday.Mov", "monday.WebM"])
def test_an_ending_in_capital_letters(root: Path, name: str) -> None:
    (root / name).touch()
    assert VideoFolder(root).path("monday") == root / name
    assert VideoFolder(root).path(name) == VideoFolder(root).path(name.lower()) == root / name
    (root / "monday.avi").touch()
    assert VideoFolder(root).path("monday") == root / "monday.avi"  # an ending as it is usual comes first


def test_an_id_with_its_ending(root: Path) -> None:
    assert VideoFolder(root).path("a.mp4") == root / "a.mp4"
    (root / "a.mp4.mkv").touch()
    assert VideoFolder(root).path("a.mp4") == root / "a.mp4.mkv"  # the id as it stands comes first
    with pytest.raises(UserError, match=r"video 'b\.mp4' is not in .*\(an id is a name without its ending\)"):
        VideoFolder(root).path("b.mp4")
    with pytest.raises(UserError, match="leads out"):
        VideoFolder(root).path("../outside.mp4")


@pytest.mark.parametrize("link", ["00002.jpg", "fps.txt", "../fps.txt"])
def test_a_link_among_frames_never_leaves_the_root(root: Path, link: str) -> None:
    (root / "c").mkdir()
    (root / "c/00001.jpg").touch()
    (root / "c" / link).symlink_to(root / "a.mp4")
    (root / "c/notes").symlink_to(root.parent / "outside.mp4")  # nobody reads it
    assert VideoFolder(root).path("c") == root / "c"
    (root / "c" / link).unlink()
    (root / "c" / link).symlink_to(root.parent / "outside.mp4")
    with pytest.raises(UserError, match=r"is a link that leads out of the video folder .*/videos: refused"):
        VideoFolder(root).path("c")


def test_a_pipe_is_no_video(root: Path) -> None:
    for name in ("pipe.mp4", "pipe"):
        os.mkfifo(root / name)
    with pytest.raises(UserError, match="video 'pipe' is not in"):
        VideoFolder(root).path("pipe")
    assert AnyFile().path(str(root)) == root  # a folder of frames
    with pytest.raises(UserError, match="pipe is a pipe or device"):
        AnyFile().path(str(root / "pipe"))
    for name in ("none.mp4", "a" * 300, "a\0b"):
        with pytest.raises(UserError, match="no such video file"):
            AnyFile().path(str(root / name))


def test_a_missing_video_names_id_root_and_extensions(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        VideoFolder(root, extensions=(".mp4", ".mkv")).path("b")
    message = str(caught.value)
    assert "'b'" in message and str(root) in message and ".mp4, .mkv" in message
    assert "\n" not in message


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        VideoFolder(tmp_path / "nowhere")


@pytest.mark.parametrize("video", ["../outside", "x/../../outside", "/etc/passwd", "..", "../videos2"])
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


@pytest.mark.parametrize("video", ["", "a\0b", ".", "./", "a" * 300, "\ud800"])
def test_an_id_that_is_no_name(root: Path, video: str) -> None:
    with pytest.raises(UserError, match=r"is no file name|cannot be looked for"):
        VideoFolder(root).path(video)


PIECES = st.sampled_from(["..", ".", "a", "b", "inner", "/", "//", "", "outside", "frames", "\0", "~", ":", "link"])


@given(st.lists(PIECES, max_size=6).map("/".join) | st.text(max_size=12))
def test_whatever_the_id_what_is_found_lies_below_the_root(video: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve() / "videos"
        (root / "inner").mkdir(parents=True)
        for file in ("outside.mp4", "videos/a.mp4", "videos/inner/b.mp4"):
            (root.parent / file).touch()
        (root.parent / "frames").mkdir()
        (root / "link").symlink_to(root.parent / "frames")
        for folder in (VideoFolder(root), VideoFolder(root, names={"a": video})):
            try:
                found = folder.path(video if not folder.names else "a")
            except UserError as error:
                assert "\n" not in str(error)
                continue
            assert found.resolve().is_relative_to(root) and found.resolve() != root
