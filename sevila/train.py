"""python -m sevila.train +exp=NAME: train the Localizer on moments, the Answerer on keyframes, or a selector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import loading
from sevila.errors import UserError
from sevila.hydra_main import main

if TYPE_CHECKING:
    from sevila.data.records import Question
    from sevila.fit import TrainingRun
    from sevila.tasks.answer import Keyframes

Trains = Callable[..., dict[str, Any]]  # a training run and the keys of `task` in, what metrics.json holds out


def run(config: schema.Train) -> dict[str, Any]:
    """Train; returns what metrics.json holds."""
    with loading("PyTorch and transformers"):
        from sevila.fit import training_run

    tasks: dict[str, Trains] = {"pretrain": pretrain, "answer": answer, "vote": vote, "select": select}
    schema.check_named("task", config.task, tasks, "training")  # before the model is loaded
    with training_run(config) as training:
        return schema.named("task", config.task, tasks, training=training)


def pretrain(training: TrainingRun, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """Localizer pre-training on moment queries, `frames` random frames each (paper, section 3.3)."""
    from sevila.data.sampling import TrainingFrames
    from sevila.tasks.pretrain import METRICS, PretrainTask, need_windows

    # check
    training.check_frames(frames)
    metric = training.metric(METRICS)
    # data
    moments, validation = training.data.moments("train"), training.data.moments("val")
    need_windows(moments, validation)
    dataset = training.dataset(moments, TrainingFrames(frames, training.config.seed, crop))
    # task
    task = PretrainTask(training.model, training.chain.source, validation)
    # train and write
    training.start()
    return training.fit(task, dataset, metric, "localizer")


def answer(training: TrainingRun, crop: bool = True, select_once: bool = False) -> dict[str, Any]:
    """Forward-chain fine-tuning of the Answerer (paper, section 3.3).

    As published the frozen Localizer chooses among new random frames in every step. With `select_once` it chooses
    once among the evaluation's frames, and the choice is kept in keyframes.jsonl: much faster, less varied.
    """
    from sevila.data.sampling import EvaluationFrames, TrainingFrames
    from sevila.tasks.answer import AllFrames, AnswerTask
    from sevila.tasks.chain import Voting
    from sevila.tasks.evaluation import metric_names

    # check
    chain, config = training.chain, training.config
    keyframes: Keyframes = AllFrames() if select_once else _each_step(training)
    # data
    questions, validation = _questions(training)
    metric = training.metric(metric_names(training.data.name, validation, isinstance(chain.answering, Voting)))
    training.start()
    # frames: random ones of each segment, or those chosen once
    fixed = training.keyframes(questions) if select_once else None
    whole = EvaluationFrames(chain.source.n_frames) if select_once and not crop else None
    dataset = training.dataset(questions, whole or TrainingFrames(chain.source.n_frames, config.seed, crop), fixed)
    # task: cross-entropy on "Option X" from the keyframes
    task = AnswerTask(chain, validation, keyframes, training.data.name)
    # train and write
    return training.fit(task, dataset, metric, "answerer")


def _each_step(training: TrainingRun) -> Keyframes:
    """The selection of every step. UserError for a scorer that needs more than a step's random frames."""
    from sevila.selection.scorers import LocalizerScorer
    from sevila.tasks.answer import SelectEachStep

    scorer = training.chain.scorer
    if not isinstance(scorer, LocalizerScorer | None):
        name = training.config.scorer["name"]
        raise UserError(f"scorer={name}: chooses from whole videos; give +task.select_once=true")
    return SelectEachStep(training.model, training.chain.selector, scorer)


def vote(training: TrainingRun, crop: bool = True, select_once: bool = False) -> dict[str, Any]:
    """Fine-tuning for the baseline "voting": the Answerer learns from every keyframe alone."""
    from sevila.tasks.chain import Voting

    return answer(replace(training, chain=replace(training.chain, answering=Voting())), crop, select_once)


def select(training: TrainingRun, network: dict[str, Any], crop: bool = True, entropy: float = 0.0) -> dict[str, Any]:
    """Training of a selector by the answers of the frozen Answerer (ATP, differentiable top-K: the paper's table 6).

    network   `atp` or `perturbed` and its sizes
    entropy   weight of the scores' entropy in the loss (Cordonnier et al. 2021: 0.05)
    """
    from sevila.data.sampling import TrainingFrames
    from sevila.selection.trained import ROLE, new_network
    from sevila.tasks.evaluation import metric_names
    from sevila.tasks.trained_selector import TrainedSelectorTask

    # check
    if entropy < 0:
        raise UserError(f"task.entropy={entropy}: must be at least 0 (no entropy in the loss)")
    config, chain = training.config, training.chain
    trained = new_network(network, training.model.backbone, config.seed)
    # data
    questions, validation = _questions(training)
    metric = training.metric(metric_names(training.data.name, validation))
    dataset = training.dataset(questions, TrainingFrames(chain.source.n_frames, config.seed, crop))
    # task
    task = TrainedSelectorTask(chain, validation, trained, training.data.name, entropy)
    # train and write
    training.start()
    return training.fit(task, dataset, metric, ROLE)


def _questions(training: TrainingRun) -> tuple[list[Question], list[Question]]:
    """The training and validation questions. UserError where their answers are hidden."""
    from sevila.tasks.chain import need_an_answer, need_answers

    questions, validation = training.data.questions("train"), training.data.questions("val")
    need_answers(questions)
    need_an_answer(validation)
    return questions, validation


def cli(argv: Sequence[str] | None = None) -> int:
    return main("train", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
