"""Labels from true windows, and the training on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sevila.benchmarks.synthetic import Synthetic
from sevila.errors import UserError
from sevila.tasks.chain import ForwardChain
from sevila.tasks.refine import label_metrics, window_labels

Make = Callable[..., ForwardChain]


def test_a_frame_is_a_yes_inside_a_window(make_chain: Make, world: Synthetic) -> None:
    chain, questions = make_chain(n=8), world.questions("val")
    mixed = [replace(questions[0], windows=((0.0, 2.25), (10.0, 10.25))), *questions[1:][::-1]]
    made = window_labels(chain.source, mixed)
    assert [label.qid for label in made] == [question.qid for question in mixed]
    assert made[0].indices == (4, 12, 20, 28, 36, 44, 52, 60)  # at four frames a second
    assert made[0].times == tuple(index / 4 for index in made[0].indices)
    assert made[0].labels == (True, *(False,) * 7)  # 1.0 s is inside, 3.0 and 9.0 and 11.0 s are not
    for label, question in zip(made, mixed, strict=True):
        inside = [any(a <= time <= b for a, b in question.windows) for time in label.times]
        assert list(label.labels) == inside
    metrics = label_metrics(made, mixed)
    assert (metrics["pseudo_label_precision"], metrics["pseudo_label_recall"]) == (100, 100)


def test_unknown_windows_are_refused(make_chain: Make, world: Synthetic) -> None:
    first, *others = world.questions("val")
    with pytest.raises(UserError, match=rf"task.name=windows: 1 questions have no windows \(such as {first.qid}\)"):
        window_labels(make_chain().source, [*others, replace(first, windows=None)])
