"""What is missing, unreadable or too short in a data set, and how many of its questions that touches.

    python scripts/check_data.py data=nextqa data.root=/datasets/nextqa
    python scripts/check_data.py data=star split=val decode=true out=star.json

Reads every annotation file, finds and opens every video (its packets and its first frame; with decode=true also
frames.n frames of it), and compares clips with the videos' lengths. Nothing is changed. Exit code: 0 where every
record can be used, 1 where some cannot, 2 for a wrong command line.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sevila import hydra_main, schema
from sevila.errors import UserError
from sevila.schema import option

NO_FILE, BAD_ROW, MISSING, UNREADABLE, OUTSIDE = "no annotations", "bad row", "missing", "unreadable", "clip outside"
SHOWN = 5  # examples of each kind on the terminal; out= has all
KEEP_ALL = {"drop_bad_rows": True, "drop_unreadable": False}  # every bad row is to be seen, and every video


@dataclass
class Frames:
    n: int = option("frames that a run samples from each video", 32, least=1)


@dataclass
class CheckData:
    """Report what is missing, unreadable or too short in a data set, before a run stops at it."""

    entry: str = option("the entry point that this configuration is for")
    data: dict[str, Any] = option("the data set", {}, named=True)
    split: str | None = option("train, val or test; null: all of them", None)
    frames: Frames = option("sampling", Frames)
    decode: bool = option("decode that many frames of every video", False)
    threads: int = option("videos that are opened at the same time", 4, least=1)
    out: str | None = option("json file for the whole report", None)


schema.ENTRIES["check_data"] = CheckData


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


def run(config: CheckData) -> list[Report]:
    """Check and print; the reports of all splits."""
    from sevila.benchmarks import BENCHMARKS
    from sevila.data.check import look
    from sevila.files import check_place, write_json
    from sevila.report.terminal import printable
    from sevila.run_folder import check_not_of_data

    if config.out is not None:
        check_place("out", config.out)
        check_not_of_data("out", Path(config.out), config.data)
    make = BENCHMARKS.get(str(config.data.get("name")))
    forced = {key: value for key, value in KEEP_ALL.items() if make and key in inspect.signature(make).parameters}
    data = schema.named("data", {**config.data, **forced}, BENCHMARKS)
    kinds = [("questions", data.question_splits, data.questions), ("moment queries", data.moment_splits, data.moments)]
    known = sorted({split for _, splits, _ in kinds for split in splits})
    if config.split is not None and config.split not in known:
        raise UserError(f"split={config.split}: {data.name} has {', '.join(known)}")
    folder = data.folder()
    sets = []
    for kind, splits, read in kinds:
        for split in splits:
            if config.split in (None, split):
                sets.append(_read(split, kind, read, data))
    ids = [record.video for _, records in sets for record in records]
    looked = look(ids, folder, config.frames.n if config.decode else 0, config.threads)
    for report, records in sets:
        _judge(report, records, looked, config.frames.n)
        print("\n".join(map(printable, report.lines())))
    reports = [report for report, _ in sets]
    if config.out is not None:
        write_json(config.out, {"data": config.data, "splits": [report.to_json() for report in reports]})
        print(f"written: {config.out}")
    return reports


def _read(split: str, kind: str, read: Callable[[str], list[Any]], data: Any) -> tuple[Report, list[Any]]:
    report, records = Report(split, kind), []
    try:
        records = read(split)
    except UserError as error:  # no such file, or nothing that can be read in it
        report.problem(NO_FILE, split, str(error))
    for row in data.dropped:
        if row.split == split:
            report.problem(BAD_ROW, row.place, row.reason)
    return report, records


def _judge(report: Report, records: Sequence[Any], looked: Any, frames: int) -> None:
    from sevila.data.check import clip_of, fault_of
    from sevila.data.sampling import clip_frames

    report.records, report.videos = len(records), len({record.video for record in records})
    for record in records:
        fault, info = fault_of(record, looked), looked[record.video]
        if fault is not None:
            outside = fault.kind == OUTSIDE  # a fault of the record; the others are the video's
            place = f"{record.qid} (video {record.video})" if outside else f"video {record.video}"
            report.problem(fault.kind, place, f"{place}: {fault.reason}" if outside else fault.reason)
            continue
        clip = clip_of(record)
        if info.length < frames:
            report.remarks["short video"] += 1
        if clip is not None:
            start, end = clip_frames(info.length, info.fps, clip, info.times)
            report.remarks["short clip"] += end - start < frames
            report.remarks["clip cut"] += clip[1] > info.duration
    report.remarks = +report.remarks  # without zeros


def main(argv: Sequence[str] | None = None) -> int:
    reports: list[Report] = []
    code = hydra_main.main("check_data", lambda config: reports.extend(run(config)), argv)
    return code or int(any(report.problems for report in reports))


if __name__ == "__main__":
    sys.exit(main())
