"""Differentiable top-K: its expectation, its gradient, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.selection.trained import PerturbedIndicators, PerturbedTopK


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None:
    torch.manual_seed(0)


Learns = Callable[[nn.Module, int], tuple[float, float]]


def noise(samples: int, *shape: int) -> Tensor:
    half = torch.randn(samples // 2, *shape, dtype=torch.float64)
    return torch.cat([half, -half])


def phi(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def test_expected_choice_of_two_frames() -> None:
    """k = 1 of two: the first wins with probability Phi((a - b) / (sigma * sqrt 2)), whose slope is known."""
    a, b, sigma = 0.3, 0.1, 0.5
    scores = torch.tensor([[a, b]], dtype=torch.float64, requires_grad=True)
    soft = PerturbedIndicators.apply(scores, 1, sigma, noise(400_000, 1, 2))
    spread = sigma * math.sqrt(2)
    assert float(soft[0, 0, 0].detach()) == pytest.approx(phi((a - b) / spread), abs=3e-3)
    soft[0, 0, 0].backward()
    slope = math.exp(-(((a - b) / spread) ** 2) / 2) / math.sqrt(2 * math.pi) / spread
    assert scores.grad[0].tolist() == pytest.approx([slope, -slope], abs=8e-3)


def test_gradient_is_that_of_the_expectation() -> None:
    """Against central differences of the expectation with the same noise; k = 2 of 4, in time order."""
    scores = torch.tensor([[0.2, 0.5, 0.4, 0.0]], dtype=torch.float64)
    weights = torch.randn(2, 4, dtype=torch.float64)
    samples = noise(400_000, 1, 4)

    def expectation(at: Tensor) -> Tensor:
        return (PerturbedIndicators.apply(at, 2, 0.4, samples)[0] * weights).sum()

    leaf = scores.clone().requires_grad_(True)
    expectation(leaf).backward()
    step = 0.02
    for i in range(4):
        shift = torch.zeros_like(scores)
        shift[0, i] = step
        numeric = float(expectation(scores + shift) - expectation(scores - shift)) / (2 * step)
        assert float(leaf.grad[0, i]) == pytest.approx(numeric, abs=0.02)
    assert float(leaf.grad.abs().max()) > 0.1


def test_indicators_are_sorted_by_time() -> None:
    scores = torch.tensor([[9.0, 0.0, 5.0, -torch.inf, 7.0]])
    hard = PerturbedIndicators.apply(scores, 3, 0.01, torch.randn(50, 1, 5))[0]
    assert hard.argmax(-1).tolist() == [0, 2, 4] and hard.sum().item() == 3
    soft = PerturbedTopK(4).pick(torch.randn(2, 6), 3)
    torch.testing.assert_close(soft.sum(-1), torch.ones(2, 3))
    assert soft.shape == (2, 3, 6) and float(soft.sum(1).max()) <= 1 + 1e-6
    centre = (soft * torch.arange(6)).sum(-1)
    assert bool((centre.diff(dim=1) > 0).all())


def test_padding_is_never_picked_and_gets_no_gradient() -> None:
    network = PerturbedTopK(4, samples=200, sigma=0.5)
    frames, text = torch.randn(2, 5, 4), torch.randn(2, 4)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    scores = network(frames, text, mask)
    assert scores.isneginf().tolist() == (~mask).tolist()
    scores.retain_grad()
    weights = network.pick(scores, 2)
    assert float(weights[1, :, 3:].detach().abs().max()) == 0
    (weights * torch.randn_like(weights)).sum().backward()
    assert bool(scores.grad.isfinite().all()) and scores.grad[1, 3:].tolist() == [0, 0]
    assert float(network.score[0].weight.grad.abs().sum()) > 0
    changed = frames.clone()
    changed[1, 3:] = 100.0
    torch.testing.assert_close(network(changed, text, mask)[1, :3], scores[1, :3])


def test_one_frame_and_equal_scores_are_well_defined() -> None:
    network = PerturbedTopK(4, samples=2000)
    scores = torch.zeros(1, 1, requires_grad=True)
    weights = network.pick(scores, 1)
    assert weights.tolist() == [[[1.0]]]
    weights.sum().backward()
    assert bool(scores.grad.isfinite().all())
    torch.testing.assert_close(network.pick(torch.zeros(1, 4), 1)[0, 0], torch.full((4,), 0.25), atol=0.05, rtol=0)


def test_learns_which_frame_the_question_names(learns: Learns) -> None:
    before, after = learns(PerturbedTopK(8, width=32, samples=100), 150)
    assert before < 0.6 and after > 0.95


def test_the_gradient_is_the_whole_jacobian() -> None:
    """A frame's score moves the other frames' indicators too: the diagonal alone would be another gradient."""
    scores = torch.tensor([[0.2, 0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    samples = noise(200_000, 1, 3)
    (first,) = torch.autograd.grad(PerturbedIndicators.apply(scores, 1, 0.3, samples)[0, 0, 0], scores)
    # of three equal noises P(a wins) falls when b or c rises, and does not change when all rise together
    assert float(first[0, 0]) > 0.3 and float(first[0, 1]) < -0.2 and float(first[0, 2]) < -0.1
    assert float(first.sum()) == pytest.approx(0, abs=0.03)


def test_sigma_decays_to_nothing_over_a_training() -> None:
    network = PerturbedTopK(4, samples=50, sigma=0.05, decay=True)
    assert network.sigma == 0.05
    seen = []
    for step in range(10):
        network.anneal(step / 10)
        seen.append(network.sigma)
    assert seen == pytest.approx([0.05 * (1 - step / 10) for step in range(10)])
    close = torch.tensor([[0.0, 1.0, 0.98]])
    assert network.pick(close, 1)[0, 0].tolist() == pytest.approx([0, 1, 0], abs=0.05)  # 0.02 apart, sigma 0.005
    network.anneal(0.0)
    assert float(network.pick(close, 1)[0, 0, 2]) > 0.15
    constant = PerturbedTopK(4)
    constant.anneal(0.9)
    assert constant.sigma == 0.5


def test_sizes() -> None:
    assert PerturbedTopK(4, samples=7).config.to_dict() == {
        "name": "perturbed",
        "input_width": 4,
        "width": 256,
        "samples": 7,
        "sigma": 0.5,
        "decay": False,
    }
    with pytest.raises(UserError, match="perturbed: sigma=0: must be above 0"):
        PerturbedTopK(4, sigma=0)
