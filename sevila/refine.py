"""python -m sevila.refine +exp=NAME: refine the Localizer on the frozen Answerer's pseudo-labels.

`task.name=windows` takes the questions' true windows in their place, where a data set knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import main
from sevila.errors import UserError

if TYPE_CHECKING:
    from sevila.data.records import Question
    from sevila.data.sampling import TrainingFrames
    from sevila.fit import Workshop
    from sevila.tasks.refine import FrameLabels, PseudoLabels

    Labelling = tuple[TrainingFrames, FrameLabels, dict[str, float]]  # which frames, their labels, numbers about these


def run(config: schema.Refine) -> dict[str, Any]:
    """Refine; returns what metrics.json holds."""
    from sevila.fit import workshop

    tasks = {"refine": refine, "windows": windows}
    schema.check_named("task", config.task, tasks, "shop")  # before the model is loaded
    with workshop(config) as shop:
        return schema.named("task", config.task, tasks, shop=shop)


def refine(
    shop: Workshop, frames: int = 4, crop: bool = True, orders: int = 1, frames_from: str = "video"
) -> dict[str, Any]:
    """Reverse-chain refinement, on `frames` labelled frames of a question in each epoch.

    orders        in how many orders of the options the Answerer must be right (the paper: one)
    frames_from   video: random frames of the whole video, labelled in each step, as published; midpoints: the frames
                  that an evaluation takes, labelled once, of which each epoch draws some (this project's)
    """
    from sevila.tasks.chain import need_answers

    shop.check_frames(frames)
    if frames_from not in FRAMES_FROM:
        close = schema.suggest(frames_from, FRAMES_FROM)
        raise UserError(f"task.frames_from={frames_from}: unknown{close}; choose from: {', '.join(FRAMES_FROM)}")
    if orders < 1:
        raise UserError(f"task.orders={orders}: must be at least 1 (the order of the file, as in the paper)")
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    need_answers(questions)
    metric = _check(shop, validation)
    shop.start()
    labelling = FRAMES_FROM[frames_from](shop, questions, frames, crop, orders)
    return _fit(shop, questions, labelling, validation, metric)


def _video(shop: Workshop, questions: Sequence[Question], frames: int, crop: bool, orders: int) -> Labelling:
    from sevila.data.sampling import TrainingFrames
    from sevila.tasks.refine import LabelEachStep

    return TrainingFrames(frames, shop.config.seed, crop), LabelEachStep(shop.model, orders), {}


def _midpoints(shop: Workshop, questions: Sequence[Question], frames: int, crop: bool, orders: int) -> Labelling:
    return _labelled_before(shop, questions, shop.pseudo_labels(questions, orders), frames, crop)


FRAMES_FROM: dict[str, Callable[..., Labelling]] = {"video": _video, "midpoints": _midpoints}


def windows(shop: Workshop, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """The same training on true labels: the ceiling of refinement."""
    from sevila.tasks.windows import window_labels

    shop.check_frames(frames)
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    metric = _check(shop, validation)
    labels = window_labels(shop.chain.source, questions)
    shop.start()
    return _fit(shop, questions, _labelled_before(shop, questions, labels, frames, crop), validation, metric)


def _labelled_before(
    shop: Workshop, questions: Sequence[Question], labels: Sequence[PseudoLabels], frames: int, crop: bool
) -> Labelling:
    from sevila.tasks.refine import LabelledBefore, LabelledFrames, label_metrics

    rule = LabelledFrames(frames, shop.config.seed, crop, labels=labels)
    return rule, LabelledBefore(labels), label_metrics(labels, questions)


def _check(shop: Workshop, validation: Sequence[Question]) -> str:
    """The metric that picks the best head. UserError where the validation could not tell one Localizer from another."""
    from sevila.selection.scorers import LocalizerScorer
    from sevila.tasks.benchmark_metrics import metric_names
    from sevila.tasks.chain import need_an_answer

    need_an_answer(validation)
    selector, scorer = shop.config.selector["name"], shop.config.scorer["name"]
    if not shop.chain.selector.needs_scores:
        raise UserError(f"selector={selector}: does not ask the Localizer that is refined; give selector=topk")
    if not isinstance(shop.chain.scorer, LocalizerScorer | None):
        raise UserError(f"scorer={scorer}: is not the Localizer that is refined; give scorer=localizer")
    return shop.metric(metric_names(shop.data.name, validation))


def _fit(
    shop: Workshop, questions: Sequence[Question], labelling: Labelling, validation: Sequence[Question], metric: str
) -> dict[str, Any]:
    from sevila.tasks.refine import RefineTask

    rule, labels, numbers = labelling
    task = RefineTask(shop.chain, validation, labels, shop.data.name)
    return shop.fit(task, shop.dataset(questions, rule), metric, "localizer", numbers)


def cli(argv: Sequence[str] | None = None) -> int:
    return main("refine", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
