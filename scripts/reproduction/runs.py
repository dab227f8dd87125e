"""A run of an entry point, the runs it builds on, and its command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sevila.config import load
from sevila.errors import UserError
from sevila.files import read_json, write_json
from sevila.run_folder import FREE_ON_RESUME

LONGEST_NAME = 200  # bytes; file systems take 255
PUBLISHED_GPUS = 4
LAUNCH = ("python", "-m")
_FREE = tuple(f"{key}{end}" for key in FREE_ON_RESUME for end in "=.")


@dataclass(frozen=True)
class Run:
    """`python -m sevila.ENTRY +exp=EXP KEY=VALUE ...` on a data set.

    options   pairs of a key and its value; a run in a value's place stands for its folder, and is made before
    alias     the folder's name, where the one that follows from the command would be unreadably long
    """

    entry: str
    exp: str
    data: str
    options: tuple[tuple[str, str | Run], ...] = ()
    alias: str = ""

    @classmethod
    def made(cls, entry: str, exp: str, data: str, options: Options | None = None, alias: str = "") -> Run:
        pairs = tuple((key, value if isinstance(value, Run) else str(value)) for key, value in (options or {}).items())
        return cls(entry, exp, data, pairs, alias)

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that must be there before."""
        return tuple(value for _, value in self.options if isinstance(value, Run))

    @property
    def trained(self) -> bool:
        """Whether its numbers depend on the seed: it trains something, or builds on a run that does."""
        return self.entry != "eval" or any(run.trained for run in self.needs)

    @property
    def name(self) -> str:
        """The folder's name: the experiment and the options, without the heads that are the rule (`_AS_A_RULE`)."""
        if self.alias:
            return self.alias
        given = [] if self._of_one_data_set else [f"data={self.data}"]
        for key, value in self.options:
            if (key, value) not in _AS_A_RULE:
                given.append(f"{key}={value.inner if isinstance(value, Run) else value}")
        return ",".join([self.exp, *given])

    @property
    def inner(self) -> str:
        """Its name inside another one's."""
        return self.name if "=" not in self.name else f"{self.exp}({self.name.removeprefix(f'{self.exp},')})"

    @property
    def variation(self) -> tuple[str, ...]:
        """Its options as words where they differ from the rule: all but the pre-trained Localizer, and no Answerer."""
        shown = [(key, value) for key, value in self.options if key not in ("answerer", "scorer.file")]
        given = [(key, value) for key, value in shown if (key, value) not in _AS_A_RULE]
        return tuple(f"{key}={value.inner if isinstance(value, Run) else value}" for key, value in given)

    def words(self, folder: Callable[[Run], Path]) -> list[str]:
        """The words of its command, the run folder and the seed left out."""
        words = [f"+exp={self.exp}"] + ([] if self._of_one_data_set else [f"data={self.data}"])
        return words + [f"{key}={folder(value) if isinstance(value, Run) else value}" for key, value in self.options]

    @property
    def _of_one_data_set(self) -> bool:
        return self.exp.startswith(f"{self.data}_")


Options = Mapping[str, "str | int | Run"]
PRETRAIN = Run("train", "qvhighlights_pretrain", "qvhighlights")
_AS_A_RULE = (("localizer", PRETRAIN), ("answerer", "zeroshot"))


def plan(wanted: Iterable[Run], given: Collection[str] = ()) -> list[Run]:
    """The wanted runs and all that they need: every run once, and after those it needs.

    What a run needs whose name is `given` is left out: it will not be made.
    """
    ordered: dict[Run, None] = {}

    def add(run: Run) -> None:
        for needed in run.needs if run.name not in given else ():
            add(needed)
        ordered.setdefault(run)

    for run in wanted:
        add(run)
    return list(ordered)


def scoped(word: str) -> tuple[str, str]:
    """A word of --set: nextqa:data.root=/x is ("nextqa", "data.root=/x"), and ("", word) where it has no scope."""
    key, equals, value = word.partition("=")
    if not (key and equals and value):
        raise UserError(f"--set {word}: expected KEY=VALUE")
    scope, colon, _ = key.partition(":")
    return (scope, word.partition(":")[2]) if colon else ("", word)


@dataclass(frozen=True)
class Settings:
    """What holds for all runs of a call. Trainings keep the published batch: fewer processes than the paper's four
    accumulate more batches each. Where that cannot be (`batch_kept`) they take a quarter of it a process.

    root     the folder of the run folders: RUNS/NAME, and RUNS/seed_S/NAME where the seed matters
    data     the folder of all data sets, NAME each; None: where configs/data says
    extra    further words, each (scope, word): the scope is an experiment or data set, "" for all
    launch   what stands before `sevila.train` and the others
    heads    names of runs that are not made, and the heads that take their place
    gpus     processes, in place of `launch`
    """

    root: Path
    data: Path | None = None
    extra: tuple[tuple[str, str], ...] = ()
    launch: tuple[str, ...] = LAUNCH
    heads: Mapping[str, Path] = field(default_factory=dict)
    gpus: int | None = None

    def folder(self, run: Run, seed: int) -> Path:
        """Where a run of this seed stands."""
        if run.name in self.heads:
            return self.heads[run.name]
        return self.root / f"seed_{seed}" / run.name if run.trained else self.root / run.name

    def command(self, run: Run, seed: int) -> list[str]:
        """The whole command. It goes on with a run that was interrupted."""
        return [*self._launch(), f"sevila.{run.entry}", *self.words(run, seed)]

    def words(self, run: Run, seed: int) -> list[str]:
        """The words behind the entry point."""
        words = run.words(lambda needed: self.folder(needed, seed))
        words += [f"run_dir={self.folder(run, seed)}", f"seed={seed if run.trained else 0}", "resume=true"]
        if self.data is not None:
            words.append(f"data.root={self.data / run.data}")
        extra = [word for scope, word in self.extra if _concerns(scope, word, run)]
        batch = [] if run.entry == "eval" else self._batch(run, words)
        return [*words, *batch, *extra]

    def _launch(self) -> Sequence[str]:
        if self.gpus is None:
            return self.launch
        many = ["accelerate", "launch", "--num_processes", str(self.gpus), "-m"]
        return many if self.gpus > 1 else ["python", "-m"]

    @property
    def processes(self) -> int | None:
        """How many processes a run has; None where `launch` does not say."""
        if self.gpus is not None or self.launch == LAUNCH:
            return self.gpus or 1
        found = re.search(r"--(?:num_processes|nproc[-_]per[-_]node)[= ](\d+)(?!\S)", shlex.join(self.launch))
        return int(found[1]) if found else None

    @property
    def batch_kept(self) -> bool:
        """Whether trainings have the published batch."""
        return self.processes in (1, 2, PUBLISHED_GPUS)

    def _batch(self, run: Run, words: Sequence[str]) -> list[str]:
        """What keeps the published batch on fewer GPUs: batches that would be other processes' are accumulated."""
        times = PUBLISHED_GPUS // self.processes if self.batch_kept else 1
        if times == 1:
            return []
        trainer = load(run.entry, words).trainer
        divisor = [] if trainer.loss_divisor is None else [f"trainer.loss_divisor={trainer.loss_divisor * times}"]
        steps = f"trainer.warmup_steps={trainer.warmup_steps * times}"  # the published schedule counts batches
        return [f"trainer.accumulate={trainer.accumulate * times}", *divisor, steps]

    def done(self, run: Run, seed: int) -> bool:
        return run.name in self.heads or (self.folder(run, seed) / "metrics.json").exists()

    def signature(self, run: Run) -> str:
        """What a run's numbers follow from, seed aside: its words, folders by their names."""
        words = [run.entry, *run.words(lambda needed: self.heads.get(needed.name, Path(needed.name)))]
        if self.data is not None:
            words.append(f"data.root={self.data / run.data}")
        if run.entry != "eval":
            words.append(f"processes={self.processes}" if self.processes else f"launch={shlex.join(self.launch)}")
        extra = [word for scope, word in self.extra if _concerns(scope, word, run)]
        return " ".join(words + [word for word in extra if not word.startswith(_FREE)])

    def describe(self) -> dict[str, object]:
        """What differs from the plain commands and could change numbers."""
        return {
            "data": None if self.data is None else str(self.data),
            "heads": {name: str(head) for name, head in self.heads.items()},
            "gpus": self.gpus,
            "batch": None if self.batch_kept else f"not the published one: {PUBLISHED_GPUS} processes have it",
            "launch": None if self.launch == LAUNCH else shlex.join(self.launch),
            "set": [f"{scope}:{word}" if scope else word for scope, word in self.extra],
        }


class Ledger:
    """RUNS/commands.json: what each run folder was made with, so that no table mixes runs of different settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.path = settings, settings.root / "commands.json"
        self.made: dict[str, str] = read_json(self.path) if self.path.exists() else {}

    def check(self, run: Run, seed: int) -> None:
        """UserError where the folder holds a run made with something else."""
        folder, now = self.settings.folder(run, seed), self.settings.signature(run)
        before = self.made.get(self._key(folder), now)
        if before != now and folder.exists():
            raise UserError(f"{folder}: was made with {before!r}, now {now!r}; choose another --runs")

    def fits(self, run: Run, seed: int) -> bool:
        """Whether a run that is there, and all that it was made from, was made with what is asked for now."""
        if run.name in self.settings.heads:
            return True
        made = self.made.get(self._key(self.settings.folder(run, seed)))
        return made in (None, self.settings.signature(run)) and all(self.fits(needed, seed) for needed in run.needs)

    def add(self, run: Run, seed: int) -> None:
        self.made[self._key(self.settings.folder(run, seed))] = self.settings.signature(run)
        write_json(self.path, self.made)

    def _key(self, folder: Path) -> str:
        return folder.relative_to(self.settings.root).as_posix()


def _concerns(scope: str, word: str, run: Run) -> bool:
    """Whether an extra word goes into a run's command; `trainer` is a group of trainings only."""
    return scope in ("", run.exp, run.data) and not (run.entry == "eval" and word.startswith(("trainer.", "trainer=")))


def jobs(wanted: Iterable[Run], seeds: Sequence[int], given: Collection[str] = ()) -> list[tuple[Run, int]]:
    """Every run with every seed, and once where no seed changes it. ValueError for two commands of one name."""
    ordered = plan(wanted, given)
    names: dict[str, Run] = {}
    for run in ordered:
        if names.setdefault(run.name, run) != run or len(run.name.encode()) > LONGEST_NAME:
            raise ValueError(f"{run.name}: two commands bear this name, or it is too long")
    first = [(run, seeds[0]) for run in ordered if not run.trained]
    return first + [(run, seed) for seed in seeds for run in ordered if run.trained]
