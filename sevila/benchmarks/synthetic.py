"""The embedded world: drawn on first use, then read from its files like any other benchmark."""

from __future__ import annotations

from pathlib import Path

from sevila.benchmarks.base import Benchmark
from sevila.benchmarks.nextqa import NExTQA
from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.data.folders import VideoFolder
from sevila.data.records import Moment, Question
from sevila.errors import UserError
from sevila.synthetic.world import Recipe, make


class Synthetic(Benchmark):
    """A world in its folder `world`, a subfolder of `root` whose name follows from the numbers."""

    name = "synthetic"
    question_splits = ("train", "val", "test")
    moment_splits = ("train", "val")

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
        """In NExT-QA's form, with windows in NExT-GQA's. UserError for another split."""
        if split not in self.question_splits:
            raise UserError(f"split={split}: the synthetic world has {', '.join(self.question_splits)}")
        windows = self.world / f"windows_{split}.json"
        return NExTQA.read_questions(self.world / f"questions_{split}.csv", windows=windows)

    def moments(self, split: str) -> list[Moment]:
        """In QVHighlights' form. UserError for another split."""
        if split not in self.moment_splits:
            raise UserError(f"split={split}: the synthetic world has moments for {', '.join(self.moment_splits)}")
        return QVHighlights.read_moments(self.world / f"moments_{split}.jsonl")

    def folder(self) -> VideoFolder:
        return VideoFolder(self.world / "videos")
