"""Patches out of the store are those of the tower, in every task, to the bit where the processor multiplies so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sevila.benchmarks.spans import BinarySpans
from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import GROUP, Batch, VideoSource, _encoded, collate, patches_of
from sevila.data.sampling import EvaluationFrames, FrameRule, RecurringFrames, TrainingFrames
from sevila.data.store import Store
from sevila.data.video import CachedVideos, VideoReader
from sevila.model.backbone import Backbone
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection.rules import LocalizerTopK
from sevila.selection.scorers import CLIPScorer, JointLocalizerScorer, LocalizerScorer, LongImageScorer
from sevila.selection.trained import TrainedScorer
from sevila.tasks.answer import AnswerTask, SelectEachStep
from sevila.tasks.chain import ForwardChain
from sevila.tasks.evaluation import retrieve
from sevila.tasks.pretrain import PretrainTask
from sevila.tasks.refine import LabelEachStep, LabelledBefore, LabelledFrames, RefineTask, make_pseudo_labels

N = 6


@pytest.fixture
def make(world: Synthetic, tiny: SeViLA, open_tiny_store: Callable[..., Store]) -> Callable[..., ForwardChain]:
    """make(stored) -> a chain over the small world, with this test's store or none."""

    def chain(stored: bool = True, **options: object) -> ForwardChain:
        videos = CachedVideos(tiny.backbone.image_size, 0)
        store = open_tiny_store(**options) if stored else None
        return ForwardChain(tiny, LocalizerTopK(2), VideoSource(videos, world.folder(), N, store=store))

    return chain


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts frames that were decoded and frames that were encoded."""
    done = {"decoded": 0, "encoded": 0}
    decode, encode = VideoReader.decode, Backbone.encode

    def decoded(self: VideoReader, indices, size: int):
        wanted = list(indices)
        done["decoded"] += len(wanted)
        return decode(self, wanted, size)

    def encoded(self: Backbone, pixels: torch.Tensor):
        done["encoded"] += pixels.flatten(0, -4).shape[0]
        return encode(self, pixels)

    monkeypatch.setattr(VideoReader, "decode", decoded)
    monkeypatch.setattr(Backbone, "encode", encoded)
    return done


@pytest.fixture
def rows_alone(tiny: SeViLA) -> bool:
    """Does this processor multiply a row by a matrix the same to the bit, whatever other rows stand with it?

    Asked of plain products of the tower's sizes. MKL does not in its mode for all processors (MKL_CBWR=COMPATIBLE).
    """
    tokens = tiny.backbone.tower.positions.shape[1]
    for layer in tiny.backbone.vision.modules():
        if isinstance(layer, nn.Linear):
            rows = torch.randn(N * tokens, layer.in_features, generator=torch.Generator().manual_seed(0))
            whole = F.linear(rows, layer.weight)
            for size in (1, 2, 4):
                parts = [F.linear(part, layer.weight) for part in rows.split(size * tokens)]
                if not torch.equal(torch.cat(parts), whole):
                    return False
    return True


def same(found: list[torch.Tensor], wanted: list[torch.Tensor], exact: bool) -> bool:
    """Equal to the bit, or else to float32's last digits; some gradients are nothing but rounding."""
    pairs = list(zip(found, wanted, strict=True))
    if exact:
        return all(torch.equal(a, b) for a, b in pairs)
    rounding = 1e-6 * max(float(b.abs().max()) for b in wanted)
    return all(float((a - b).abs().max()) <= rounding + 2e-4 * float(b.abs().max()) for a, b in pairs)


def spent(work: dict[str, int]) -> tuple[int, int]:
    out = work["decoded"], work["encoded"]
    work.update(decoded=0, encoded=0)
    return out


def test_an_evaluation_with_a_warm_store_decodes_and_encodes_nothing(
    make: Callable[..., ForwardChain], world: Synthetic, work: dict[str, int]
) -> None:
    questions = world.questions("test")[:3] + world.questions("val")[:3]
    videos = len({question.video for question in questions})
    plain = [prediction.to_json() for prediction in make(False).predict(questions)]
    assert spent(work) == (N * videos, N * videos)
    cold = [prediction.to_json() for prediction in make().predict(questions)]
    assert spent(work) == (N * videos, N * videos)
    warm = [prediction.to_json() for prediction in make().predict(questions)]
    assert spent(work) == (0, 0)
    assert plain == cold == warm


def test_moments_are_the_same(make: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA) -> None:
    moments = world.moments("val")
    found = [retrieve(tiny, make(stored).source, moments, BinarySpans()) for stored in (False, True, True)]
    assert found[0] == found[1] == found[2]


def test_a_scorer_of_pictures_gets_them(
    make: Callable[..., ForwardChain], world: Synthetic, work: dict[str, int]
) -> None:
    class Brightness:
        needs_pictures = True

        def score(self, encoded: EncodedVideo, questions: list, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.float().mean((1, 2, 3)).expand(len(questions), -1)

    def chosen(stored: bool) -> list[tuple]:
        chain = make(stored)
        chain = replace(chain, scorer=Brightness(), source=replace(chain.source, pictures=True))
        return [(p.option_logits, p.keyframes, p.frames) for p in chain.predict(world.questions("val")[:2])]

    plain, _ = chosen(False), chosen(True)
    spent(work)
    assert chosen(True) == plain and spent(work) == (N, 0)


@pytest.mark.parametrize("scorer", [LocalizerScorer, JointLocalizerScorer, LongImageScorer, CLIPScorer, TrainedScorer])
def test_scorers_say_what_they_look_at(scorer: type) -> None:
    assert scorer.needs_pictures == (scorer is CLIPScorer)


def outcome(task: object, batches: list[Batch]) -> list[torch.Tensor]:
    """Losses and gradients of a task's head on batches, in order."""
    task.model.requires_grad_(False)
    task.head.requires_grad_(True)
    out = []
    try:
        for batch in batches:
            loss, _ = task.loss(batch)
            loss.backward()
            out += [loss.detach(), *(p.grad.clone() for p in task.head.parameters() if p.grad is not None)]
            task.model.zero_grad(set_to_none=True)
    finally:
        task.model.requires_grad_(False)
    return out


def epochs(source: VideoSource, records: list, rule: FrameRule, number: int = 2) -> Iterator[Batch]:
    for epoch in range(number):
        dataset = source.dataset(records, rule)
        yield collate([dataset[epoch, index] for index in range(len(records))])


def tasks() -> list[str]:
    return ["pretrain", "answer", "refine", "refine in the step"]


@pytest.mark.parametrize("name", tasks())
def test_training_is_the_same_to_the_bit(
    name: str,
    make: Callable[..., ForwardChain],
    world: Synthetic,
    tiny: SeViLA,
    work: dict[str, int],
    rows_alone: bool,
) -> None:
    questions, moments = world.questions("val")[:3], world.moments("val")[:3]
    labels = make_pseudo_labels(tiny, make(False).source, questions)
    rules = {
        "pretrain": RecurringFrames(TrainingFrames(3, seed=1), 1),
        "answer": EvaluationFrames(N),
        "refine": LabelledFrames(3, 0, crop=False, labels=labels),
        "refine in the step": RecurringFrames(TrainingFrames(3, seed=1), 1),
    }

    def run(stored: bool) -> list[torch.Tensor]:
        chain = make(stored)
        task = {
            "pretrain": lambda: PretrainTask(tiny, chain.source, moments),
            "answer": lambda: AnswerTask(chain, questions, SelectEachStep(tiny, chain.selector)),
            "refine": lambda: RefineTask(chain, questions, LabelledBefore(labels)),
            "refine in the step": lambda: RefineTask(chain, questions, LabelEachStep(tiny)),
        }[name]()
        records = moments if name == "pretrain" else questions
        losses = []
        for batch in epochs(chain.source, records, rules[name]):  # the second is loaded after the first was encoded
            losses += outcome(task, [batch])
        if stored:
            chain.source.store.flush()
        return losses

    spent(work)
    plain = run(False)
    assert min(spent(work)) >= 12
    cold = run(True)
    spent(work)
    warm = run(True)
    assert spent(work) == (0, 0)
    assert len(plain) > 20
    assert same(cold, plain, rows_alone) and same(warm, plain, rows_alone)


def test_a_second_epoch_decodes_nothing(
    make: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA, work: dict[str, int]
) -> None:
    chain, questions = make(), world.questions("val")
    batches = epochs(chain.source, questions, EvaluationFrames(N), 3)
    seen = []
    for batch in batches:
        patches_of(tiny.backbone, batch)
        seen.append(spent(work))
    assert min(seen[0]) > 0 and seen[1:] == [(0, 0), (0, 0)]


def test_a_frame_is_the_same_in_any_company(
    make: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA, rows_alone: bool
) -> None:
    """What a CPU gives must not depend on which frames happen to be missing together."""
    ((_, sample),) = make(False).source.walk(world.questions("val")[:1])
    whole = tiny.backbone.encode(sample.pixels)
    for size in (1, 2, 4):
        parts = [tiny.backbone.encode(part) for part in sample.pixels.split(size)]
        assert same([torch.cat(parts)], [whole], rows_alone)


def test_a_gpu_always_sees_batches_of_one_shape() -> None:
    shapes = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(pixels.shape))
        return pixels.mean((-2, -1))[..., None]

    backbone = SimpleNamespace(device=torch.device("cuda"), encode=encode)
    pixels = torch.randn(GROUP + 3, 3, 4, 4)
    assert torch.equal(_encoded(backbone, pixels), encode(pixels))
    assert shapes[:2] == [(GROUP, 3, 4, 4)] * 2


def test_bf16_at_rest_is_the_same_cold_and_warm(
    make: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA
) -> None:
    questions = world.questions("val")[:2]
    exact = [p.option_logits for p in make(False).predict(questions)]
    cold, warm = ([p.option_logits for p in make(dtype="bf16").predict(questions)] for _ in range(2))
    assert cold == warm != exact
    assert torch.tensor(cold).sub(torch.tensor(exact)).abs().max() < 0.5


def test_another_backbone_starts_anew(
    make: Callable[..., ForwardChain], world: Synthetic, work: dict[str, int], tiny
) -> None:
    questions = world.questions("val")[:1]
    first = make().predict(questions)
    weight = next(tiny.backbone.vision.parameters())
    kept = weight.detach().clone()
    spent(work)
    try:
        with torch.no_grad():
            weight[(0,) * weight.dim()] += 0.5
        changed = make().predict(questions)
        assert spent(work) == (N, N)
        assert changed[0].option_logits == make(False).predict(questions)[0].option_logits
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    spent(work)
    assert make().predict(questions)[0].option_logits == first[0].option_logits and spent(work) == (0, 0)
