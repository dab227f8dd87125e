"""The paper's tables: which commands make their rows, what those gave, and what was published.

    python scripts/reproduce.py --table 3 --dry-run                     # commands, and nothing is run
    python scripts/reproduce.py --table 3 --rows C D --datasets nextqa star
    python scripts/reproduce.py --table 1 --seeds 0 1 2 --data /videos --gpus 4
    python scripts/reproduce.py --table all --dry-run                   # every row about this method

Runs that rows share (pre-training, refinement, fine-tuning) are made once, in RUNS/seed_S/NAME; evaluations without
anything trained stand in RUNS/NAME. A run is done when its folder holds metrics.json; an interrupted one goes on.
The tables, published numbers beside measured ones, are RUNS/tables/table_N.json and .md: always the whole table, with
what was measured so far under the call's settings.

The published trainings ran on 4 GPUs. Their batch is kept on fewer, by accumulating more: on one (the default), on
--gpus 2 or 4, and where --launch names 1, 2 or 4 processes. What another --launch starts has another batch, and its
tables say so.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from reproduction.cells import HEADINGS, TITLES, Row, Table, document, lines, markdown, rows
from reproduction.runs import LAUNCH, Ledger, Run, Settings, jobs, scoped
from reproduction.tables import TABLES
from sevila.cli import guarded
from sevila.config import load
from sevila.errors import UserError
from sevila.files import home_path, write_json, write_text
from sevila.report.terminal import plain_table

QUIET_LAUNCHER = (
    "import sys; sys.excepthook = lambda *_: None; "
    "from accelerate.commands.accelerate_cli import main; sys.exit(main())"
)


class RunFailed(UserError):
    """A run ended badly; those before it are there."""


def chosen(numbers: Sequence[str], labels: Sequence[str], data: Sequence[str]) -> list[Table]:
    """The tables asked for, with the rows and data sets asked for. UserError for what is not there."""
    known = {table.number: table for table in TABLES}
    for number in numbers:
        if number != "all" and number not in known:
            raise UserError(f"--table {number}: there are {', '.join(known)} and all")
    tables = list(known.values()) if "all" in numbers else [known[number] for number in numbers]
    there = {row.label.lower() for table in tables for row in table.rows}
    for label in labels:
        if label.lower() not in there:
            listed = ", ".join(dict.fromkeys(row.label for table in tables for row in table.rows))
            raise UserError(f"--rows {label}: the rows are {listed}")
    wanted = {label.lower() for label in labels} or there
    found = [
        replace(table, rows=tuple(_part(row, data) for row in table.rows if row.label.lower() in wanted))
        for table in tables
    ]
    found = [replace(table, rows=tuple(row for row in table.rows if row.cells or not data)) for table in found]
    if not any(table.rows for table in found):
        raise UserError(f"--datasets {' '.join(data)}: no such row has these data sets")
    return [table for table in found if table.rows]


def _part(row: Row, data: Sequence[str]) -> Row:
    return replace(row, cells=tuple(cell for cell in row.cells if not data or cell.data in data))


def make(todo: Sequence[tuple[Run, int]], settings: Settings, dry: bool) -> None:
    """Print every run's command and, unless dry, run what is not done.

    UserError names the run that failed, and before anything runs one that was made with other settings.
    """
    mine = [(run, seed) for run, seed in todo if run.name not in settings.heads]
    ledger = Ledger(settings)
    for run, seed in mine:
        ledger.check(run, seed)
    if not dry:
        check_machine([(run, seed) for run, seed in mine if not settings.done(run, seed)], settings)
    for name, head in settings.heads.items():
        print(f"# {name}: {head}")
    for run, seed in mine:
        command = settings.command(run, seed)
        done = settings.done(run, seed)
        print(f"{'# done: ' if done else ''}{shlex.join(command)}", flush=True)
        if dry or done:
            continue
        ledger.add(run, seed)
        code = execute([sys.executable, *command[1:]] if command[0] == "python" else command)
        if code or not settings.done(run, seed):
            raise RunFailed(
                f"{settings.folder(run, seed)}: failed with exit code {code}; the same call goes on from there"
            )


def check_machine(todo: Sequence[tuple[Run, int]], settings: Settings) -> None:
    """UserError where a run is bound to fail: for want of GPUs, or of a data set's folder."""
    found = torch.cuda.device_count()
    if todo and settings.gpus is not None and settings.gpus > found:
        raise UserError(f"--gpus {settings.gpus}: there are {found} GPUs here; --launch names another way")
    for run, seed in {run.data: (run, seed) for run, seed in todo}.values():
        root = home_path(load(run.entry, settings.words(run, seed)).data.get("root", "."))
        if not root.is_dir():
            raise UserError(f"{root}: no such folder of {run.data}; --data names the one of all data sets")


def execute(command: Sequence[str]) -> int:
    """Run a command; its exit code. What accelerate tells behind the error of the run that it started is left out."""
    environment = dict(os.environ)
    if command[0] == "accelerate":
        command = [sys.executable, "-c", QUIET_LAUNCHER, *command[1:]]
        environment["LOGLEVEL"] = "CRITICAL"  # of torch's launcher below it
    try:
        return subprocess.run(command, env=environment).returncode
    except FileNotFoundError:
        raise UserError(f"--launch: no program {command[0]!r}") from None


def show(tables: Sequence[Table], settings: Settings, seeds: Sequence[int], dry: bool) -> None:
    """Print the rows asked for and, unless dry, write the tables that they are of: whole, as far as they are made."""
    whole = {table.number: table for table in TABLES}
    for table in tables:
        found = list(lines(table, settings, seeds))
        grid = plain_table(f"Table {table.number}: {table.title}")
        for i, heading in enumerate(HEADINGS):
            grid.add_column(heading, justify="right" if i >= 4 else "left", no_wrap=i != 1)
        for texts in rows(found):
            grid.add_row(*texts)
        print()
        Console(width=130).print(grid)
        if not dry:
            place = settings.root / "tables" / f"table_{table.number}"
            full = whole[table.number]
            every = list(lines(full, settings, seeds))
            write_text(place.with_suffix(".md"), markdown(full, every, settings))
            write_json(place.with_suffix(".json"), document(full, every, settings, seeds))
            print(f"written: {place}.md and .json")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", required=True, metavar="N", help="numbers as in the paper, or all")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="some rows only, by their labels")
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME", choices=TITLES, help=", ".join(TITLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="several give mean and standard deviation")
    parser.add_argument("--runs", type=home_path, default=Path("runs/reproduction"), help="folder of the run folders")
    parser.add_argument("--data", type=home_path, help="folder of the data sets, NAME each; default: data/")
    parser.add_argument("--dry-run", action="store_true", help="run nothing, write nothing")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="[SCOPE:]KEY=VALUE",
        help="further words of every command; trainer.* in trainings only. SCOPE: of one data set or experiment only",
    )
    parser.add_argument(
        "--use",
        nargs="+",
        default=[],
        metavar="RUN=HEAD",
        help="a head to take instead of making a run, as in qvhighlights_pretrain=localizer.safetensors",
    )
    parser.add_argument("--gpus", type=int, choices=(1, 2, 4), help="processes; default: 1")
    parser.add_argument("--launch", help='what starts the runs, such as "accelerate launch --num_processes 4 -m"')
    return parser.parse_args(argv)


def settings_of(given: argparse.Namespace, trainings: Sequence[str]) -> Settings:
    heads = dict(_use(word, trainings) for word in given.use)
    if given.launch and given.gpus:
        raise UserError("--launch and --gpus: give one of them")
    return Settings(
        given.runs,
        given.data,
        tuple(scoped(word) for word in given.set),
        tuple(shlex.split(given.launch)) if given.launch else LAUNCH,
        heads,
        given.gpus,
    )


def _use(word: str, trainings: Sequence[str]) -> tuple[str, Path]:
    """`NAME=HEAD`; names of trainings hold equals signs themselves, and so may heads."""
    names = [name for name in trainings if word.startswith(f"{name}=")]
    if not names:
        raise UserError(f"--use {word}: expected RUN=HEAD; the trainings here are {', '.join(trainings)}")
    name = max(names, key=len)
    head = Path(word.removeprefix(f"{name}="))
    if not word.removeprefix(f"{name}=") or not head.exists():
        raise UserError(f"--use {name}={word.removeprefix(f'{name}=')}: no such file or folder")
    return name, head


def run(given: argparse.Namespace) -> None:
    tables = chosen(given.table, given.rows, given.datasets)
    wanted = [run for table in tables for row in table.rows for run in row.runs]
    seeds = list(dict.fromkeys(given.seeds))
    trainings = dict.fromkeys(run.name for run, _ in jobs(wanted, seeds) if run.entry != "eval")
    settings = settings_of(given, list(trainings))
    try:
        make(jobs(wanted, seeds, settings.heads), settings, given.dry_run)
    except RunFailed:
        show(tables, settings, seeds, given.dry_run)  # what was made before
        raise
    show(tables, settings, seeds, given.dry_run)


def main(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: run(arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
