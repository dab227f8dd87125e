"""python -m sevila.refine +exp=NAME: refine the Localizer on the frozen Answerer's pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import main

if TYPE_CHECKING:
    from sevila.fit import Workshop


def run(config: schema.Refine) -> dict[str, Any]:
    """Refine; returns what metrics.json holds."""
    from sevila.fit import workshop

    return schema.named("task", config.task, {"refine": refine}, shop=workshop(config))


def refine(shop: Workshop, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """Reverse-chain refinement, `frames` of the labelled frames of a question in each epoch."""
    from sevila.data.loading import FrameDataset
    from sevila.tasks.refine import METRIC, LabelledFrames, RefineTask, label_metrics

    shop.check_frames(frames)
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    source = shop.chain.source
    shop.start()
    labels = shop.pseudo_labels(questions)
    rule = LabelledFrames(frames, shop.config.seed, crop, labels=labels)
    dataset = FrameDataset(questions, source.videos, source.folder, rule)
    task = RefineTask(shop.chain, validation, labels)
    return shop.fit(task, dataset, METRIC, "localizer", label_metrics(labels, questions))


def cli(argv: Sequence[str] | None = None) -> int:
    return main("refine", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
