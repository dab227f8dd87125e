"""python -m sevila.refine +exp=NAME: refine the Localizer on the frozen Answerer's pseudo-labels.

`task.name=windows` takes the questions' true windows in their place, where a data set knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import loading
from sevila.errors import UserError, suggest
from sevila.hydra_main import main

if TYPE_CHECKING:
    from sevila.data.records import Question
    from sevila.data.sampling import TrainingFrames
    from sevila.fit import TrainingRun
    from sevila.tasks.refine import FrameLabels, PseudoLabels

    Labelling = tuple[TrainingFrames, FrameLabels, dict[str, float]]  # which frames, their labels, numbers about these

FRAMES_FROM = ("video", "midpoints")


def run(config: schema.Refine) -> dict[str, Any]:
    """Refine; returns what metrics.json holds."""
    with loading("PyTorch and transformers"):
        from sevila.fit import training_run

    tasks: dict[str, Callable[..., dict[str, Any]]] = {"refine": refine, "windows": windows}
    schema.check_named("task", config.task, tasks, "training")  # before the model is loaded
    with training_run(config) as training:
        return schema.named("task", config.task, tasks, training=training)


def refine(
    training: TrainingRun, frames: int = 4, crop: bool = True, orders: int = 1, frames_from: str = "video"
) -> dict[str, Any]:
    """Reverse-chain refinement (paper, section 3.3), on `frames` labelled frames of a question in each epoch.

    orders        in how many orders of the options the Answerer must be right (the paper: one)
    frames_from   video: random frames of the whole video, labelled in each step, as published; midpoints: the frames
                  that an evaluation takes, labelled once, of which each epoch draws some (this project's)
    """
    from sevila.data.sampling import TrainingFrames
    from sevila.tasks.chain import need_answers
    from sevila.tasks.refine import LabelEachStep

    # check
    training.check_frames(frames)
    if frames_from not in FRAMES_FROM:
        close = suggest(frames_from, FRAMES_FROM)
        raise UserError(f"task.frames_from={frames_from}: unknown{close}; choose from: {', '.join(FRAMES_FROM)}")
    if orders < 1:
        raise UserError(f"task.orders={orders}: must be at least 1 (the order of the file, as in the paper)")
    # data
    questions, validation = training.data.questions("train"), training.data.questions("val")
    need_answers(questions)
    metric = _metric(training, validation)
    training.start()
    # pseudo-labels: the frozen Answerer answers from each frame alone; a frame that it gets right is a "yes"
    labelling: Labelling
    if frames_from == "video":
        labelling = TrainingFrames(frames, training.config.seed, crop), LabelEachStep(training.model, orders), {}
    else:
        labelling = _labelled_before(training, questions, training.pseudo_labels(questions, orders), frames, crop)
    return _fit(training, questions, labelling, validation, metric)


def windows(training: TrainingRun, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """The same training on true labels: the ceiling of refinement."""
    from sevila.tasks.refine import window_labels

    training.check_frames(frames)
    questions, validation = training.data.questions("train"), training.data.questions("val")
    metric = _metric(training, validation)
    labels = window_labels(training.chain.source, questions)
    training.start()
    labelling = _labelled_before(training, questions, labels, frames, crop)
    return _fit(training, questions, labelling, validation, metric)


def _metric(training: TrainingRun, validation: Sequence[Question]) -> str:
    """The metric that picks the best head. UserError where the validation could not tell one Localizer from another."""
    from sevila.selection.scorers import LocalizerScorer
    from sevila.tasks.chain import need_an_answer
    from sevila.tasks.evaluation import metric_names

    need_an_answer(validation)
    selector, scorer = training.config.selector["name"], training.config.scorer["name"]
    if not training.chain.selector.needs_scores:
        raise UserError(f"selector={selector}: does not ask the Localizer that is refined; give selector=topk")
    if not isinstance(training.chain.scorer, LocalizerScorer | None):
        raise UserError(f"scorer={scorer}: is not the Localizer that is refined; give scorer=localizer")
    return training.metric(metric_names(training.data.name, validation))


def _labelled_before(
    training: TrainingRun, questions: Sequence[Question], labels: Sequence[PseudoLabels], frames: int, crop: bool
) -> Labelling:
    from sevila.tasks.refine import LabelledBefore, LabelledFrames, label_metrics

    rule = LabelledFrames(frames, training.config.seed, crop, labels=labels)
    return rule, LabelledBefore(labels), label_metrics(labels, questions)


def _fit(
    training: TrainingRun,
    questions: Sequence[Question],
    labelling: Labelling,
    validation: Sequence[Question],
    metric: str,
) -> dict[str, Any]:
    """Task, then train and write: the Localizer's loss on the labels, the forward chain as its validation."""
    from sevila.tasks.refine import RefineTask

    rule, labels, numbers = labelling
    task = RefineTask(training.chain, validation, labels, training.data.name)
    return training.fit(task, training.dataset(questions, rule), metric, "localizer", numbers)


def cli(argv: Sequence[str] | None = None) -> int:
    return main("refine", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
