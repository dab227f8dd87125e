"""The whole self-chain on the embedded world: pre-train, fine-tune, refine, evaluate; one table at the end.

    python scripts/selfchain.py --seed 7

Every stage is the very run that the command line would make (the commands are printed). The result is
runs/selfchain/: the stages' run folders, ablation.json, report.html. It replaces an older one only when all is done;
a call that was interrupted goes on with the stages that are missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sevila import build, refine, train
from sevila import eval as evaluation
from sevila.cli import guarded
from sevila.config import load
from sevila.errors import UserError
from sevila.examples import examples
from sevila.files import home_path, read_json, read_jsonl, temporary_beside, write_json
from sevila.report.page import Block, Facts, Link, Table, write_page
from sevila.report.terminal import Cell, plain_table
from sevila.run_folder import REPORT

ENTRIES: dict[str, Callable[[Any], Any]] = {"train": train.run, "refine": refine.run, "eval": evaluation.run}
# row of the table: (selector, localizer's stage, answerer's stage); a stage is a run folder's name
ROWS = {
    "uniform": ("uniform", "zeroshot", "zeroshot"),
    "random": ("random", "zeroshot", "zeroshot"),
    "zero_shot": ("localizer", "zeroshot", "zeroshot"),
    "pretrained": ("localizer", "pretrain", "zeroshot"),
    "refined": ("localizer", "refine", "zeroshot"),
    "oracle": ("oracle", "zeroshot", "zeroshot"),
    "uniform_finetuned": ("uniform", "zeroshot", "ft_uniform"),
    "pretrained_finetuned": ("localizer", "pretrain", "ft_pretr"),
    "refined_finetuned": ("localizer", "refine", "ft_refined"),
}
SHORT_TUNING = {"trainer.epochs": "4", "trainer.lr": "2e-4"}  # not the experiment's 12: all must be done in six minutes
TABLE, SETTINGS = "ablation.json", "settings.json"
SAME_KEYFRAMES = {"pretrained_finetuned": "pretrained", "refined_finetuned": "refined"}
TRAININGS = {
    "pretrain": ("train", "synthetic_pretrain", {}),
    "refine": ("refine", "synthetic_reverse", {"localizer": "pretrain"}),
    "ft_uniform": ("train", "synthetic_forward", {"selector": "uniform", **SHORT_TUNING}),
    "ft_pretr": ("train", "synthetic_forward", {"localizer": "pretrain", **SHORT_TUNING}),
    "ft_refined": ("train", "synthetic_forward", {"localizer": "refine", **SHORT_TUNING}),
}


class SelfChain:
    """The stages of one call, in a folder that is renamed when all of them are there."""

    def __init__(self, folder: Path, seed: int, overrides: list[str]) -> None:
        self.folder, self.seed, self.overrides = folder, seed, overrides

    def stage(self, entry: str, exp: str, name: str, settings: dict[str, str]) -> dict[str, Any]:
        """Make one run, or take it as it is where it has finished; returns its metrics."""
        run_dir = self.folder / name
        words = self._words(exp, name, settings)
        print(f"\n$ python -m sevila.{entry} {' '.join(words)}", flush=True)
        if (run_dir / "metrics.json").exists():
            print("(done before)")
        else:
            ENTRIES[entry](load(entry, [*words, "resume=true"]))
        return read_json(run_dir / "metrics.json")

    def _words(self, exp: str, name: str, settings: dict[str, str]) -> list[str]:
        words = [f"+exp={exp}", f"run_dir={self.folder / name}"]
        words += [f"data.seed={self.seed}", f"seed={self.seed % 2**31}"]
        return words + [f"{key}={self._place(value)}" for key, value in settings.items()] + self.overrides

    def _place(self, value: str) -> str:
        return str(self.folder / value) if value in TRAININGS else value

    def begin(self) -> None:
        """Make the folder, or go on with it. UserError for bad overrides, or where it was begun with others."""
        for name, (entry, exp, settings) in TRAININGS.items():
            load(entry, self._words(exp, name, settings))
        load("eval", self._words("synthetic_eval", "eval", {}))
        path, settings = self.folder / SETTINGS, {"seed": self.seed, "overrides": self.overrides}
        if self._has_stages() and path.exists() and read_json(path) != settings:
            raise UserError(f"{self.folder}: was begun with {read_json(path)}; remove it, or give the same again")
        write_json(path, settings)

    def _has_stages(self) -> bool:
        return self.folder.is_dir() and any(file.is_dir() for file in self.folder.iterdir())

    def forget(self) -> None:
        """Remove the folder of a call that was refused before its first stage: the next one may be another."""
        if self.folder.is_dir() and not self._has_stages():
            shutil.rmtree(self.folder)

    def rows(self) -> list[dict[str, Any]]:
        """Train everything, evaluate every row of the table."""
        self.begin()
        for name, (entry, exp, settings) in TRAININGS.items():
            self.stage(entry, exp, name, settings)
        table = []
        for row, (selector, localizer, answerer) in ROWS.items():
            settings = {"selector": selector, "localizer": localizer, "answerer": answerer}
            if row in SAME_KEYFRAMES:  # its Localizer has chosen already: the same frames, another Answerer
                choices = self.folder / f"eval_{SAME_KEYFRAMES[row]}" / "predictions.jsonl"
                settings |= {"selector": "stored", "selector.file": str(choices)}
            metrics = self.stage("eval", "synthetic_eval", f"eval_{row}", settings)
            k = load("eval", ["+exp=synthetic_eval", f"selector={selector}", *self.overrides]).selector["k"]
            names = {"row": row, "selector": selector, "localizer": localizer, "answerer": answerer, "k": k}
            table.append(names | {key: metrics[key] for key in ("accuracy", "keyframe_recall", "keyframe_hit", "n")})
        return table


# -- the table: which frames the Answerer reads, and what it makes of them ---

# A plain dict: row (its name), selector, localizer and answerer (text or None), k, n, and in percent accuracy,
# keyframe_recall and keyframe_hit (None where no true windows are known). Where neighbours differ in whether their
# answerer is ZERO_SHOT, a new group begins.
Row = Mapping[str, Any]

ZERO_SHOT = "zeroshot"
UPPER_BOUND = "oracle"  # the selector that knows the true windows
MEASURES = {"accuracy": "accuracy", "keyframe_recall": "recall", "keyframe_hit": "hit"}  # key: its name in a table


def print_ablation(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the rows as a table, on stdout by default; a k or n that all rows share stands on top."""
    common = {key: str(rows[0][key]) for key in ("k", "n") if len({row[key] for row in rows}) == 1}
    words = {"k": "keyframes", "n": "questions"}
    title = ", ".join(["percent", *(f"{key} = {value} {words[key]}" for key, value in common.items())])
    table = plain_table(title)
    for key in ("row", "selector", "localizer", "answerer"):
        table.add_column(key, no_wrap=key == "row", overflow="fold")
    numbers = [key for key in ("k", *MEASURES, "n") if key not in common]
    for key in numbers:
        table.add_column(MEASURES.get(key, key), justify="right", no_wrap=True)
    groups = [row["answerer"] != ZERO_SHOT for row in rows]
    for i, row in enumerate(rows):
        texts = [str(row[key] or "-") for key in ("row", "selector", "localizer", "answerer")]
        table.add_row(*(Text(text) for text in [*texts, *(_plain(row[key]) for key in numbers)]))
        if i + 1 < len(rows) and groups[i] != groups[i + 1]:
            table.add_section()
    (console or Console()).print(table)


def ablation_page(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    examples: Sequence[Block],
    notes: Mapping[str, str],
    chance: float | None = None,
    pages: Mapping[str, Path] | None = None,
) -> None:
    """Write one self-contained page: notes, the table with bars in it, the examples.

    chance   accuracy of guessing in percent, marked in the bars
    pages    of runs by their names, for links: a row's evaluation is eval_ROW
    """
    keys = ("row", "selector", "localizer", "answerer", "k", *MEASURES, "n")
    guessing = "" if chance is None else f" The mark in the bars of accuracy: guessing, {chance:.0f} %."
    table = Table(
        tuple(key.replace("_", " ") for key in keys),
        [[_linked(row, key, pages or {}) for key in keys] for row in rows],
        f"Accuracy, recall and hit in percent. Bold: the best that does not know the true windows.{guessing}",
        best=(5, 6, 7),
        unranked=[i for i, row in enumerate(rows) if row["selector"] == UPPER_BOUND],
        bars={5: chance, 6: None, 7: None},
    )
    facts: list[Block] = [Facts(notes)] if notes else []
    write_page(path, "SeViLA: ablation of the self-chain", [*facts, table, *examples])


def _linked(row: Row, key: str, pages: Mapping[str, Path]) -> Cell | Link:
    """A cell of the table: the row's name leads to its evaluation, a head's to its training."""
    run = {"row": f"eval_{row['row']}", "localizer": row["localizer"], "answerer": row["answerer"]}.get(key)
    return Link(row[key], pages[run]) if run in pages else row[key]


def _plain(number: float | None) -> str:
    if number is None:
        return "-"
    return str(number) if isinstance(number, int) else f"{number:.2f}"


def report(folder: Path, table: list[dict[str, Any]], seed: int, overrides: list[str]) -> None:
    """report.html, and the table on the terminal."""
    config = load("eval", ["+exp=synthetic_eval", f"data.seed={seed}", *overrides])
    data = build.benchmark(config)
    questions = data.questions(config.split)
    rows = read_jsonl(folder / "eval_refined" / "predictions.jsonl")
    chance = 100 * sum(1 / len(question.options) for question in questions) / len(questions)
    notes = {"World": f"data.seed={seed}", "Test questions": str(len(questions)), "Frames": str(config.frames.n)}
    pages = {run.name: run / REPORT for run in folder.iterdir() if run.is_dir()}
    ablation_page(folder / REPORT, table, examples(questions, rows, data.folder()), notes, chance, pages)
    print_ablation(table)


def check_out(out: Path) -> None:
    """UserError for a place that holds something else than an older result: it would be removed."""
    if out.exists() and not (out.is_dir() and ((out / TABLE).is_file() or not any(out.iterdir()))):
        raise UserError(f"--out {out}: is there already and no result of this script; name another folder")


def replace(new: Path, old: Path) -> None:
    """Put the finished folder in the place of an older one, which is gone only then."""
    aside = temporary_beside(old)
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the world and of all trainings; any integer")
    parser.add_argument("--out", type=home_path, default=Path("runs/selfchain"))
    parser.add_argument("overrides", nargs="*", help="further key=value for every stage, such as device=cuda")
    args = parser.parse_args()
    started = time.monotonic()
    unfinished = args.out.with_name(f"{args.out.name}.unfinished-{args.seed}")
    check_out(args.out)
    chain = SelfChain(unfinished, args.seed, args.overrides)
    try:
        table = chain.rows()
    except UserError:
        chain.forget()
        raise
    write_json(unfinished / TABLE, table)
    report(unfinished, table, args.seed, args.overrides)
    replace(unfinished, args.out)
    print(f"\nwritten: {args.out}/ablation.json and report.html, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(guarded(main))
