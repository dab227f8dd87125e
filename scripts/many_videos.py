"""How `sevila predict` bears long files of questions: the first answer, peak memory, and what kill -9 leaves.

    python scripts/many_videos.py [--first ROWS] [--questions N] [--kills N] [--seed N]

--first      rows of the file whose first answer is waited for, with the tiny model (1,000,000)
--questions  rows of the file that is answered to its end, with a model that makes answers up (100,000)
--kills      SIGKILLs at random moments of another such run, which is resumed after each (5)

The videos are eight of the drawn world, asked about ten times in a row. Exit code 1 if the bytes after the kills differ
from those of a run that nobody stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VIDEOS, TOGETHER = 8, 10
GIB = 2**20  # kilobytes, which the system counts memory in


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_videos(folder)
        first = Run(folder / "first", write_questions(folder, given.first), made_up=False)
        seconds = first.wait_for_line()
        memory = first.kill()
        if seconds is None:
            raise SystemExit(f"no answer:\n{first.log.read_text()[-2000:]}")
        print(f"first answer of {given.first:,} rows after {seconds:.1f} s, with {memory / GIB:.2f} GiB", flush=True)
        asked = write_questions(folder, given.questions)
        whole = Run(folder / "whole", asked)
        memory = whole.end()
        print(f"{given.questions:,} questions in {whole.seconds:.0f} s, peak {memory / GIB:.2f} GiB", flush=True)
        stops = random.Random(given.seed)
        for _ in range(given.kills):
            run = Run(folder / "killed", asked)
            if run.wait_for_line() is not None:
                time.sleep(stops.uniform(0, whole.seconds / (given.kills + 2)))
            run.kill()
            print(f"killed with {run.rows():,} rows", flush=True)
        last = Run(folder / "killed", asked)
        last.end()
        same = last.file.read_bytes() == whole.file.read_bytes()
        print(f"resumed to the end: {'the same bytes' if same else 'OTHER BYTES'}")
    return 0 if same else 1


def draw_videos(folder: Path) -> None:
    from sevila.synthetic.world import Recipe, make

    splits = {"train": 1, "val": VIDEOS, "test": 1, "moment_train": 1, "moment_val": 1}
    make(Recipe(**{f"{split}_videos": number for split, number in splits.items()}), folder / "world", workers=2)
    for number, video in enumerate(sorted((folder / "world").glob("seed_*/videos/val_*.mp4"))):
        video.rename(folder / f"v{number}.mp4")


def write_questions(folder: Path, rows: int) -> Path:
    file = folder / f"{rows}.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for row in range(rows):
            video = f"v{row // TOGETHER % VIDEOS}.mp4"
            options = ["a cup", "a key", "the bell", "a book", "a hat"]
            asked = {"qid": f"q{row}", "video": video, "question": f"what does the red star hold, {row}"}
            out.write(json.dumps({**asked, "options": options}) + "\n")
    return file


class Run:
    """`sevila predict` in a process of its own, which began at `started`."""

    def __init__(self, out: Path, questions: Path, made_up: bool = True) -> None:
        self.file, self.started = out / "predictions.jsonl", time.monotonic()
        words = [
            sys.executable,
            __file__,
            "--child",
            str(int(made_up)),
            "--questions",
            str(questions),
            "--out",
            str(out),
        ]
        with open(f"{out}.log", "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        self.log, self.seconds = Path(f"{out}.log"), 0.0

    def wait_for_line(self) -> float | None:
        """Seconds until the file holds a row more than it did; None where the process ends before that."""
        before = self.file.stat().st_size if self.file.exists() else 0
        while not (self.file.exists() and self.file.stat().st_size > before):
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return None
            time.sleep(0.02)
        return time.monotonic() - self.started

    def rows(self) -> int:
        with self.file.open("rb") as file:
            return sum(1 for _ in file)

    def kill(self) -> int:
        """Peak memory in kilobytes, of a process that is ended now, or was."""
        os.kill(self.process.pid, signal.SIGKILL)
        return os.wait4(self.process.pid, 0)[2].ru_maxrss

    def end(self) -> int:
        """Peak memory in kilobytes, of a process that has come to its end."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.seconds = time.monotonic() - self.started
        if status:
            raise SystemExit(self.log.read_text()[-2000:])
        return usage.ru_maxrss


# -- in that process ---


@dataclass
class MadeUp:
    """In the place of `sevila.SeViLA`: frames are decoded, and answers come from the questions' letters."""

    videos: Any
    store: None = None

    def __post_init__(self) -> None:
        cpu = SimpleNamespace(type="cpu")
        self.model = SimpleNamespace(backbone=SimpleNamespace(truncated=set(), source="made up", device=cpu))

    def encode_sample(self, sample: Any) -> Any:
        return sample.frames

    def answer(
        self, frames: Any, questions: Sequence[str], options: Sequence[Sequence[str]], selector: Any
    ) -> list[Any]:
        import torch

        from sevila.data.records import Question
        from sevila.model.sevila import Answer, Localization, ScoredFrame

        made = []
        for text, choices in zip(questions, options, strict=True):
            seed = zlib.crc32(text.encode())
            scores = [(seed * (i + 1) % 9973) / 997 for i in range(len(frames.indices))]
            seen = tuple(map(ScoredFrame, frames.indices, frames.times, scores))
            logits = torch.tensor(scores[: len(choices)])
            made.append(Answer.of(Question("", "", text, tuple(choices)), Localization(seen, (0, 1, 2, 3)), logits))
        return made


def child(made_up: bool, words: list[str]) -> int:
    from sevila import predict

    if made_up:
        from sevila import answers
        from sevila.data.video import CachedVideos
        from sevila.selection.rules import LocalizerTopK

        answers.load = lambda given: answers.Answering(MadeUp(CachedVideos(224)), LocalizerTopK(4), 32)
    return predict.cli(words)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        raise SystemExit(child(sys.argv[2] == "1", sys.argv[3:]))
    raise SystemExit(main())
