"""Where the videos of a data set lie: a video's id -> its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sevila.errors import UserError

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".mpeg")


class VideoFolder:
    """A folder of video files.

    root         the folder
    extensions   tried in this order
    names        where files are not named by their ids: id -> path below the root, without extension
                 (NExT-QA's "1105/6037747123"). It must then name every id.

    An id comes from an annotation file, so it is not trusted: one that leads out of the folder (by "..", as
    an absolute path, through a link in the folder) is an error. The root itself may be a link.
    """

    def __init__(
        self,
        root: str | Path,
        extensions: tuple[str, ...] = VIDEO_EXTENSIONS,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.extensions = tuple(extensions)
        self.names = names
        if not self.root.is_dir():
            raise UserError(f"video folder {self.root} does not exist: download the videos or set data.root")

    def path(self, video: str) -> Path:
        """The file of this video. UserError where there is none, or where the id leads out of the folder."""
        name = self._name(video)
        root = self.root.resolve()
        for extension in self.extensions:
            candidate = self.root / f"{name}{extension}"
            if not candidate.resolve().is_relative_to(root):
                raise UserError(f"video id {video!r} leads out of the video folder {self.root}: mend the annotation")
            if candidate.is_file():
                return candidate
        tried = ", ".join(self.extensions)
        raise UserError(f"video {video!r} is not in {self.root} as {name} with any of {tried}: add it or set data.root")

    def _name(self, video: str) -> str:
        if self.names is None:
            name = video
        elif video in self.names:
            name = self.names[video]
        else:
            raise UserError(f"video {video!r} has no entry in the map from ids to files below {self.root}: add one")
        if not name or "\0" in name:
            raise UserError(f"video id {video!r} is no file name below {self.root}: mend the annotation")
        return name


class AnyFile:
    """Videos that a user names by path; nothing is looked up."""

    def path(self, video: str) -> Path:
        """The path itself. UserError where there is no file."""
        path = Path(video)
        if not path.is_file():
            raise UserError(f"{video}: no such video file")
        return path
