"""Writing files so that a reader sees the old one or the new one, never half of one; and JSON both ways."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from sevila.errors import UserError, system_error

# A lone surrogate: JSON can write one ("\\ud83d"), and a command line that is not UTF-8 leaves them; UTF-8 has none.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")
HALF_CHARACTER_FAULT = "holds half a character, as of an emoji that was cut, or is no UTF-8: mend it"
TEMPORARY_MARK = ".tmp-"  # in the name of everything that is not finished
MOST_BYTES = 255 - len(f".{TEMPORARY_MARK}") - 12  # of a file's name: file systems take 255, with the temporary mark
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
    if len(os.fsencode(path.name)) > MOST_BYTES:
        raise UserError(f"{key}={path}: its name has {len(os.fsencode(path.name))} bytes, {MOST_BYTES} are possible")
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


def json_line(row: Mapping[str, Any], ascii: bool = False) -> str:
    """A row as a line of JSON with its line end, keys in their own order. ValueError for NaN and infinity.

    ascii   other letters as JSON's own escapes
    """
    return json.dumps(row, ensure_ascii=ascii, allow_nan=False) + "\n"


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically; the rows may come from a generator."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json_line(row))


def home(path: str) -> str:
    """A path whose first part is `~`, or `~NAME`, with the home folder in its place; any other as it is."""
    return os.path.expanduser(path)


def home_path(path: str) -> Path:
    """The same as a Path, for command lines."""
    return Path(home(path))


def check_plain(path: str | os.PathLike[str]) -> None:
    """UserError for a pipe, socket or device, and for a folder that holds one: reading it might never end."""
    path = Path(path)
    for file in (path, *path.iterdir()) if path.is_dir() else (path,):
        if file.exists() and not file.is_file() and not file.is_dir():
            raise UserError(f"{file}: is a pipe or device: name a file")


@contextmanager
def opened_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A UTF-8 file, without a byte order mark, to read from. UserError if it is missing or something else."""
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise UserError(f"{path}: is a pipe or device: name a file")  # reading it might never end
        with open(path, encoding="utf-8-sig") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text file (byte {error.start})") from None
    except (OSError, ValueError) as error:  # also a name that no file system takes
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file. UserError as `opened_text`."""
    with opened_text(path) as file:
        return file.read()


def text_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a UTF-8 file, read as they are asked for. UserError as `opened_text`."""
    with opened_text(path) as file:
        try:
            yield from file
        except UnicodeDecodeError:  # counts from the last piece that was read
            read_text(path)
            raise


class BadJson(Exception):
    """Why a text is no JSON that is read here, and its line where that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def parse_json(text: str) -> Any:
    """The object in a text. BadJson where it is malformed, has a key twice, or cannot be held."""
    objects = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
            raise BadJson(f"key {twice!r} stands there twice", _end_of_object(text, objects))
        return content

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # of some faults Python says "... starting at", of others not
        raise BadJson(f"not valid JSON: {what} at column {error.colno}", error.lineno) from None
    except RecursionError:
        raise BadJson("not valid JSON: nested too deeply") from None
    except ValueError:  # Python's own limit
        raise BadJson(f"holds a number of more than {sys.get_int_max_str_digits()} digits") from None


def _end_of_object(text: str, number: int) -> int:
    """The line in which the object of this number ends; objects are counted by their ends, from 1."""
    tokens = re.finditer(r'"(?:[^"\\]|\\.)*"|}', text, re.DOTALL)
    ends = (token.start() for token in tokens if token[0] == "}")
    return 1 + text.count("\n", 0, next(itertools.islice(ends, number - 1, None)))


def read_json(path: str | os.PathLike[str]) -> Any:
    """The object in a JSON file. UserError names the file and the line where it is malformed or has a key twice."""
    try:
        return parse_json(read_text(path))
    except BadJson as error:
        place = path if error.line is None else f"{path}, line {error.line}"
        raise UserError(f"{place}: {error}") from None


def json_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a jsonl text that are not empty, with their numbers from 1."""
    # split("\n"), not splitlines(): a JSON string may hold U+2028 and its like unescaped
    yield from ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a file with one JSON object a line; empty lines are passed over.

    UserError names the file and the line that is not a JSON object.
    """
    return [row for _, row in numbered_jsonl(path)]


def numbered_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same with the number of each row's line, from 1, for errors that name it; read as they are asked for."""
    lines = enumerate(text_lines(path), start=1)
    yield from _rows(((number, line) for number, line in lines if line.strip()), path)


def parse_jsonl(text: str, path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same of the text of a jsonl file; `path` is what errors name."""
    yield from _rows(json_lines(text), path)


def _rows(lines: Iterable[tuple[int, str]], path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        try:
            row = parse_json(line)
        except BadJson as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object but {type(row).__name__}")
        yield number, row
