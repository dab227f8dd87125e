"""python -m sevila.train +exp=NAME: train one head, the Localizer on moments or the Answerer on keyframes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import main

if TYPE_CHECKING:
    from sevila.fit import Workshop


def run(config: schema.Train) -> dict[str, Any]:
    """Train; returns what metrics.json holds."""
    from sevila.fit import workshop

    return schema.named("task", config.task, {"pretrain": pretrain, "answer": answer}, shop=workshop(config))


def pretrain(shop: Workshop, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """Localizer pre-training on moment queries, `frames` random frames each."""
    from sevila.data.loading import FrameDataset, TrainingFrames
    from sevila.tasks.pretrain import METRIC, PretrainTask

    shop.check_frames(frames)
    source = shop.chain.source
    rule = TrainingFrames(frames, shop.config.seed, crop)
    dataset = FrameDataset(shop.data.moments("train"), source.videos, source.folder, rule)
    task = PretrainTask(shop.model, source, shop.data.moments("val"))
    shop.start()
    return shop.fit(task, dataset, METRIC, "localizer")


def answer(shop: Workshop, crop: bool = True, select_once: bool = False) -> dict[str, Any]:
    """Forward-chain fine-tuning of the Answerer.

    As published the frozen Localizer chooses among new random frames in every step. With `select_once` it chooses
    once among the evaluation's frames, and the choice is kept in keyframes.jsonl: much faster, less varied.
    """
    from sevila.data.loading import EvaluationFrames, FrameDataset, TrainingFrames
    from sevila.tasks.answer import METRIC, AllFrames, AnswerTask, SelectEachStep

    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    chain, seed = shop.chain, shop.config.seed
    shop.start()
    fixed = shop.keyframes(questions) if select_once else None
    rule = TrainingFrames(chain.source.n, seed, crop)
    if select_once and not crop:
        rule = EvaluationFrames(chain.source.n)
    dataset = FrameDataset(questions, chain.source.videos, chain.source.folder, rule, fixed)
    keyframes = AllFrames() if select_once else SelectEachStep(shop.model, chain.selector)
    return shop.fit(AnswerTask(chain, validation, keyframes), dataset, METRIC, "answerer")


def cli(argv: Sequence[str] | None = None) -> int:
    return main("train", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
