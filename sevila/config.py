"""From the words of a command line to a checked configuration.

Hydra composes the yaml files of `configs/`: the entry point's own, one choice of every group, and an
experiment. Values given on the command line are written in Hydra's grammar, with one difference: a value that
is text (a path, a question) is taken as it stands, commas, quotes and all. The result is checked against
`sevila.schema`. Whatever is wrong is one UserError, and nothing has been written by then.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from sevila.errors import UserError
from sevila.files import HALF_CHARACTER, home, read_text
from sevila.schema import ENTRIES, IN_WORDS, check, expand_homes, nested, suggest, types

MOST_VALUES = 100_000  # in a yaml file
_ASSIGNMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[A-Za-z_][\w.@/-]*)=(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Words:
    """A command line, taken apart: assignments in order, and the users' own config folders."""

    assignments: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    show: str = ""  # "help" or "cfg" where that was asked for


@dataclass(frozen=True)
class Library:
    """The config files at hand: the project's own folder first, then the users'."""

    folders: tuple[Path, ...]

    def groups(self) -> list[str]:
        """Names of the groups, `exp` among them."""
        return sorted({sub.name for top in self.folders for sub in top.iterdir() if sub.is_dir()})

    def choices(self, group: str) -> dict[str, Path]:
        """The choices of a group and their files."""
        files = {}
        for top in self.folders:
            for file in sorted((top / group).rglob("*.yaml")):
                files[file.relative_to(top / group).with_suffix("").as_posix()] = file
        return files


def own_folder() -> Path:
    """The project's configs: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return folder
    raise UserError(f"no configs/ in {package} or beside it: install sevila again")


def in_utf8(word: str) -> str:
    """A word of a command line as its bytes say in UTF-8, which Python does not try in a locale without letters."""
    try:
        return os.fsencode(word).decode("utf-8") if HALF_CHARACTER.search(word) else word
    except UnicodeError:
        return word


def split(argv: Sequence[str]) -> Words:
    """Take a command line apart. UserError for an option that does not exist."""
    assignments, folders, show = [], [], ""
    rest = iter(argv)
    for word in rest:
        if word in ("-h", "--help"):
            show = "help"
        elif word == "--cfg":
            show = show or "cfg"
        elif word == "--config-dir" or word.startswith("--config-dir="):
            name = home(word.partition("=")[2] or next(rest, ""))
            if not name or not Path(name).is_dir():
                raise UserError(f"--config-dir {name}: no such folder")
            folders.append(Path(name).resolve())
        elif word.startswith("-"):
            raise UserError(f"unknown option {word}; there are --help, --cfg, --config-dir DIR and key=value")
        else:
            assignments.append(word)
    return Words(tuple(assignments), tuple(folders), show)


def library(folders: Sequence[Path] = ()) -> Library:
    """The project's configs and the users'. UserError where a user's file would be hidden by one of ours."""
    own = own_folder()
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            if (own / file.relative_to(folder)).exists():
                raise UserError(f"{file}: sevila has a config of that name; give the file another name")
            read_yaml(file)  # names the line, which Hydra does not
    return Library((own, *folders))


def load(entry: str, argv: Sequence[str]) -> Any:
    """The checked configuration of an entry point: an instance of its dataclass in `sevila.schema`.

    entry   train, refine, eval or predict
    argv    the words after the command: `+exp=NAME`, `group=choice`, `key=value`, `--config-dir DIR`

    UserError, one line, for an unknown experiment, group, choice or key, a wrong type, a value out of range.
    """
    words = split(argv)
    config = typed(entry, words)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing == ["task.name"]:
        names = ", ".join(experiments(entry, library(words.folders)))
        raise UserError(f"no experiment: give +exp=NAME, one of: {names}")
    if missing:
        raise UserError(_without_value(entry, missing[0]))
    checked = OmegaConf.to_object(config)
    check(checked)
    expand_homes(checked)
    if checked.entry != entry:
        raise UserError(f"entry={checked.entry}: this is sevila.{entry}; leave that key out")
    return checked


def _without_value(entry: str, key: str) -> str:
    """What to do about a key that must be given, as the heads of an experiment: its schema says what it takes."""
    helps = {item.name: item.metadata["help"] for item in fields(ENTRIES[entry])}
    takes = f" ({helps[key]})" if key in helps else ""
    return f"{key} has no value: give {key}=VALUE{takes}"


def typed(entry: str, words: Words) -> DictConfig:
    """The composed configuration with every key and type of the schema; required values may be missing."""
    schema = ENTRIES[entry]
    try:
        config = composed(entry, words)
        _refuse_unknown(config, schema)
        full = OmegaConf.merge(OmegaConf.structured(schema), config)
        for key in OmegaConf.missing_keys(config):  # a merge keeps the schema's default where a file says ???
            OmegaConf.update(full, key, MISSING)
        OmegaConf.to_container(full, resolve=True)  # interpolations of a user's file fail here
    except OmegaConfBaseException as error:
        raise UserError(_type_error(error, schema)) from None
    return full


def composed(entry: str, words: Words) -> DictConfig:
    """The composed configuration before types are checked; required values may still be missing."""
    books = library(words.folders)
    selections, values = [], []
    for word in words.assignments:
        match = _ASSIGNMENT.fullmatch(word)
        if match is None:
            raise UserError(f"{word!r}: expected key=value, group=choice or +exp=NAME")
        if match["key"] in books.groups():
            selections.append(_selection(entry, books, **match.groupdict()))
        else:
            _refuse_unknown_key(match["key"], ENTRIES[entry])
            values.append(match)
    for group in sorted({selection.partition("=")[0] for selection in selections}):
        if sum(selection.startswith(f"{group}=") for selection in selections) > 1:
            raise UserError(f"{group} is given more than once: choose one")
    config = _compose(entry, books, selections)
    for match in values:
        _assign(config, ENTRIES[entry], **match.groupdict())
    return config


def experiments(entry: str, books: Library) -> dict[str, Path]:
    """The experiments of an entry point: those whose file says `entry: ENTRY`, or names none."""
    return {name: file for name, file in books.choices("exp").items() if _entry_of(file) in (entry, None)}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, where yaml takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.constructor.ConstructorError(problem=f"key {key.value!r} twice", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> Any:
    """What a yaml file holds. UserError names the file and the line that is malformed or has a key twice, or too much
    that it repeats."""
    text = read_text(file)
    try:
        content = yaml.load(text, _UniqueKeys)
        if _written_out(content, {}) > MOST_VALUES:
            raise UserError(f"{file}: holds more than {MOST_VALUES} values, with every alias (*) written out")
        return content
    except RecursionError:
        raise UserError(f"{file}: not valid yaml: too many levels") from None
    except ValueError as error:  # a number of thousands of digits, a date that is none
        raise UserError(f"{file}: not valid yaml: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line}: not valid yaml: {getattr(error, 'problem', error)}") from None


def _written_out(node: Any, known: dict[int, float]) -> float:
    """How many values a node holds with every alias written out; infinity where it holds itself."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: an alias of what it stands in
        known[id(node)] = 1 + sum(_written_out(value, known) for value in inner)
    return known[id(node)]


def _entry_of(file: Path) -> str | None:
    content = read_yaml(file)
    return content.get("entry") if isinstance(content, dict) else None


def _selection(entry: str, books: Library, plus: str, key: str, value: str) -> str:
    """A Hydra override that selects a group's choice, once it is known to be right."""
    if key != "exp" and key not in types(ENTRIES[entry]):
        raise UserError(f"unknown key {key!r}: sevila.{entry} has no group {key}")
    choices = books.choices(key)
    if value not in choices:
        listed = experiments(entry, books) if key == "exp" else choices
        raise UserError(f"unknown {key} {value!r}{suggest(value, choices)}; choose from: {', '.join(listed)}")
    if key != "exp":
        return f"{key}={value}"
    if not plus:
        raise UserError(f"exp={value}: write +exp={value}")
    owner = _entry_of(choices[value])
    if owner not in (entry, None):
        raise UserError(f"+exp={value} is an experiment of sevila.{owner}, not of sevila.{entry}")
    return f"+exp={value}"


def _compose(entry: str, books: Library, selections: list[str]) -> DictConfig:
    own, *others = books.folders
    if others:
        places = ",".join(QuotedString(f"file://{folder}", Quote.double).with_quotes() for folder in others)
        selections = [f"hydra.searchpath=[{places}]", *selections]
    try:
        with initialize_config_dir(str(own), job_name="sevila", version_base="1.3"):
            config = compose(entry, selections)
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error).partition("\nConfig search path")[0]
        raise UserError(" ".join(message.split())) from None
    OmegaConf.set_struct(config, False)
    return config


def _assign(config: DictConfig, schema: type, plus: str, key: str, value: str) -> None:
    """Set one value of the composed configuration. The key is known to fit the schema."""
    parent, _, name = key.rpartition(".")
    if _kind(key, schema) is None and not plus:  # inside a node with keys of its own
        node = OmegaConf.select(config, parent)
        known = [str(other) for other in node] if isinstance(node, DictConfig) else []
        if name not in known:
            has = f"{parent} has: {', '.join(known)}; +{key}={value} would add it"
            raise UserError(f"unknown key {key!r}{suggest(name, known)}; {has}")
    try:
        OmegaConf.update(config, key, _value(config, schema, key, value), merge=True, force_add=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from None


def _value(config: DictConfig, schema: type, key: str, value: str) -> Any:
    """What is written after `key=`: text as it stands, a list of texts, or a value in Hydra's grammar."""
    kind = _kind(key, schema) or _present_kind(config, key)
    if kind is str or (str in get_args(kind) and type(None) in get_args(kind)):
        quoted = re.fullmatch(r"'([^']*)'|\"([^\"]*)\"", value)
        if quoted:
            value = quoted[1] if quoted[1] is not None else quoted[2]
        elif value == "null" and _kind(key, schema) is not str:
            return None
        return value.replace("${", "\\${")  # text is no interpolation
    if kind == list[str]:
        return _texts(key, value)
    try:
        override = OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException as error:
        if kind is type(None):  # nothing says what it may be: a path with spaces, say
            return value.replace("${", "\\${")
        raise UserError(f"{key}={value}: cannot be read: {' '.join(str(error).split())}") from None
    except (RecursionError, ValueError):  # brackets in brackets, or a number of thousands of digits
        raise UserError(f"{key}={value[:40]}...: cannot be read") from None
    if override.is_sweep_override():
        if kind is type(None):
            return value.replace("${", "\\${")
        raise UserError(f"{key}={value}: one value is expected; a list is written '[1, 2]'")
    parsed = override.value()
    free = _kind(key, schema) is None  # the merge with the schema checks the others
    fits = type(parsed) is kind or (kind is float and type(parsed) is int)
    if free and kind in (bool, int, float) and not fits:
        raise UserError(f"{key}={value}: expected {IN_WORDS[kind]}")
    return parsed


def _present_kind(config: DictConfig, key: str) -> type | None:
    """The type of the value that stands at a key now; text for one still missing, None for no such key."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    if not isinstance(node, DictConfig) or name not in list(node):  # `in node` is False for `???`
        return None
    return str if OmegaConf.is_missing(node, name) else type(node[name])


def _texts(key: str, value: str) -> list[str]:
    """A list of texts in brackets, each as it stands: `1.50`, `yes` and `the dog's` stay themselves."""
    try:
        texts = yaml.load(value, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{key}={value}: expected a list such as '[red, green]' or '[\"a, b\", \"c: d\"]'")
    return [text.replace("${", "\\${") for text in texts]


def _keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every full key of a schema and its type, groups included."""
    for name, kind in types(schema).items():
        yield prefix + name, kind
        if nested(kind):
            yield from _keys(kind, f"{prefix}{name}.")


def _kind(key: str, schema: type) -> Any:
    """The type of a key; None inside a node whose keys are its own."""
    return dict(_keys(schema)).get(key)


def _refuse_unknown_key(key: str, schema: type) -> None:
    """UserError for a full key that the schema lacks, unless it lies inside a node with keys of its own."""
    known = dict(_keys(schema))
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        key, parent = parent, parent.rpartition(".")[0]
    if key in known or (parent and known[parent] == dict[str, Any]):
        return
    if key == "hydra":
        raise UserError("sevila sets Hydra up itself: no hydra.* keys; --config-dir DIR adds your configs")
    owner = known[parent] if parent else schema
    if not nested(owner):
        raise UserError(f"unknown key {key!r}: {parent} holds one value, no keys")
    where = parent or f"sevila.{schema.__name__.lower()}"
    raise UserError(f"unknown key {key!r}{suggest(key, known)}; {where} has: {', '.join(types(owner))}")


def _refuse_unknown(node: DictConfig, schema: type, prefix: str = "") -> None:
    """The same for every key of a composed configuration, which may hold a user's own files."""
    for name in node:
        key = f"{prefix}{name}"
        _refuse_unknown_key(key, schema)
        kind = _kind(key, schema)
        if not nested(kind) and kind != dict[str, Any]:
            continue
        if not isinstance(node[name], DictConfig):
            raise UserError(f"{key}={node[name]}: {key} is no single value; write {key}.KEY=VALUE")
        if nested(kind):
            _refuse_unknown(node[name], schema, f"{key}.")


def _type_error(error: OmegaConfBaseException, schema: type) -> str:
    key = error.full_key or "the configuration"
    kind = _kind(re.sub(r"\[\d+\]$", "", key), schema)
    if not isinstance(error, ValidationError) or kind is None:
        return f"{key}: {(error.msg or str(error)).splitlines()[0]}"
    kinds = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    expected = [IN_WORDS.get(part, str(part)) for part in kinds]
    plural = "a list, each " if key.endswith("]") else ""
    value = "null" if error.value is None else error.value
    return f"{key}={value}: expected {plural}{' or '.join(expected)}"
