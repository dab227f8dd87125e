"""What all entry points share: the command line in, a checked configuration to `run`, errors as one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NoReturn

import yaml
from omegaconf import OmegaConf

from sevila.config import Library, Words, experiments, in_utf8, library, load, split, typed
from sevila.errors import UserError, machine_error
from sevila.files import read_text
from sevila.report.terminal import printable, steady
from sevila.schema import ENTRIES, nested, to_yaml, types

USAGE = {
    "train": "python -m sevila.train +exp=NAME [group=choice ...] [key=value ...]",
    "refine": "python -m sevila.refine +exp=NAME [group=choice ...] [key=value ...]",
    "eval": "python -m sevila.eval +exp=NAME [group=choice ...] [key=value ...]",
    "predict": "python -m sevila.predict video=FILE question=\"...\" options='[red, green]' [key=value ...]",
}


def main(entry: str, run: Callable[[Any], None], argv: Sequence[str] | None = None) -> int:
    """Run an entry point; the exit code: 0, 2 after bad input, 130 after an interrupt.

    entry   train, refine, eval or predict
    run     called with the checked configuration, an instance of the entry's dataclass in `sevila.schema`
    argv    the words after the command; the process's own by default

    `--help` prints what there is to choose, `--cfg` the configuration; neither runs anything.
    """
    words = [in_utf8(word) for word in (sys.argv[1:] if argv is None else argv)]

    def go() -> None:
        show = split(words).show
        if show == "help":
            print(help_text(entry, split(words)))
        elif show == "cfg":
            print(to_yaml(load(entry, words)), end="")
        else:
            run(load(entry, words))

    return guarded(go)


@steady
def guarded(run: Callable[[], None]) -> int:
    """Run something; the exit code: 0, 130 after an interrupt, and with one line on stderr 2 after bad input.

    What the machine refuses (space, memory, a file) is a line too, with the code 2, or 1 where no user can mend it.
    """
    try:
        run()
    except KeyboardInterrupt:
        print("sevila: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        told = error if isinstance(error, UserError) else machine_error(error)
        if told is None:
            raise
        print(f"sevila: error: {printable(str(told))}", file=sys.stderr)
        return told.exit_code
    return 0


class Parser(argparse.ArgumentParser):
    """argparse, with errors as everywhere else in the library: one line."""

    def error(self, message: str) -> NoReturn:
        hint = f"; {self.prog} --help says more" if self.add_help else ""
        raise UserError(f"{message}{hint}")


def help_text(entry: str, words: Words) -> str:
    """What an entry point does, its groups and their choices, its experiments, every key and its value."""
    books = library(words.folders)
    schema = ENTRIES[entry]
    values = OmegaConf.to_container(typed(entry, words))
    lines = [(schema.__doc__ or "").strip(), "", f"  {USAGE[entry]}", ""]
    lines += [
        "Options: --help, --cfg (print the configuration), --config-dir DIR (configs of your own)",
        "",
    ]
    lines += ["Groups (group=choice):", *_groups(books, schema), ""]
    exps = experiments(entry, books)
    if exps:
        lines += ["Experiments (+exp=NAME):"]
        lines += [f"  {name:30} {_headline(read_text(file))}" for name, file in exps.items()]
        lines += [""]
    return "\n".join([*lines, "Keys (key=value) and their values now:", *_keys(schema, values)])


def _groups(books: Library, schema: type) -> list[str]:
    groups = [group for group in books.groups() if group in types(schema) and group != "exp"]
    return [f"  {group:10} {', '.join(books.choices(group))}" for group in groups]


def _headline(text: str) -> str:
    """The first comment of a yaml file that is no directive of Hydra's."""
    for line in text.splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _keys(schema: type, values: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    """The keys of a schema as lines of yaml, each with what it is for."""
    kinds = types(schema)
    for item in fields(schema):
        group = nested(kinds[item.name])
        value = "" if group else f" {_inline(values[item.name])}"
        yield f"{indent}{item.name}:{value}".ljust(44) + f"  # {item.metadata['help']}"
        if group:
            yield from _keys(kinds[item.name], values[item.name], indent + "  ")


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")
