"""ATP: no order, a straight-through choice, and that it learns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sevila.errors import UserError
from sevila.selection.trained import ATP


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None:
    torch.manual_seed(0)


def test_it_does_not_know_the_order() -> None:
    network = ATP(6, width=16).eval()
    frames, text = torch.randn(1, 7, 6), torch.randn(1, 6)
    mask, order = torch.ones(1, 7, dtype=torch.bool), torch.randperm(7)
    logits = network(frames, text, mask)
    torch.testing.assert_close(network(frames[:, order], text, mask), logits[:, order], atol=1e-5, rtol=0)
    assert len({round(float(logit), 5) for logit in logits[0].tolist()}) == 7
    assert not torch.allclose(network(frames, text + torch.randn(1, 6), mask), logits, atol=1e-4)


def test_padding_changes_nothing() -> None:
    network = ATP(6, width=16).eval()
    frames, text = torch.randn(1, 4, 6), torch.randn(1, 6)
    padded = torch.cat([frames, torch.full((1, 2, 6), 50.0)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    logits = network(padded, text, mask)
    assert logits[0, 4:].tolist() == [-torch.inf] * 2
    torch.testing.assert_close(logits[:, :4], network(frames, text, mask[:, :4]), atol=1e-5, rtol=0)
    for _ in range(20):
        assert float(network.pick(logits, 4)[0, :, 4:].detach().abs().max()) == 0


def test_the_choice_is_hard_forward_and_soft_backward() -> None:
    network = ATP(6, width=16)
    scores = torch.randn(50, 7, requires_grad=True)
    picked = network.pick(scores, 3)
    assert set(picked.detach().unique().tolist()) == {0.0, 1.0}
    assert picked.sum(-1).tolist() == [[1.0] * 3] * 50 and float(picked.detach().sum(1).max()) == 1
    assert bool((picked.argmax(-1).diff(dim=1) > 0).all())  # in time order
    (picked * torch.arange(7)).sum().backward()
    assert float(scores.grad.abs().sum()) > 0 and bool(scores.grad.isfinite().all())
    all_of_them = network.pick(torch.randn(2, 5), 5)
    torch.testing.assert_close(all_of_them, torch.eye(5).expand(2, -1, -1))


def test_one_pick_is_the_gumbel_softmax() -> None:
    """Drawn in proportion to the softmax, with the softmax's gradient at the noisy scores."""
    network, logits = ATP(6, width=16, temperature=0.5), torch.tensor([0.0, 1.0, 2.0])
    shares = network.pick(logits.expand(20_000, -1), 1).mean((0, 1))
    torch.testing.assert_close(shares, logits.softmax(-1), atol=0.02, rtol=0)
    scores = logits[None].clone().requires_grad_(True)
    torch.manual_seed(5)
    network.pick(scores, 1)[0, 0, 2].backward()
    torch.manual_seed(5)
    noise = -torch.empty(1, 3).exponential_().log()
    soft = ((logits + noise) / 0.5).softmax(-1)[0]
    expected = soft[2] * (torch.tensor([0.0, 0.0, 1.0]) - soft) / 0.5
    torch.testing.assert_close(scores.grad[0], expected)


def test_learns_which_frame_the_question_names(learns: Callable[[nn.Module, int], tuple[float, float]]) -> None:
    before, after = learns(ATP(8, width=32, layers=1, dropout=0.0), 150)
    assert before < 0.6 and after > 0.95


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"layers": 0}, "atp: layers=0: must be above 0"),
        ({"width": 10}, "atp: width=10: must be a multiple of attention_heads=4"),
        ({"dropout": 1.0}, "atp: dropout=1.0: must be from 0 to below 1"),
        ({"temperature": "warm"}, "atp: temperature='warm': must be above 0"),
    ],
)
def test_sizes(sizes: dict, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        ATP(6, **sizes)
