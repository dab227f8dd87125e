"""A file of questions answered by the actors of a Ray cluster, a model on a GPU or a core each, with Ray Data.

What travels is the number of a window of rows: an actor reads these rows from the file, answers them as `sevila
predict` does by itself, and writes them as a part, a file that gets its name when it is whole. So the file, the videos
and the folder of answers stand where every machine sees them. The parts one after the other are predictions.jsonl.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from sevila.answers import AnswerFolder, Answering, load
from sevila.cli import one_line
from sevila.errors import MachineError, UserError, reason
from sevila.files import numbered_jsonl, write_jsonl
from sevila.progress import ProgressBar
from sevila.questions import Asked, by_video, read_questions, windows


class Actor:
    """A model, and how far the file has been read: windows are handed out in order, and each actor reads it once."""

    def __init__(self, given: Namespace, folder: Path, cwd: str) -> None:
        os.chdir(cwd)  # paths are as the command line names them
        self.given, self.folder = given, folder
        self.numbers: Iterator[tuple[int, list[Asked]]] = iter(())
        self.next = 0

    @cached_property
    def answering(self) -> Answering:
        return load(self.given)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer the window of this number; gives the line of what a user can mend, or the machine refused."""
        number = int(row["window"])
        try:
            groups = by_video(self._window(number), self.given.shard)
            made = (pair for together in self.answering.rows(groups) for pair in together)
            write_jsonl(part(self.folder, number), (answer for _, answer in made))
        except Exception as error:
            return {**row, "error": str(one_line(error))}
        return {**row, "error": ""}

    def _window(self, number: int) -> list[Asked]:
        if not self.next or number < self.next:  # from the beginning, and again where another actor's work is done anew
            self.numbers = enumerate(windows(read_questions(self.given.questions), self.given.window))
        self.next = number + 1
        return next(window for at, window in self.numbers if at == number)


def part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.jsonl"


def answer_by_ray(given: Namespace, folder: AnswerFolder, rows: int) -> None:
    """Answer the windows of `rows` rows that have no part yet, and count the faults of all. UserError of an actor."""
    numbers, parts = range(-(-rows // given.window)), folder.path / "parts"
    missing = [number for number in numbers if not part(parts, number).exists()]
    done = len(numbers) - len(missing)
    if len(numbers) < given.actors:  # the windows are those of plain predict, so that the answers are
        few = f"--actors={given.actors}: --window={given.window} makes {len(numbers)} parts of {rows} rows"
        advice = "as many actors are at work; a smaller --window, in another folder, gives more of them some"
        print(f"sevila: warning: {few}; {advice}", file=sys.stderr)
    with ProgressBar("parts", len(numbers), done) as bar:
        for row in _answered(given, parts, missing) if missing else ():
            if row["error"]:
                raise UserError(row["error"])
            done += 1
            bar.update(done)
        bar.finish(done)
    for number in numbers:
        folder.faults.count(row for _, row in numbered_jsonl(part(parts, number)))


def _answered(given: Namespace, parts: Path, missing: Sequence[int]) -> Iterator[dict[str, Any]]:
    """What the actors say of the windows of these numbers, as they are done with them."""
    try:
        cluster = ray.init(include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:  # RAY_ADDRESS names none; without it this machine becomes one
        if "RAY_ADDRESS" not in os.environ:
            raise
        remedy = "name the HOST:PORT of a cluster that runs, or unset it for this machine alone"
        raise UserError(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: {reason(error)}; {remedy}") from None
    with cluster:
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpu = given.device != "cpu" and ray.cluster_resources().get("GPU")
        needs: dict[str, Any] = {"num_gpus": 1} if gpu else {"num_cpus": 1}
        # a block a window, and all blocks are there already: nothing but actors needs a core, so they may take all
        data = ray.data.from_items([{"window": number} for number in missing], override_num_blocks=len(missing))
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # Ray has set its own level by now
        about = {"given": given, "folder": parts, "cwd": os.getcwd()}
        pool = ray.data.ActorPoolStrategy(size=min(given.actors, len(missing)))  # no model that has nothing to do
        try:
            yield from data.map(Actor, fn_constructor_kwargs=about, compute=pool, **needs).iter_rows()  # type: ignore[arg-type]
        except RayError as error:
            raise MachineError(f"Ray: {reason(error)}") from error
