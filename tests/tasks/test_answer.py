"""Forward-chain fine-tuning: which frames and texts the Answerer learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import Batch, FrameDataset, collate
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK, Oracle, Random, Selector, Uniform
from sevila.selection.scorers import LongImageScorer
from sevila.tasks.answer import AllFrames, AnswerTask, SelectEachStep
from sevila.tasks.chain import ForwardChain

Make = Callable[..., ForwardChain]


@dataclass
class Given:
    """Keyframes as they are told."""

    positions: list[list[int]]

    def pick(self, batch: Batch, patches: torch.Tensor) -> list[list[int]]:
        return self.positions


def batch_of(questions: list[Question], chain: ForwardChain, n: int = 8) -> Batch:
    source = chain.source
    dataset = FrameDataset(questions, source.videos, source.folder, EvaluationFrames(n))
    return collate([dataset[0, i] for i in range(len(questions))])


def test_a_batch_is_the_mean_of_its_rows(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    chain = make_chain()
    questions = world.questions("val")[:2] + world.questions("test")[:3]
    questions[3] = replace(questions[3], options=questions[3].options[:3], answer=2)
    picked = [[0, 5], [1], [2, 3], [4, 6, 7], [0, 7]]
    batch = batch_of(questions, chain)
    with torch.no_grad():
        loss, numbers = AnswerTask(chain, [], Given(picked)).loss(batch)
        alone = []
        for i, question in enumerate(questions):
            one = batch_of([question], chain)
            alone.append(AnswerTask(chain, [], Given([picked[i]])).loss(one)[0])
        text = tiny.prompts.answer(questions[1].question, questions[1].options)
        patches = tiny.backbone.encode(batch.pixels[1, 1:2])[None]
        assert float(alone[1]) == pytest.approx(
            float(tiny.answerer.loss(patches, [text], [questions[1].answer])), abs=1e-5
        )
    assert numbers == {} and float(loss) == pytest.approx(float(torch.stack(alone).mean()), abs=1e-4)
    assert len({round(float(one), 3) for one in alone}) > 1  # rows differ, so their mean says something


def test_gradients_reach_the_answerers_head_alone(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    chain = make_chain()
    task = AnswerTask(chain, [], SelectEachStep(tiny, LocalizerTopK(2)))
    assert task.head is tiny.answerer.head and task.head is not tiny.localizer.head
    tiny.requires_grad_(False)
    task.head.requires_grad_(True)
    try:
        task.loss(batch_of(world.questions("val")[:2], chain))[0].backward()
        touched = {name for name, parameter in tiny.named_parameters() if parameter.grad is not None}
        assert {name.partition(".")[0] for name in touched} == {"answerer"}
        assert {name for name in touched if "head" not in name} == set()
        assert float(task.head.queries.grad.abs().sum()) > 0
    finally:
        tiny.zero_grad(set_to_none=True)
        tiny.requires_grad_(False)


@pytest.mark.parametrize("selector", [LocalizerTopK(3), Uniform(3), Random(3, seed=5), Oracle(3)])
def test_select_each_step_is_the_chains_choice(
    make_chain: Make, world: Synthetic, tiny: SeViLA, selector: Selector
) -> None:
    chain = make_chain(selector)
    questions = world.questions("test")[:3] + world.questions("val")[:3]
    batch = batch_of(questions, chain)
    picked = SelectEachStep(tiny, selector).pick(batch, tiny.backbone.encode(batch.pixels))
    assert picked == [list(choosing.keyframes) for choosing in chain.choose(questions)]
    assert len({tuple(row) for row in picked}) > 1 or isinstance(selector, Uniform)


def test_frames_can_be_read_together_in_each_step(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    scorer = LongImageScorer(tiny)
    chain = replace(make_chain(LocalizerTopK(4)), scorer=scorer)
    questions = world.questions("test")[:3] + world.questions("val")[:3]
    batch = batch_of(questions, chain)
    picked = SelectEachStep(tiny, chain.selector, scorer).pick(batch, tiny.backbone.encode(batch.pixels))
    assert picked == [list(choosing.keyframes) for choosing in chain.choose(questions)]
    assert all(row in ([0, 1, 2, 3], [4, 5, 6, 7]) for row in picked)
    alone = SelectEachStep(tiny, chain.selector).pick(batch, tiny.backbone.encode(batch.pixels))
    assert any(row not in ([0, 1, 2, 3], [4, 5, 6, 7]) for row in alone)


def test_padding_is_never_selected(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    chain = make_chain()
    batch = batch_of(world.questions("val")[:2], chain)
    short = replace(
        batch,
        pixels=torch.cat([batch.pixels[:1], batch.pixels[1:].clone()]),
        mask=torch.tensor([[True] * 8, [True, True] + [False] * 6]),
        indices=[batch.indices[0], batch.indices[1][:2]],
        times=[batch.times[0], batch.times[1][:2]],
    )
    for selector in (LocalizerTopK(3), Uniform(3)):
        first, second = SelectEachStep(tiny, selector).pick(short, tiny.backbone.encode(short.pixels))
        assert len(first) == 3 and second == [0, 1]
    assert AllFrames().pick(short, torch.empty(0)) == [list(range(8)), [0, 1]]


def test_evaluation_is_the_forward_chain(make_chain: Make, world: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = world.questions("val")
    chain = make_chain()
    task = AnswerTask(chain, questions, AllFrames())
    predictions = chain.predict(questions)
    right = sum(p.prediction == p.question.answer for p in predictions)
    measured = task.evaluate()
    assert sorted(measured) == ["accuracy", "keyframe_hit", "keyframe_recall"]
    assert measured["accuracy"] == round(100 * right / len(questions), 2)
    monkeypatch.setattr(SeViLA, "relevance", lambda *_: pytest.fail("chosen anew"))
    assert task.evaluate() == measured
