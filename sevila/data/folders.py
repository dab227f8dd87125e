"""Where the videos of a data set lie: a video's id -> its file, or its folder of frames."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sevila.errors import UserError

RATE_FILE = "fps.txt"
_PICTURE = re.compile(r"(?P<prefix>(?!\.).*?)(?P<number>\d+)\.(jpg|jpeg|png)", re.IGNORECASE)
VIDEO_EXTENSIONS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpeg")


class Videos(Protocol):
    """Finds a data set's videos."""

    def path(self, video: str) -> Path:
        """The video of this id: a file, or a folder of pictures. UserError where there is none."""
        ...


class VideoFolder:
    """A folder of videos: files, or folders of pictures (`video.FrameFolder` says of which form).

    root         the folder
    extensions   of files, tried in this order, then an id that ends in one itself; then a folder named like the video,
                 and last the extensions in capital letters
    names        where files may have other names than their ids: id -> path below the root, without extension
                 (NExT-QA's "1105/6037747123"). It is tried first, then the id itself.

    An id comes from an annotation file, so it is not trusted: one that leads out of the folder (by "..", as
    an absolute path, through a link in the folder or among its frames) is an error. The root itself may be a link.
    """

    def __init__(
        self,
        root: str | Path,
        extensions: tuple[str, ...] = VIDEO_EXTENSIONS,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.extensions = tuple(extensions)
        self.names = names or {}
        if not self.root.is_dir():
            raise UserError(f"video folder {self.root} does not exist: download the videos or set data.root")

    def places(self, video: str) -> Sequence[str]:
        """Paths below the root, without extension, where this video may be; the first that exists is it."""
        return [self.names[video], video] if self.names.get(video, video) != video else [video]

    def path(self, video: str) -> Path:
        """The file or folder of this video. UserError where there is none, or where the id leads out of the root."""
        places = self.places(video)
        try:
            found = self._find(video, places)
        except OSError as error:  # too long a name, or no permission
            problem = f"cannot be looked for in {self.root} ({error.strerror}): check the id and the folder"
            raise UserError(f"video {video!r} {problem}") from error
        except ValueError as error:  # letters that no file system takes
            raise UserError(f"video id {video!r} is no file name below {self.root}: mend the annotation") from error
        if found is not None:
            return found
        tried, names = ", ".join(self.extensions), " or ".join(map(repr, places))
        ended = " (an id is a name without its ending)" if Path(video).suffix.lower() in self.extensions else ""
        raise UserError(
            f"video {video!r} is not in {self.root} as {names} with any of {tried}, nor as a folder of frames{ended}: "
            "add it or set data.root"
        )

    def _find(self, video: str, places: Sequence[str]) -> Path | None:
        for place in places:
            if not place or "\0" in place or Path(place) == Path("."):
                raise ValueError(place)
            stem = self.root / place
            files = [self.root / f"{place}{extension}" for extension in self.extensions]
            if stem.suffix.lower() in self.extensions:
                files.append(stem)
            for file in files:
                if self._inside(file, video).is_file():
                    return file
            if self._inside(stem, video).is_dir():
                for file in linked_files(stem):
                    if not self._holds(file):
                        raise UserError(f"{file} is a link that leads out of the video folder {self.root}: refused")
                return stem
            for file in self._in_capitals(files):
                if self._inside(file, video).is_file():
                    return file
        return None

    def _in_capitals(self, files: Sequence[Path]) -> list[Path]:
        """Those of these files that are there with their extension in another case, as cameras write it."""
        folder = files[0].parent
        there = [os.path.splitext(name) for name in sorted(os.listdir(folder))] if folder.is_dir() else []
        wanted = [os.path.splitext(file.name) for file in files]
        return [folder / f"{s}{e}" for stem, end in wanted for s, e in there if (s, e.lower()) == (stem, end.lower())]

    def _holds(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def _inside(self, path: Path, video: str) -> Path:
        if not self._holds(path):
            raise UserError(f"video id {video!r} leads out of the video folder {self.root}: mend the annotation")
        return path


class AnyFile:
    """Videos that a user names by path, files or folders of pictures; nothing is looked up."""

    def path(self, video: str) -> Path:
        """The path itself. UserError where there is none."""
        # os.path's tests, not Path's: those raise for too long a name
        if not os.path.exists(video):
            raise UserError(f"{video}: no such video file")
        if not os.path.isfile(video) and not os.path.isdir(video):
            raise UserError(f"{video} is a pipe or device: name a video file or a folder of frames")
        return Path(video)


def picture_files(folder: Path) -> list[Path]:
    """The pictures in order. UserError where there are none, or where their numbers have a gap."""
    numbered: dict[tuple[str, int], Path] = {}
    try:
        with os.scandir(folder) as entries:
            files = [(entry.name, entry.is_file()) for entry in entries]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    for name, is_file in files:
        match = _PICTURE.fullmatch(name)
        if match:
            if not is_file:
                raise UserError(f"{folder / name} is not a file: put the picture there")
            key = (match["prefix"], int(match["number"]))
            if key in numbered:
                raise UserError(f"{folder}: {numbered[key].name} and {name} have the same number: remove one")
            numbered[key] = folder / name
    if not numbered:
        raise UserError(f"{folder} is a folder without frames (00001.jpg, ...): name a video file or a folder of them")
    keys = sorted(numbered)
    for (prefix, number), following in itertools.pairwise(keys):
        if following != (prefix, number + 1):
            raise UserError(
                f"{folder}: {numbered[following].name} comes after {numbered[prefix, number].name}: "
                "frames are missing, get the folder again"
            )
    return [numbered[key] for key in keys]


def linked_files(folder: Path) -> list[Path]:
    """What is read with a folder and may lie elsewhere: its pictures that are links, and the file of its rate."""
    with os.scandir(folder) as entries:
        links = [folder / entry.name for entry in entries if entry.is_symlink() and _PICTURE.fullmatch(entry.name)]
    rate = rate_file(folder)
    return links if rate is None else [*links, rate]


def rate_file(folder: Path) -> Path | None:
    """The file that states the rate of a folder's pictures, if there is one."""
    files = (folder / RATE_FILE, folder.parent / RATE_FILE)
    return next((file for file in files if os.path.lexists(file)), None)
