"""python -m sevila.refine +exp=NAME: refine the Localizer on the frozen Answerer's pseudo-labels.

`task.name=windows` takes the questions' true windows in their place, where a data set knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import main
from sevila.errors import UserError

if TYPE_CHECKING:
    from sevila.data.records import Question
    from sevila.fit import Workshop
    from sevila.tasks.refine import PseudoLabels


def run(config: schema.Refine) -> dict[str, Any]:
    """Refine; returns what metrics.json holds."""
    from sevila.fit import workshop

    tasks = {"refine": refine, "windows": windows}
    schema.check_named("task", config.task, tasks, "shop")  # before the model is loaded
    with workshop(config) as shop:
        return schema.named("task", config.task, tasks, shop=shop)


def refine(shop: Workshop, frames: int = 4, crop: bool = True, orders: int = 1) -> dict[str, Any]:
    """Reverse-chain refinement, `frames` of the labelled frames of a question in each epoch.

    `orders`: in how many orders of the options the Answerer must be right (the paper: one).
    """
    from sevila.tasks.chain import need_answers

    shop.check_frames(frames)
    if orders < 1:
        raise UserError(f"task.orders={orders}: must be at least 1 (the order of the file, as in the paper)")
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    need_answers(questions)
    _check(shop, validation)
    shop.start()
    return _fit(shop, questions, shop.pseudo_labels(questions, orders), validation, frames, crop)


def windows(shop: Workshop, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """The same training on true labels: the ceiling of refinement."""
    from sevila.tasks.windows import window_labels

    shop.check_frames(frames)
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    _check(shop, validation)
    labels = window_labels(shop.chain.source, questions)
    shop.start()
    return _fit(shop, questions, labels, validation, frames, crop)


def _check(shop: Workshop, validation: Sequence[Question]) -> None:
    """UserError where the validation could not tell one Localizer from another."""
    from sevila.selection.scorers import JointLocalizerScorer, LocalizerScorer
    from sevila.tasks.chain import need_an_answer

    need_an_answer(validation)
    selector, scorer = shop.config.selector["name"], shop.config.scorer["name"]
    if not shop.chain.selector.needs_scores:
        raise UserError(f"selector={selector}: does not ask the Localizer that is refined; give selector=topk")
    if not isinstance(shop.chain.scorer, LocalizerScorer | JointLocalizerScorer | None):
        raise UserError(f"scorer={scorer}: is not the Localizer that is refined; give scorer=localizer")


def _fit(
    shop: Workshop,
    questions: Sequence[Question],
    labels: Sequence[PseudoLabels],
    validation: Sequence[Question],
    frames: int,
    crop: bool,
) -> dict[str, Any]:
    from sevila.tasks.refine import METRIC, LabelledFrames, RefineTask, label_metrics

    dataset = shop.dataset(questions, LabelledFrames(frames, shop.config.seed, crop, labels=labels))
    task = RefineTask(shop.chain, validation, labels)
    return shop.fit(task, dataset, METRIC, "localizer", label_metrics(labels, questions))


def cli(argv: Sequence[str] | None = None) -> int:
    return main("refine", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
