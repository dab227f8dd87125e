"""sevila check-data BENCHMARK --root DIR: what is missing, unreadable or too short in a data set, and whom it affects.

Reads every annotation file, finds and opens every video (its packets and its first frame; with --decode also as many
frames as a run samples), and compares clips with the videos' lengths. Nothing is changed. Exit code: 0 where every
record can be used, 1 where some cannot, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.base import Benchmark
from sevila.benchmarks.rows import shown, whole_number
from sevila.cli import Parser, guarded
from sevila.data.check import MISSING, OUTSIDE, UNREADABLE, Fault, Seen, clip_of, open_videos, usable
from sevila.data.records import Moment, Question
from sevila.data.sampling import clip_frames
from sevila.errors import UserError
from sevila.files import check_place, home, home_path, write_json
from sevila.report.terminal import printable
from sevila.run_folder import check_not_of_data

NO_FILE, BAD_ROW = "no annotations", "bad row"
SHOWN = 5  # examples of each kind on the terminal; --out has all
KEEP_ALL = {"drop_bad_rows": True, "drop_unreadable": False}  # every bad row is to be seen, and every video

Record = Question | Moment


def parser() -> Parser:
    """A subcommand a benchmark, whose options are the parameters that it is built from."""
    made = Parser(
        prog="sevila check-data",
        usage="%(prog)s BENCHMARK [--root DIR] [options]",
        description=__doc__.partition(": ")[2],
    )
    chosen = made.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True, prog=made.prog)
    for name, benchmark in BENCHMARKS.items():
        about = (inspect.getdoc(inspect.getmodule(benchmark)) or "").partition("\n")[0].partition(". ")[0]
        _add_options(chosen.add_parser(name, help=about, description=about), benchmark)
    return made


def _add_options(made: argparse.ArgumentParser, benchmark: type[Benchmark]) -> None:
    for key, parameter in inspect.signature(benchmark).parameters.items():
        if key not in KEEP_ALL:
            default = f"data/{benchmark.name}" if key == "root" else parameter.default
            kind: Callable[[str], int | str | None] = _number if isinstance(default, int) else _text
            made.add_argument(
                f"--{key.replace('_', '-')}",
                dest=f"data.{key}",
                type=kind,
                default=default,
                metavar="N" if kind is _number else "PATH",
                help=f"({'none' if default is None else default})",
            )
    add = made.add_argument
    add("--split", help="train, val or test (all of them)")
    add("--frames", type=_positive, default=32, metavar="N", help="frames that a run samples from each video (32)")
    add("--decode", action="store_true", help="also decode that many frames of every video")
    add("--threads", type=_positive, default=4, metavar="N", help="videos that are opened at the same time (4)")
    add("--out", type=home_path, metavar="FILE", help="json file for the whole report")


def _text(value: str) -> str | None:
    """A path or name; `null` as in a config: there is none."""
    return None if value == "null" else home(value)


def _number(value: str) -> int:
    number = whole_number(value)
    if number is None or abs(number) >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2^63, found {shown(value)}")
    return number


def _positive(value: str) -> int:
    if _number(value) < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return _number(value)


@dataclass
class Report:
    """Of one split: how many records there are, and for each kind of problem the records it touches.

    problems   keep records from being used: no annotations, bad row, missing, unreadable, clip outside
    remarks    are dealt with: short video (fewer than `frames` frames: all are used), short clip (some frames are
               used more than once), clip cut (it ends past the video)
    """

    split: str
    kind: str
    records: int = 0
    videos: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    found: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # (kind, place) -> reason, records

    def problem(self, kind: str, place: str, reason: str) -> None:
        self.problems[kind] += 1
        self.found[kind, place] = reason, self.found.get((kind, place), ("", 0))[1] + 1

    def to_json(self) -> dict[str, Any]:
        listed = [
            {"kind": kind, "place": place, "reason": reason, "records": records}
            for (kind, place), (reason, records) in self.found.items()
        ]
        counts = {"split": self.split, "kind": self.kind, "records": self.records, "videos": self.videos}
        return {**counts, "problems": dict(self.problems), "remarks": dict(self.remarks), "found": listed}

    def lines(self) -> Iterator[str]:
        """For the terminal: counts, then the first problems of each kind."""
        yield f"{self.split}: {self.records:,} {self.kind}, {self.videos:,} videos"
        for kind, count in self.problems.items():
            reasons = [reason for (other, _), (reason, _) in self.found.items() if other == kind]
            videos = f" ({len(reasons):,} videos)" if kind in (MISSING, UNREADABLE) else ""
            yield f"  {kind}: {count:,} {'file' if kind == NO_FILE else self.kind}{videos}"
            yield from (f"    {reason}" for reason in reasons[:SHOWN])
            if len(reasons) > SHOWN:
                yield f"    ... and {len(reasons) - SHOWN:,} more"
        for kind, count in self.remarks.items():
            yield f"  {kind}: {count:,} {self.kind}, no obstacle"
        if not self.problems:
            yield "  all can be used"


def run(argv: Sequence[str] | None = None) -> list[Report]:
    """Check and print; the reports of all splits."""
    given = vars(parser().parse_args(argv))
    name, out = given["benchmark"], given["out"]
    params = {key.removeprefix("data."): value for key, value in given.items() if key.startswith("data.")}
    if out is not None:
        check_place("--out", out)
        check_not_of_data("--out", out, params)
    takes = inspect.signature(BENCHMARKS[name]).parameters
    data = BENCHMARKS[name](**params, **{key: value for key, value in KEEP_ALL.items() if key in takes})
    sets = _read_all(data, given["split"])
    ids = [record.video for _, records in sets for record in records]
    seen = open_videos(ids, data.folder(), given["frames"] if given["decode"] else 0, given["threads"])
    for report, records in sets:
        _judge(report, records, seen, given["frames"])
        print("\n".join(map(printable, report.lines())))
    reports = [report for report, _ in sets]
    if out is not None:
        write_json(out, {"data": {"name": name, **params}, "splits": [report.to_json() for report in reports]})
        print(f"written: {out}")
    return reports


def _read_all(data: Benchmark, only: str | None) -> list[tuple[Report, list[Any]]]:
    """The records of every split, or of one, each with the report that begins with its annotation file.

    UserError for a split that there is not, and for a missing video folder.
    """
    known = sorted({*data.question_splits, *data.moment_splits})
    if only is not None and only not in known:
        raise UserError(f"--split={only}: {data.name} has {', '.join(known)}")
    data.folder()
    kinds: list[tuple[str, Sequence[str], Callable[[str], list[Any]]]] = [
        ("questions", data.question_splits, data.questions),
        ("moment queries", data.moment_splits, data.moments),
    ]
    sets = [_read(split, kind, read, data) for kind, splits, read in kinds for split in splits if only in (None, split)]
    # a file of one's own may hold one kind or both: what it has none of is told, once, only where it has nothing
    told = {report.split for report, records in sets if records}
    kept = []
    for report, records in sets:
        if records or report.split not in told:
            kept.append((report, records))
            told.add(report.split)
    return kept


def _read(split: str, kind: str, read: Callable[[str], list[Any]], data: Benchmark) -> tuple[Report, list[Any]]:
    report, records, before = Report(split, kind), [], list(data.dropped)
    try:
        records = read(split)
    except UserError as error:  # no such file, or nothing that can be read in it
        report.problem(NO_FILE, split, str(error))
    for row in data.dropped:
        if row not in before:
            report.problem(BAD_ROW, row.place, row.reason)
    return report, records


def _judge(report: Report, records: Sequence[Record], seen: Seen, frames: int) -> None:
    """Note what keeps each record from being used, and what a run will deal with."""
    report.records, report.videos = len(records), len({record.video for record in records})
    for record in records:
        info = usable(record, seen)
        if isinstance(info, Fault):
            outside = info.kind == OUTSIDE  # a fault of the record; the others are the video's
            place = f"{record.qid} (video {record.video})" if outside else f"video {record.video}"
            report.problem(info.kind, place, f"{place}: {info.reason}" if outside else info.reason)
            continue
        clip = clip_of(record)
        if info.length < frames:
            report.remarks["short video"] += 1
        if clip is not None:
            start, end = clip_frames(info.length, info.fps, clip, info.times)
            report.remarks["short clip"] += end - start < frames
            report.remarks["clip cut"] += clip[1] > info.duration
    report.remarks = +report.remarks  # without zeros


def cli(argv: Sequence[str] | None = None) -> int:
    reports: list[Report] = []
    code = guarded(lambda: reports.extend(run(argv)))
    return code or int(any(report.problems for report in reports))


if __name__ == "__main__":
    raise SystemExit(cli())
