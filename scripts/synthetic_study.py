"""The paper's claims on the embedded world, where the true keyframes are known.

    python scripts/synthetic_study.py --seeds 5 --worlds 900001,900002 --out results/synthetic --runs runs/study

Every row is trained with so many seeds on every world; runs that rows share are made once. Each is the very run that a
command of the library would make, in RUNS/world_W/[seed_S/]NAME, with what it prints in NAME.log beside it. A call that
stopped, however it stopped, goes on when it is given again. OUT then holds outcomes.npz (what every run said of every
test question), claims.json and claims.md, tables/, plots/, report.html and environment.json of this call's rows, which
follow from the runs alone: --report-only writes them from what there is, --from-outcomes FILE without any run. Tables
and plots of rows that this call has not are removed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from reproduction.runs import scoped
from sevila import build
from sevila.cli import guarded
from sevila.config import load
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.files import home_path
from study.outcomes import Outcomes, collect, read_outcomes
from study.outputs import OUTCOMES, write_all
from study.rows import DATA, GROUPS, Numbers, all_rows, chosen
from study.schedule import Worlds, environment, make

EXP = "synthetic_eval"
NUMBERS = ("frames.n=", "selector.k=")  # every row says its own: --set changes the default that they go around


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of every row: seeds 0 to N-1")
    parser.add_argument("--worlds", default="", metavar="SEED,SEED", help="of the worlds; never those of development")
    parser.add_argument("--out", type=home_path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=home_path, help="folder of the run folders; default: OUT/runs")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help=f"{', '.join(GROUPS)}, or rows by name")
    parser.add_argument("--test-videos", type=int, default=120, metavar="N", help="of a world: 8 or 9 questions each")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes, of one thread each")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="[EXP:]KEY=VALUE",
        help="further words of every command, or of one experiment's; trainer.* in trainings only",
    )
    parser.add_argument("--report-only", action="store_true", help="make no runs")
    parser.add_argument("--from-outcomes", type=home_path, metavar="FILE", help=f"write the results from an {OUTCOMES}")
    return parser.parse_args(argv)


def study(given: argparse.Namespace) -> None:
    """Make what is missing, then write the results."""
    outcomes = read_outcomes(given.from_outcomes) if given.from_outcomes else measured(given)
    for finding in write_all(outcomes, given.out).found:
        print(f"{finding.verdict:15} {finding.claim.name}, {finding.claim.measure}: {finding.effect}")
    print(f"written: {given.out}/report.html, claims.json, {OUTCOMES}, tables/, plots/")


def measured(given: argparse.Namespace) -> Outcomes:
    """The outcomes of the runs that are asked for; what is missing is made."""
    worlds = _worlds(given.worlds)
    least = (("--seeds", given.seeds, 1), ("--workers", given.workers, 1), ("--test-videos", given.test_videos, 2))
    for option, number, minimum in least:  # of one video nothing says how much videos differ
        if number < minimum:
            raise UserError(f"{option} {number}: must be at least {minimum}")
    seeds, root = list(range(given.seeds)), given.runs or given.out / "runs"
    words = [("", f"data.test_videos={given.test_videos}"), *map(scoped, given.set)]
    default = _default_numbers(words)
    places = Worlds(root, tuple(pair for pair in words if not pair[1].startswith(NUMBERS)))
    rows = chosen(all_rows(default), given.rows)
    jobs = places.jobs([row.run for row in rows], worlds, seeds)
    questions = {world: _questions(places, world) for world in worlds}  # draws the worlds
    if not given.report_only:
        make(jobs, root, given.workers)
    about = environment(jobs, root, worlds, seeds, [f"data.test_videos={given.test_videos}", *given.set])
    outcomes = collect(rows, default, questions, seeds, places, about)
    if not outcomes.runs:
        raise UserError(f"{root}: holds no complete row of these worlds and seeds; leave --report-only out")
    return outcomes


def _worlds(text: str) -> list[int]:
    if not text:
        raise UserError("--worlds: needed, as in 900001,900002, unless --from-outcomes names a file")
    try:
        worlds = [int(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--worlds {text}: expected whole numbers, as in 900001,900002") from None
    if len(set(worlds)) < len(worlds):
        raise UserError(f"--worlds {text}: a world stands there twice")
    return worlds


def _default_numbers(words: Sequence[tuple[str, str]]) -> Numbers:
    """The numbers of frames and keyframes that the evaluation has by its configuration and --set."""
    for scope, word in words:
        if scope and word.startswith(NUMBERS):
            raise UserError(f"--set {scope}:{word}: a row has the same numbers in all its runs; give {word}")
        if word.startswith("data=") and word != f"data={DATA}":
            raise UserError(f"--set {word}: the study is about data={DATA}")
    config = load("eval", _of_evaluation(words))
    return Numbers(config.frames.n, config.selector["k"])


def _questions(places: Worlds, world: int) -> list[Question]:
    """The test questions of a world, which is drawn now if it is not there."""
    return build.benchmark(load("eval", _of_evaluation(places.settings(world).extra))).questions("test")


def _of_evaluation(words: Sequence[tuple[str, str]]) -> list[str]:
    own = [word for scope, word in words if scope in ("", EXP) and not word.startswith(("trainer.", "trainer="))]
    return [f"+exp={EXP}", *own]


def main(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: study(arguments(argv)))


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # so that the processes are ended


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
