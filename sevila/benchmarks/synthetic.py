"""The embedded world: drawn on first use, then read from its files like any other benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from sevila.benchmarks.nextqa import read_questions
from sevila.benchmarks.qvhighlights import read_moments
from sevila.benchmarks.rows import Dropped
from sevila.data.folders import VideoFolder
from sevila.data.records import Moment, Question
from sevila.errors import UserError
from sevila.synthetic.world import Recipe, make

QUESTION_SPLITS, MOMENT_SPLITS = ("train", "val", "test"), ("train", "val")


class Synthetic:
    """A world in its folder `world`, a subfolder of `root` whose name follows from the numbers."""

    name: ClassVar[str] = "synthetic"
    prompts: ClassVar[str] = "question"
    question_splits: ClassVar[tuple[str, ...]] = QUESTION_SPLITS
    moment_splits: ClassVar[tuple[str, ...]] = MOMENT_SPLITS
    dropped: ClassVar[tuple[Dropped, ...]] = ()

    def __init__(
        self,
        root: str,
        seed: int = 0,
        train_videos: int = Recipe.train_videos,
        val_videos: int = Recipe.val_videos,
        test_videos: int = Recipe.test_videos,
        moment_train_videos: int = Recipe.moment_train_videos,
        moment_val_videos: int = Recipe.moment_val_videos,
    ) -> None:
        recipe = Recipe(seed, train_videos, val_videos, test_videos, moment_train_videos, moment_val_videos)
        self.world = make(recipe, Path(root))

    def questions(self, split: str) -> list[Question]:
        if split not in QUESTION_SPLITS:
            raise UserError(f"split={split}: the synthetic world has {', '.join(QUESTION_SPLITS)}")
        return read_questions(self.world / f"questions_{split}.csv", self.world / f"windows_{split}.json")

    def moments(self, split: str) -> list[Moment]:
        if split not in MOMENT_SPLITS:
            raise UserError(f"split={split}: the synthetic world has moments for {', '.join(MOMENT_SPLITS)}")
        return read_moments(self.world / f"moments_{split}.jsonl")

    def folder(self) -> VideoFolder:
        return VideoFolder(self.world / "videos")
