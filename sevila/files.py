"""Writing files so that a reader sees the old one or the new one, never half of one; and JSON both ways."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sevila.errors import UserError, system_error

TEMPORARY_MARK = ".tmp-"  # in the name of everything that is not finished
_TEMPORARY = re.compile(r"\..*\.tmp-[0-9a-f]{12}(\.[^.]*)?", re.DOTALL)
SEAL = "sha256"  # the key of a sealed object's checksum


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` when the block ends well, else it is removed.

    The caller makes a file or a folder there. The temporary name is hidden and keeps the suffix, because some
    writers choose their format by it. Missing parent folders are made. The content is on the disk before it gets its
    name. A file at `path` is replaced; a folder that holds something is not (OSError), since no system call swaps two
    folders in one step. Where the system refuses something, the OSError names `path`, whoever was writing.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
    finally:  # after a good end the temporary name is gone already
        remove(temporary)


def temporary_beside(path: Path) -> Path:
    """A hidden name for what is not finished, or is to go."""
    return path.with_name(f".{path.stem}{TEMPORARY_MARK}{uuid.uuid4().hex[:12]}{path.suffix}")


def sweep(folder: Path) -> None:
    """Remove everything below a folder that killed writers left unfinished. Nobody may be writing there."""
    for place, folders, names in os.walk(folder):
        for name in [name for name in (*folders, *names) if _TEMPORARY.fullmatch(name)]:
            remove(Path(place) / name)
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]


def remove(path: Path) -> None:
    """Remove a file, a folder with all it holds, or nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError, or another writer's word for one, name the file that was to be written."""
    try:
        yield
    except Exception as error:
        refused = system_error(error)
        if refused is None or refused.errno is None:
            raise
        raise OSError(refused.errno, os.strerror(refused.errno), str(path)) from error


def _flush(path: Path) -> None:
    """Have the content of a file, or of a folder's files, on the disk before a name points to it."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def check_place(key: str, path: str | os.PathLike[str]) -> None:
    """UserError, which names the key, for a file that could not be written: asked before anything slow begins."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{key}={path}: is a folder; name a file")
    if path.exists() and not path.is_file():  # as root it would be replaced
        raise UserError(f"{key}={path}: is a device or a pipe; name a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{key}={path}: {above} cannot be written to")


def check_other(key: str, path: str | os.PathLike[str], inputs: Mapping[str, str | os.PathLike[str] | None]) -> None:
    """UserError for an output that is one of the inputs (by name -> path), also under another name or by a link."""
    for name, given in inputs.items():
        if given is not None and os.path.exists(path) and os.path.exists(given) and os.path.samefile(path, given):
            raise UserError(f"{key}={path}: is the input {name}={given}; name another file")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8 with the line ends it has, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as JSON, atomically. Equal objects give equal bytes: keys are sorted, the layout is fixed.

    ValueError for NaN and infinity, which JSON does not know.
    """
    text = json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content: Any) -> str:
    """The checksum of what JSON can say: 32 hex digits, the same before it is written and after it is read."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sealed(content: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """An object with its own checksum, which `unsealed` verifies. `place`: where it belongs, and is wrong elsewhere."""
    return {**content, SEAL: seal([place, content])}


def unsealed(found: Any, place: str = "") -> dict[str, Any]:
    """The object without its checksum. ValueError where that is missing or not right: it was damaged or edited."""
    if not isinstance(found, dict) or SEAL not in found:
        raise ValueError("has no checksum")
    content = {key: value for key, value in found.items() if key != SEAL}
    if seal([place, content]) != found[SEAL]:
        raise ValueError("is damaged (its checksum is wrong)")
    return content


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON with its line end, keys in their own order. ValueError for NaN and infinity."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically; the rows may come from a generator."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json_line(row))


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, without a byte order mark. UserError if it is missing or something else."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text file (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """The object in a JSON file. UserError names the file and the line where it is malformed."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a file with one JSON object a line; empty lines are passed over.

    UserError names the file and the line that is not a JSON object.
    """
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: str | os.PathLike[str]) -> list[tuple[int, dict[str, Any]]]:
    """The same with the number of each row's line, from 1, for errors that name it."""
    return list(_numbered(read_text(path), path))


def parse_jsonl(text: str, path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows in the text of a jsonl file; `path` is what errors name."""
    return [row for _, row in _numbered(text, path)]


def _numbered(text: str, path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    # split("\n"), not splitlines(): a JSON string may hold U+2028 and its like unescaped
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not valid JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object but {type(row).__name__}")
        yield number, row
