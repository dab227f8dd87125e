"""From a command line to a checked configuration: Hydra composes it, `sevila.schema` says what it may hold.

What is added to Hydra here: a value of a key that is text is taken as it stands (a path with commas, brackets or
`=`), unless it is quoted, an interpolation, or with -m a sweep; `???` in a file means "must be given" also where an
earlier file has a value; and whatever is wrong is one UserError, before anything has been written.
"""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, flag_override
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from sevila.cli import Parser, in_utf8
from sevila.errors import UserError, suggest
from sevila.files import read_text
from sevila.schema import ENTRIES, IN_WORDS, check, expand_homes, nested, types

MOST_VALUES = 100_000  # in a yaml file
_ASSIGNMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[A-Za-z_][\w.@/-]*)=(?P<value>.*)", re.DOTALL)
_AS_HYDRA_READS_IT = re.compile(r"'.*'|\".*\"|null|\?\?\?|.*\$\{.*", re.DOTALL)  # also of a key that is text


class Loader(ConfigLoaderImpl):
    """Hydra's, where a file's `???` takes back what an earlier file said; OmegaConf's merge would keep that."""

    def _compose_config_from_defaults_list(self, defaults: Any, repo: Any) -> DictConfig:
        config = super()._compose_config_from_defaults_list(defaults, repo)
        left_open: set[str] = set()
        for default in defaults:
            for key, missing in _keys_of(self._load_single_config(default=default, repo=repo).config):
                ancestors = {key[:end] for end in range(len(key)) if key[end] == "."}
                left_open = left_open | {key} if missing else left_open - ancestors - {key}
        with flag_override(config, "struct", False):
            for key in left_open:
                OmegaConf.update(config, key, MISSING)
        return config


def _keys_of(node: Any, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """The full keys of a config, but Hydra's own, each with whether it is `???`."""
    for key in node:
        missing = OmegaConf.is_missing(node, key)
        inner = None if missing or OmegaConf.is_interpolation(node, key) else node[key]
        if isinstance(inner, DictConfig) and prefix + key != "hydra":
            yield from _keys_of(inner, f"{prefix}{key}.")
        yield f"{prefix}{key}", missing


@dataclass(frozen=True)
class Library:
    """The config files at hand: the project's own folder first, then the user's."""

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

    def experiments(self, entry: str) -> dict[str, Path]:
        """The experiments of an entry point: those whose file says `entry: ENTRY`, or names none."""
        return {name: file for name, file in self.choices("exp").items() if _entry_of(file) in (entry, None)}


def own_folder() -> Path:
    """The project's configs: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return folder
    raise UserError(f"no configs/ in {package} or beside it: install sevila again")


def library(config_dir: str | None = None) -> Library:
    """The project's configs and a user's. UserError where a user's file would be hidden by one of ours."""
    own = own_folder()
    if config_dir is None:
        return Library((own,))
    folder = Path(config_dir).expanduser()
    if not config_dir or not folder.is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    for file in folder.rglob("*.yaml"):
        if (own / file.relative_to(folder)).exists():
            raise UserError(f"{file}: sevila has a config of that name; give the file another name")
        read_yaml(file)  # names the line, which Hydra does not, and nothing that takes for ever
    return Library((own, folder.resolve()))


@dataclass(frozen=True)
class Composer:
    """Hydra, set up for an entry point."""

    entry: str
    config_name: str
    library: Library
    hydra: Hydra

    def compose(self, words: Sequence[str]) -> DictConfig:
        """The configuration that a command line asks for, Hydra's own keys with it; required values may be missing."""
        with told(self.entry, self.library):
            config = self.hydra.compose_config(self.config_name, list(words), RunMode.RUN, with_log_configuration=False)
        assert isinstance(config, DictConfig)
        return config

    def overrides(self, words: Sequence[str], multirun: bool = False) -> list[str]:
        """The words of a command line in Hydra's grammar. UserError for an unknown key, group or choice."""
        return [_override(self, word, multirun) for word in words]


@contextmanager
def composer(entry: str, given: Namespace) -> Iterator[Composer]:
    """Hydra over the project's configs, `--config-dir`, `--config-name` and `--config-path` as its manual says."""
    version.setbase(None)
    for name, schema in ENTRIES.items():
        ConfigStore.instance().store(f"{name}_schema", schema)
    found = library(given.config_dir)
    top = own_folder() if given.config_path is None else Path(given.config_path).expanduser().resolve()
    search_path = create_automatic_config_search_path(None, None, str(top))
    for folder in found.folders[1:]:
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    hydra = Hydra(f"sevila.{entry}", Loader(search_path))
    GlobalHydra.instance().clear()
    GlobalHydra.instance().initialize(hydra)
    try:
        yield Composer(entry, given.config_name or entry, found, hydra)
    finally:
        GlobalHydra.instance().clear()


def load(entry: str, argv: Sequence[str]) -> Any:
    """The checked configuration of an entry point: an instance of its dataclass in `sevila.schema`.

    entry   train, refine or eval
    argv    the words after the command: `+exp=NAME`, `group=choice`, `key=value`, `--config-dir DIR`

    UserError, one line, for an unknown experiment, group, choice or key, a wrong type, a value out of range.
    """
    given = arguments(argv)
    with composer(entry, given) as hydra:
        return checked(entry, hydra.library, hydra.compose(hydra.overrides(given.overrides)))


def arguments(argv: Sequence[str]) -> Namespace:
    """A command line, taken apart by Hydra's own parser. UserError for an option that does not exist."""
    parser = Parser(parents=[get_args_parser()], add_help=False)
    return parser.parse_intermixed_args([in_utf8(word) for word in argv])


def checked(entry: str, library: Library, config: DictConfig) -> Any:
    """A composed configuration as an instance of its entry's dataclass; UserError for what that does not allow."""
    with flag_override(config, ["struct", "readonly"], [False, False]):
        config.pop("hydra", None)
    with told(entry, library):
        missing = sorted(OmegaConf.missing_keys(config))
    if missing == ["task.name"]:
        known = ", ".join(library.experiments(entry))
        own = "data=custom with task.name=answer (its questions) or task.name=pretrain (its moments)"
        raise UserError(f"no experiment: give +exp=NAME, one of: {known}; or for data of your own {own}")
    if missing:
        raise UserError(_without_value(entry, missing[0]))
    with told(entry, library):
        made = OmegaConf.to_object(config)
    if not isinstance(made, ENTRIES[entry]):
        raise UserError(f"this configuration does not begin with {entry} or {entry}_schema in its defaults")
    check(made)
    expand_homes(made)
    if made.entry != entry:
        raise UserError(f"entry={made.entry}: this is sevila.{entry}; leave that key out")
    return made


def _without_value(entry: str, key: str) -> str:
    """What to do about a key that must be given, as the heads of an experiment: its schema says what it takes."""
    helps = {item.name: item.metadata["help"] for item in fields(ENTRIES[entry])}
    takes = f" ({helps[key]})" if key in helps else ""
    return f"{key} has no value: give {key}=VALUE{takes}"


# -- words ---


def _override(composer: Composer, word: str, multirun: bool) -> str:
    """One word in Hydra's grammar: text is quoted where Hydra would read something else."""
    match, schema = _ASSIGNMENT.fullmatch(word), ENTRIES[composer.entry]
    if match is None or re.match("hydra[./]", match["key"]):
        if match is None and not word.startswith("~"):
            raise UserError(f"{word!r}: expected key=value, group=choice or +exp=NAME")
        return word
    plus, key, value = match.groups()
    group = key in composer.library.groups()
    if group and key != "exp" and key not in types(schema):
        raise UserError(f"unknown key {key!r}: sevila.{composer.entry} has no group {key}")
    if not group and key.partition("@")[0] not in composer.library.groups():
        _refuse_unknown_key(key, schema)
    kind = dict(_keys(schema)).get(key, Any)  # Any: in a node with keys of its own
    text = not group and (kind is str or kind == str | None)
    try:
        parsed = OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError, ValueError) as error:  # brackets in brackets, thousands of digits
        if text or kind is Any:
            return _quoted(plus + key, value.replace("${", "\\${"))
        reason = f": {' '.join(str(error).split())}" if isinstance(error, HydraException) else ""
        raise UserError(f"{word[:200]}: cannot be read{reason[:200]}") from None
    if parsed.is_sweep_override() and not multirun and not text:
        raise UserError(f"{word}: one value is expected; a list is written '[1, 2]', and -m runs a job for each value")
    if key == "exp":
        _check_experiment(composer, parsed, plus)
    if text and not (multirun and parsed.is_sweep_override()) and not _AS_HYDRA_READS_IT.fullmatch(value):
        return _quoted(plus + key, value)
    return word


def _quoted(key: str, text: str) -> str:
    return f"{key}={QuotedString(text, Quote.double).with_quotes()}"


def _check_experiment(composer: Composer, override: Override, plus: str) -> None:
    """UserError for an experiment of another entry point, whose keys Hydra would refuse one by one."""
    known = composer.library.choices("exp")
    sweep = override.is_sweep_override()
    for name in override.sweep_string_iterator() if sweep else [override.get_value_string()]:
        if not plus:
            raise UserError(f"exp={name}: write +exp={name}")
        owner = _entry_of(known[name]) if name in known else None
        if owner not in (composer.entry, None):
            raise UserError(f"+exp={name} is an experiment of sevila.{owner}, not of sevila.{composer.entry}")


# -- errors ---


@contextmanager
def told(entry: str, library: Library) -> Iterator[None]:
    """Errors of Hydra and OmegaConf as a UserError that names the key, value or choice."""
    try:
        yield
    except MissingConfigException as error:
        raise UserError(_no_choice(error, entry, library)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_line(error, ENTRIES[entry])) from None
    except yaml.YAMLError as error:  # also of a key that stands twice, where yaml itself takes the last
        mark = getattr(error, "problem_mark", None)
        raise UserError(_yaml_fault(Path(mark.name if mark else "a config"), error)) from None


def _no_choice(error: MissingConfigException, entry: str, library: Library) -> str:
    """What to say of a choice that its group does not have; of experiments only the entry point's own are listed."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not error.options or not group:
        return _flat(error)
    others = library.choices("exp").keys() - library.experiments(entry) if group == "exp" else set()
    listed = ", ".join(option for option in error.options if option not in others)
    return f"unknown {group} {choice!r}{suggest(choice, error.options)}; choose from: {listed}"


def _flat(error: BaseException) -> str:
    return " ".join(str(error).partition("\nConfig search path")[0].partition("\nSearch path")[0].split())


def _line(error: BaseException, schema: type) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return _flat(error)
    if not cause.full_key:  # a file that gives one value for a group of keys
        return f"{str(error).partition(': ')[0]}: {str(cause.msg).splitlines()[0]}"
    key = str(cause.full_key)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown(key, cause.parent_node, schema)
    kind = dict(_keys(schema)).get(re.sub(r"\[\d+\]$", "", key))
    value = "null" if cause.value is None else cause.value
    if nested(kind) or kind == dict[str, Any]:
        return f"{key}={value}: {key} is no single value; write {key}.KEY=VALUE"
    if not isinstance(cause, ValidationError) or kind is None:
        return f"{key}: {(cause.msg or str(cause)).splitlines()[0]}"
    kinds = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    expected = [IN_WORDS.get(part, str(part)) for part in kinds]
    plural = "a list, each " if key.endswith("]") else ""
    return f"{key}={value}: expected {plural}{' or '.join(expected)}"


def _unknown(key: str, parent: Any, schema: type) -> str:
    """What to say of a key that its node does not have; the node's own keys, where they are a choice's."""
    try:
        if not key.startswith("hydra."):
            _refuse_unknown_key(key, schema)
    except UserError as error:
        return str(error)
    where, _, name = key.rpartition(".")
    known = [str(other) for other in parent] if isinstance(parent, DictConfig) else []
    return f"unknown key {key!r}{suggest(name, known)}; {where} has: {', '.join(known)}; +{key}=VALUE would add it"


def _keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every full key of a schema and its type, groups included."""
    for name, kind in types(schema).items():
        yield prefix + name, kind
        if nested(kind):
            yield from _keys(kind, f"{prefix}{name}.")


def _refuse_unknown_key(key: str, schema: type) -> None:
    """UserError for a full key that the schema lacks, unless it lies inside a node with keys of its own."""
    known = dict(_keys(schema))
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        key, parent = parent, parent.rpartition(".")[0]
    if key in known or (parent and known[parent] == dict[str, Any]):
        return
    owner = known[parent] if parent else schema
    if not nested(owner):
        raise UserError(f"unknown key {key!r}: {parent} holds one value, no keys")
    where = parent or f"sevila.{schema.__name__.lower()}"
    listed = ", ".join(name for name in types(owner) if name != "entry")  # that is a file's, not a user's
    raise UserError(f"unknown key {key!r}{suggest(key, known)}; {where} has: {listed}")


# -- files of a user ---


def read_yaml(file: Path) -> Any:
    """What a yaml file holds. UserError names the file and the line that is malformed, or too much that it repeats."""
    text = read_text(file)
    try:
        content = yaml.safe_load(text)
        if _written_out(content, {}) > MOST_VALUES:
            raise UserError(f"{file}: holds more than {MOST_VALUES} values, with every alias (*) written out")
        return content
    except RecursionError:
        raise UserError(f"{file}: not valid yaml: too many levels") from None
    except ValueError as error:  # a number of thousands of digits, a date that is none
        raise UserError(f"{file}: not valid yaml: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(_yaml_fault(file, error)) from None


def _yaml_fault(file: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    return f"{file}{line}: not valid yaml: {getattr(error, 'problem', error)}"


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
