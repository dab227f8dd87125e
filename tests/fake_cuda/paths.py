"""The paths: each prepares its model, then does with the meter on what is to be counted.

A training is the library's own loop over two steps; the second one counts, with its loss, gradient, AdamW and log.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from fake_cuda.ledger import Ledger
from fake_cuda.scene import Scene
from sevila.benchmarks.spans import BinarySpans
from sevila.checkpoints.architecture import TINY
from sevila.checkpoints.heads import save_head
from sevila.data.dataset import FrameDataset, VideoSource, patches_of
from sevila.data.folders import AnyFile
from sevila.data.loading import stream
from sevila.data.sampling import EvaluationFrames, FrameRule, TrainingFrames
from sevila.data.store import Store
from sevila.fit import Batches
from sevila.model.language import Compared, Direct, Official
from sevila.model.sevila import SeViLA
from sevila.selection import AdaptiveSplit, InverseTransform, JointLocalizerScorer, LocalizerTopK, Selector
from sevila.selection.trained import new_network
from sevila.tasks.answer import AllFrames, AnswerTask, SelectEachStep
from sevila.tasks.chain import ForwardChain, Voting
from sevila.tasks.evaluation import retrieve
from sevila.tasks.pretrain import PretrainTask
from sevila.tasks.refine import LabelEachStep, RefineTask, make_pseudo_labels
from sevila.tasks.trained_selector import TrainedSelectorTask
from sevila.training import checkpoint
from sevila.training.loop import train
from sevila.training.optim import CosineSteps, TrainOptions, adamw

FRAMES, KEYFRAMES, QUESTIONS = 32, 4, 9  # as published; nine questions a video
BATCH, TRAINING_FRAMES = 8, 4  # of a micro-batch; of a row of pre-training and refinement
LAST = 2  # the step that is counted


@dataclass
class Meter:
    """`with meter:` counts what is done inside; `start` and `stop` for where there is no block."""

    ledger: Ledger
    counts: dict[str, Any] | None = None

    def start(self) -> None:
        self.counts = None
        self.ledger.start()

    def stop(self) -> None:
        if self.counts is None:
            self.counts = self.ledger.counts()

    def __enter__(self) -> Meter:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()


def source(scene: Scene, model: SeViLA, frames: int = FRAMES, store: Store | None = None) -> VideoSource:
    return VideoSource(scene.videos(model), AnyFile(), frames, store=store, pin=True)


def chain(scene: Scene, model: SeViLA, selector: Selector | None = None, **options: Any) -> ForwardChain:
    return ForwardChain(model, selector or LocalizerTopK(KEYFRAMES), source(scene, model), **options)


def trained(scene: Scene, meter: Meter, task: Any, dataset: FrameDataset, metric: str = "accuracy") -> None:
    """A run of two optimiser steps, as `sevila.fit` makes it but for its files; counts the second.

    The first has one row. Evaluations and checkpoints are left out: other paths count those.
    """
    task.head.requires_grad_(True)
    accelerator = scene.accelerator
    config: Any = SimpleNamespace(
        seed=0, frames=SimpleNamespace(workers=0), trainer=SimpleNamespace(batch_size=len(dataset))
    )
    batches = Batches(dataset, config, accelerator)
    first = copy.copy(dataset)
    first.records = dataset.records[-1:]

    def loader(epoch: int, skip: int) -> Any:
        if epoch < LAST - 1:
            return Batches(first, config, accelerator)(epoch, skip)
        meter.start()
        return batches(epoch, skip)

    def log(record: dict[str, Any]) -> None:
        if record["step"] == LAST:
            meter.stop()

    options = TrainOptions(CosineSteps(1e-5, LAST), LAST, metric, eval_every=LAST, log_every=1)
    task.evaluate = lambda: {metric: 0.0}
    with mock.patch.object(checkpoint, "save"), mock.patch.object(checkpoint, "tidy"):
        train(task, loader, batches.count, options, scene.folder / "run", log, accelerator=accelerator)


# -- answers ---


def answer_direct(scene: Scene, meter: Meter, number: int = QUESTIONS) -> None:
    _answer(scene, meter, scene.model(), number)


def answer_official(scene: Scene, meter: Meter) -> None:
    model = scene.model()
    model.answerer.decoding = Official()
    _answer(scene, meter, model)


def answer_compared(scene: Scene, meter: Meter) -> None:
    model = scene.model()
    model.answerer.decoding = Compared(Direct(), Official())
    _answer(scene, meter, model)


def answer_voting(scene: Scene, meter: Meter) -> None:
    """Three questions: each keyframe is answered from alone."""
    _answer(scene, meter, scene.model(), 3, answering=Voting())


def joint_scorer(scene: Scene, meter: Meter) -> None:
    model = scene.model()
    _answer(scene, meter, model, scorer=JointLocalizerScorer(model))


def selectors(scene: Scene, meter: Meter) -> None:
    """The others that go by scores; a question each."""
    model = scene.model()
    with meter:
        for selector in (AdaptiveSplit(KEYFRAMES), InverseTransform(KEYFRAMES)):
            chain(scene, model, selector).predict(scene.questions(1))


def _answer(scene: Scene, meter: Meter, model: SeViLA, number: int = QUESTIONS, **options: Any) -> None:
    """Questions about a video."""
    work, questions = chain(scene, model, **options), scene.questions(number)
    with meter:
        work.predict(questions)


# -- labels and moments ---


def labels(scene: Scene, meter: Meter, number: int = QUESTIONS, orders: int = 1) -> None:
    """Pseudo-labels of a video's frames for nine questions."""
    model = scene.model()
    with meter:
        make_pseudo_labels(model, source(scene, model), scene.questions(number), orders)


def labels_three_orders(scene: Scene, meter: Meter) -> None:
    """... for three questions, the options turned round twice."""
    labels(scene, meter, 3, orders=3)


def moments(scene: Scene, meter: Meter) -> None:
    """The windows of a query."""
    model = scene.model()
    with meter:
        retrieve(model, source(scene, model), scene.moments(2)[:1], BinarySpans())


# -- trainings ---


def pretrain(scene: Scene, meter: Meter, batch: int = BATCH, checkpointing: bool = False) -> None:
    model, records = scene.model(checkpointing), scene.moments(batch)
    frames = source(scene, model)
    task = PretrainTask(model, frames, records[:1])
    trained(scene, meter, task, frames.dataset(records, TrainingFrames(TRAINING_FRAMES, 0)), "frame_accuracy")


def pretrain_evaluation(scene: Scene, meter: Meter) -> None:
    model = scene.model()
    task = PretrainTask(model, source(scene, model), scene.moments(2)[:1])
    with meter, torch.no_grad():
        task.evaluate()


def forward(scene: Scene, meter: Meter, batch: int = BATCH, checkpointing: bool = False, **options: Any) -> None:
    """As published: the frozen Localizer chooses 4 of 32 random frames in every step."""
    model = scene.model(checkpointing)
    work = chain(scene, model, **options)
    _forward(scene, meter, work, SelectEachStep(model, work.selector), TrainingFrames(FRAMES, 0), batch)


def forward_voting(scene: Scene, meter: Meter) -> None:
    forward(scene, meter, answering=Voting())


def forward_all_frames(scene: Scene, meter: Meter) -> None:
    """The keyframes were chosen before."""
    _forward(scene, meter, chain(scene, scene.model()), AllFrames(), TrainingFrames(KEYFRAMES, 0))


def _forward(
    scene: Scene, meter: Meter, work: ForwardChain, keyframes: Any, rule: FrameRule, batch: int = BATCH
) -> None:
    records = scene.rows(batch)
    task = AnswerTask(work, records[:1], keyframes)
    trained(scene, meter, task, work.source.dataset(records, rule))


def refine(scene: Scene, meter: Meter, batch: int = BATCH, checkpointing: bool = False) -> None:
    """As published: the frozen Answerer labels 4 random frames in every step."""
    model, records = scene.model(checkpointing), scene.rows(batch)
    work = chain(scene, model)
    task = RefineTask(work, records[:1], LabelEachStep(model))
    trained(scene, meter, task, work.source.dataset(records, TrainingFrames(TRAINING_FRAMES, 0)))


def atp(scene: Scene, meter: Meter) -> None:
    _selector(scene, meter, "atp")


def perturbed(scene: Scene, meter: Meter) -> None:
    _selector(scene, meter, "perturbed")


def _selector(scene: Scene, meter: Meter, name: str) -> None:
    model, records = scene.model(), scene.rows(BATCH)
    work = chain(scene, model)
    task = TrainedSelectorTask(work, records[:1], new_network({"name": name}, model.backbone, 0))
    trained(scene, meter, task, work.source.dataset(records, TrainingFrames(2 * KEYFRAMES, 0)))


def checkpointing(scene: Scene, meter: Meter) -> None:
    """Pre-training that keeps less."""
    pretrain(scene, meter, checkpointing=True)


# -- files ---


def loading(scene: Scene, meter: Meter) -> None:
    """A model with its two heads, and what it leaves on the device."""
    with meter:
        kept = scene.model()
    assert kept.backbone.device.type == "cuda"


def store(scene: Scene, meter: Meter) -> None:
    """A video's patches into the store, back out of it, and a batch of which it has a part."""
    model, questions = scene.model(), scene.rows(2)
    kept = Store(scene.folder / "store", {"tower": "of no weights"}, model.backbone.dtype)
    frames = source(scene, model, 2 * KEYFRAMES, kept)
    with meter:
        for _ in range(2):
            for _, sample in frames.walk(questions):
                patches_of(model.backbone, sample)
        partly = frames.dataset(questions, EvaluationFrames(2 * KEYFRAMES + 1))
        for batch in stream(partly, 0, [[(0, row) for row in range(len(partly))]]):
            patches_of(model.backbone, batch)


def saving(scene: Scene, meter: Meter) -> None:
    """A checkpoint and a head's file, of the tiny model: real files, whatever the size."""
    small = Scene(scene.gpu, scene.folder, TINY)
    model = small.model()
    head = model.localizer.head.requires_grad_(True)
    optimizer = adamw(head)
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    snapshot = checkpoint.Snapshot(checkpoint.TrainState(1), {}, optimizer.state_dict()["state"], [])
    with meter:
        checkpoint.save(scene.folder / "checkpoints", head, snapshot)
        save_head(scene.folder / "localizer.safetensors", head, model.backbone, "localizer")


Path = Callable[[Scene, Meter], None]
PATHS: dict[str, Path] = {
    path.__name__: path
    for path in (
        *(answer_direct, answer_official, answer_compared, answer_voting, joint_scorer, selectors),
        *(labels, labels_three_orders, moments),
        *(pretrain, pretrain_evaluation, forward, forward_voting, forward_all_frames, refine),
        *(atp, perturbed, checkpointing, loading, store, saving),
    )
}
