"""Selectors trained through the frozen Answerer: what the loss is, and whom it reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sevila import api
from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import Batch, FrameDataset, collate
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames
from sevila.errors import UserError
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK, Uniform
from sevila.selection.trained import frame_features, new_network, text_features
from sevila.tasks.chain import ForwardChain
from sevila.tasks.trained_selector import TrainedSelectorTask, score_entropy
from sevila.training.task import Annealed

Make = Callable[..., ForwardChain]
NODES = [
    {"name": "atp", "width": 32, "layers": 1, "attention_heads": 2, "dropout": 0.0},
    {"name": "perturbed", "width": 32, "samples": 100},
]


def batch_of(questions: list[Question], chain: ForwardChain, n: int = 8) -> Batch:
    source = chain.source
    dataset = FrameDataset(questions, source.videos, source.folder, EvaluationFrames(n))
    return collate([dataset[0, i] for i in range(len(questions))])


class Told(nn.Module):
    """Picks the positions that it is told, for all rows alike."""

    def __init__(self, positions: list[int]) -> None:
        super().__init__()
        self.positions = torch.tensor(positions)

    def forward(self, frames: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)

    def pick(self, scores: Tensor, k: int) -> Tensor:
        rows = nn.functional.one_hot(self.positions[:k], scores.shape[1]).float()
        return rows.expand(len(scores), -1, -1)


def test_a_hard_choice_has_the_answerers_own_loss(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    chain = make_chain(LocalizerTopK(3))
    questions = world.questions("val")[:2] + world.questions("test")[:2]
    batch = batch_of(questions, chain)
    with torch.no_grad():
        loss, numbers = TrainedSelectorTask(chain, [], Told([0, 3, 6])).loss(batch)
        patches = tiny.backbone.encode(batch.pixels)[:, [0, 3, 6]]
        texts = [tiny.prompts.answer(q.question, q.options) for q in questions]
        expected = tiny.answerer.loss(patches, texts, [q.answer for q in questions])
        equal = math.log(8)  # of eight equal scores
        less, _ = TrainedSelectorTask(chain, [], Told([0, 3, 6]), entropy=0.5).loss(batch)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    assert numbers == {"weight": 1.0, "entropy": pytest.approx(equal, abs=1e-5)}
    assert float(less) == pytest.approx(float(expected) - 0.5 * equal, abs=1e-5)


def test_the_entropy_of_scores() -> None:
    chances = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]])
    scores = chances.log().requires_grad_(True)
    entropy = score_entropy(scores)
    assert float(entropy.detach()) == pytest.approx((1.5 * math.log(2) + math.log(2)) / 2)
    entropy.backward()
    assert bool(scores.grad.isfinite().all()) and scores.grad[1].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert float(scores.grad[0, 0]) < 0 < float(scores.grad[0, 1])  # more even scores have more entropy


def test_the_network_hears_how_far_the_training_is(make_chain: Make, tiny: SeViLA) -> None:
    network = new_network({"name": "perturbed", "decay": True}, tiny.backbone, seed=0)
    task = TrainedSelectorTask(make_chain(), [], network)
    assert isinstance(task, Annealed)
    task.anneal(0.75)
    assert network.sigma == pytest.approx(0.125)


def test_shorter_videos_and_padding(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    """A row with two frames takes both; the batch's loss is the mean of its rows."""
    chain = make_chain(LocalizerTopK(3))
    batch = batch_of(world.questions("val")[:2], chain)
    short = replace(
        batch,
        mask=torch.tensor([[True] * 8, [True, True] + [False] * 6]),
        indices=[batch.indices[0], batch.indices[1][:2]],
        times=[batch.times[0], batch.times[1][:2]],
    )
    with torch.no_grad():
        loss, _ = TrainedSelectorTask(chain, [], Told([0, 1, 5])).loss(short)
        patches = tiny.backbone.encode(batch.pixels)
        alone = [
            tiny.answerer.loss(patches[row : row + 1, seen], [tiny.prompts.answer(q.question, q.options)], [q.answer])
            for row, (seen, q) in enumerate(zip([[0, 1, 5], [0, 1]], batch.records, strict=True))
        ]
    assert float(loss) == pytest.approx(float(torch.stack(alone).mean()), abs=1e-5)
    for node in NODES:
        network = new_network(node, tiny.backbone, seed=0)
        loss, _ = TrainedSelectorTask(chain, [], network).loss(short)
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("node", NODES)
def test_only_the_selector_learns_and_its_choice_gets_better(
    make_chain: Make, world: Synthetic, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One keyframe of eight. First the real loss, for its gradients; then one whose best frame can be seen."""
    model = api.SeViLA.load(dtype=torch.float32).model
    chain = replace(make_chain(LocalizerTopK(1)), model=model)
    questions = world.questions("train")[:12]
    batch = batch_of(questions, chain)
    patches = model.backbone.encode(batch.pixels)
    monkeypatch.setattr(model.backbone, "encode", lambda pixels: patches)  # the same in every step
    network = new_network(node, model.backbone, seed=0)
    task = TrainedSelectorTask(chain, [], network)
    assert task.head is network
    model.requires_grad_(False)
    torch.manual_seed(0)
    loss, numbers = task.loss(batch)
    loss.backward()
    assert loss.ndim == 0 and 1 / 8 <= numbers["weight"] <= 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in network.parameters())

    rows = torch.arange(len(questions))
    with torch.no_grad():
        soft = model.answerer.head(patches)
        features, text = frame_features(model.backbone, patches), text_features(model.backbone, questions)
        wanted = soft[rows, features[..., 0].argmax(1)]  # of the frame whose first feature is largest
        alone = (soft - wanted[:, None]).square().mean((2, 3))
    monkeypatch.setattr(task, "_answer_loss", lambda seen, _: (seen[:, 0] - wanted).square().mean())

    def chosen() -> float:
        with torch.no_grad():
            best = network.eval()(features, text, batch.mask).argmax(1)
        network.train()
        return float(alone[rows, best].mean())

    before = chosen()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(30):
        loss, _numbers = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert chosen() < 0.6 * min(before, float(alone.mean()))


@pytest.mark.parametrize("node", NODES)
def test_evaluation_is_the_forward_chain_with_the_networks_choice(
    make_chain: Make, world: Synthetic, tiny: SeViLA, node: dict[str, Any]
) -> None:
    network = new_network(node, tiny.backbone, seed=1).eval()
    chain, questions = make_chain(LocalizerTopK(2)), world.questions("val")
    task = TrainedSelectorTask(chain, questions, network)
    state = torch.get_rng_state()
    measured = task.evaluate()
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(measured) == ["accuracy", "keyframe_hit", "keyframe_recall"]
    batch = batch_of(questions[:1], chain)
    with torch.no_grad():
        patches = tiny.backbone.encode(batch.pixels)
        features, text = frame_features(tiny.backbone, patches), text_features(tiny.backbone, questions[:1])
        best = network(features, text, batch.mask)[0].topk(2).indices.sort().values
    prediction = task.chain.predict(questions[:1])[0]
    assert list(prediction.keyframes) == best.tolist()
    right = sum(p.prediction == p.question.answer for p in task.chain.predict(questions))
    assert measured["accuracy"] == round(100 * right / len(questions), 2)
    assert chain.scorer is None  # the caller's own chain stays what it is


def test_a_rule_that_needs_no_scores_is_refused(make_chain: Make) -> None:
    with pytest.raises(UserError, match="say selector=topk"):
        TrainedSelectorTask(make_chain(Uniform(2)), [], Told([0]))
