"""python -m sevila.train +exp=NAME: train the Localizer on moments, the Answerer on keyframes, or a selector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import main
from sevila.errors import UserError

if TYPE_CHECKING:
    from sevila.fit import Workshop


def run(config: schema.Train) -> dict[str, Any]:
    """Train; returns what metrics.json holds."""
    from sevila.fit import workshop

    tasks = {"pretrain": pretrain, "answer": answer, "vote": vote, "select": select}
    schema.check_named("task", config.task, tasks, "shop")  # before the model is loaded
    with workshop(config) as shop:
        return schema.named("task", config.task, tasks, shop=shop)


def pretrain(shop: Workshop, frames: int = 4, crop: bool = True) -> dict[str, Any]:
    """Localizer pre-training on moment queries, `frames` random frames each."""
    from sevila.data.sampling import TrainingFrames
    from sevila.tasks.pretrain import METRICS, PretrainTask, need_windows

    shop.check_frames(frames)
    metric = shop.metric(METRICS)
    moments, validation = shop.data.moments("train"), shop.data.moments("val")
    need_windows(moments, validation)
    dataset = shop.dataset(moments, TrainingFrames(frames, shop.config.seed, crop))
    task = PretrainTask(shop.model, shop.chain.source, validation)
    shop.start()
    return shop.fit(task, dataset, metric, "localizer")


def answer(shop: Workshop, crop: bool = True, select_once: bool = False) -> dict[str, Any]:
    """Forward-chain fine-tuning of the Answerer.

    As published the frozen Localizer chooses among new random frames in every step. With `select_once` it chooses
    once among the evaluation's frames, and the choice is kept in keyframes.jsonl: much faster, less varied.
    """
    from sevila.data.sampling import EvaluationFrames, TrainingFrames
    from sevila.selection.scorers import LocalizerScorer
    from sevila.tasks.answer import AllFrames, AnswerTask, SelectEachStep
    from sevila.tasks.answering import Voting
    from sevila.tasks.benchmark_metrics import metric_names
    from sevila.tasks.chain import need_an_answer, need_answers

    chain, seed = shop.chain, shop.config.seed
    if not select_once and not isinstance(chain.scorer, LocalizerScorer | None):
        raise UserError(f"scorer={shop.config.scorer['name']}: chooses from whole videos; give +task.select_once=true")
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    need_answers(questions)
    need_an_answer(validation)
    metric = shop.metric(metric_names(shop.data.name, validation, isinstance(chain.answering, Voting)))
    shop.start()
    fixed = shop.keyframes(questions) if select_once else None
    rule = TrainingFrames(chain.source.n, seed, crop)
    if select_once and not crop:
        rule = EvaluationFrames(chain.source.n)
    dataset = shop.dataset(questions, rule, fixed)
    keyframes = AllFrames() if select_once else SelectEachStep(shop.model, chain.selector, chain.scorer)
    return shop.fit(AnswerTask(chain, validation, keyframes, shop.data.name), dataset, metric, "answerer")


def vote(shop: Workshop, crop: bool = True, select_once: bool = False) -> dict[str, Any]:
    """Fine-tuning for the baseline "voting": the Answerer learns from every keyframe alone."""
    from sevila.tasks.answering import Voting

    return answer(replace(shop, chain=replace(shop.chain, answering=Voting())), crop, select_once)


def select(shop: Workshop, network: dict[str, Any], crop: bool = True, entropy: float = 0.0) -> dict[str, Any]:
    """Training of a selector by the answers of the frozen Answerer (ATP, differentiable top-K: the paper's table 6).

    network   `atp` or `perturbed` and its sizes
    entropy   weight of the scores' entropy in the loss (Cordonnier et al. 2021: 0.05)
    """
    from sevila.data.sampling import TrainingFrames
    from sevila.selection.trained import ROLE, new_network
    from sevila.tasks.benchmark_metrics import metric_names
    from sevila.tasks.chain import need_an_answer, need_answers
    from sevila.tasks.trained_selector import TrainedSelectorTask

    if entropy < 0:
        raise UserError(f"task.entropy={entropy}: must be at least 0 (no entropy in the loss)")
    trained = new_network(network, shop.model.backbone, shop.config.seed)
    questions, validation = shop.data.questions("train"), shop.data.questions("val")
    need_answers(questions)
    need_an_answer(validation)
    metric = shop.metric(metric_names(shop.data.name, validation))
    task = TrainedSelectorTask(shop.chain, validation, trained, shop.data.name, entropy)
    dataset = shop.dataset(questions, TrainingFrames(shop.chain.source.n, shop.config.seed, crop))
    shop.start()
    return shop.fit(task, dataset, metric, ROLE)


def cli(argv: Sequence[str] | None = None) -> int:
    return main("train", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
