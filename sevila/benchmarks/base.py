"""What every benchmark hands over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sevila.benchmarks.rows import Dropped
from sevila.data.folders import Videos
from sevila.data.records import Moment, Question


class Benchmark(Protocol):
    """Records by split, and where their videos are.

    name              as in `data=NAME`
    prompts           the wording it was published with: "question", or "event" where rows hold no question
    question_splits   the splits it has questions for; `moment_splits` likewise
    dropped           what was left out of the splits read so far; only where that was asked for
    """

    name: str
    prompts: str
    question_splits: Sequence[str]
    moment_splits: Sequence[str]

    @property
    def dropped(self) -> Sequence[Dropped]: ...

    def questions(self, split: str) -> list[Question]:
        """The questions of `train`, `val` or `test`. UserError where the benchmark has none."""
        ...

    def moments(self, split: str) -> list[Moment]:
        """The moment queries of a split. UserError where the benchmark has none."""
        ...

    def folder(self) -> Videos: ...
