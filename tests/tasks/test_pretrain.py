"""Pre-training: which rows the Localizer learns from, and how it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import Batch, VideoSource
from sevila.data.records import Moment
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import SeViLA
from sevila.tasks.pretrain import METRICS, PretrainTask, frame_labels, need_windows

MOMENTS = [
    Moment("m0", "a", "a red star glows", 8.0, ((1.0, 2.0), (5.0, 6.5))),
    Moment("m1", "b", "a cup is held.", 8.0, ((0.0, 0.5),)),
]


def test_a_frame_inside_a_window_is_a_yes() -> None:
    times = [0.0, 0.99, 1.0, 1.5, 2.0, 2.01, 6.5, 7.0]
    assert frame_labels(times, MOMENTS[0]) == [False, False, True, True, True, False, True, False]
    assert frame_labels([0.0, 0.5, 0.51], MOMENTS[1]) == [True, True, False]
    assert frame_labels([0.0, 1.0], Moment("m", "a", "x", 8.0)) == [False, False]


class Recorder:
    """A Localizer that keeps what it shall learn from."""

    head = torch.nn.Linear(1, 1)

    def loss(self, patches: torch.Tensor, texts: list[str], labels: list[bool]) -> torch.Tensor:
        self.rows = (patches.flatten().tolist(), texts, labels)
        return torch.tensor(0.5)


def test_rows_of_a_batch_with_padding() -> None:
    batch = Batch(
        records=MOMENTS,
        pixels=torch.tensor([[10.0, 11.0, 12.0], [20.0, 21.0, 99.0]])[:, :, None],
        mask=torch.tensor([[True, True, True], [True, True, False]]),
        indices=[[0, 1, 2], [0, 1]],
        times=[[0.5, 1.5, 6.0], [0.25, 4.0]],
    )
    localizer = Recorder()
    model = SimpleNamespace(backbone=SimpleNamespace(encode=lambda pixels: pixels), localizer=localizer)
    task = PretrainTask(model, None, [])
    loss, numbers = task.loss(batch)
    patches, texts, labels = localizer.rows
    assert patches == [10.0, 11.0, 12.0, 20.0, 21.0]
    first = "Question: a red star glows. Option A: yes. Option B: no. Does the information"
    second = "Question: a cup is held. Option A: yes. Option B: no. Does the information"
    assert [text[: len(first)] for text in texts[:3]] == [first] * 3
    assert [text[: len(second)] for text in texts[3:]] == [second] * 2
    assert labels == [False, True, True, True, False]
    assert float(loss) == 0.5 and numbers == {"yes_share": 0.6} and task.head is localizer.head


def test_evaluation_ranks_the_frames_of_each_query() -> None:
    times = (0.0, 1.0, 2.0, 3.0)
    yes = {moment_prompt("a"): [0.1, 0.9, 0.3, 0.2], moment_prompt("b"): [0.4, 0.3, 0.2, 0.1]}
    no = {moment_prompt("a"): [0.0, 0.5, 0.5, 0.2], moment_prompt("b"): [0.0, 0.5, 0.5, 0.0]}
    moments = [
        Moment("0", "v", "a", 4.0, ((1.0, 1.0), (3.0, 3.0))),  # ranks 1 and 3: (1 + 2/3) / 2
        Moment("1", "v", "b", 4.0, ((2.5, 9.0),)),  # rank 4: 1/4
        Moment("2", "v", "b", 4.0, ((1.5, 1.6),)),  # no true frame: nothing to rank
        Moment("3", "v", "b", 4.0),  # hidden: nothing to compare with
    ]
    # said: yes yes no no (a draw) of "a", yes no no yes of "b"
    right = [False, True, True, False], [False, True, True, True], [False, True, True, False]

    class Source:
        def walk(self, records: list[Moment], label: str) -> Iterator[tuple[list[int], SimpleNamespace]]:
            frames = SimpleNamespace(indices=range(4), times=times)
            sample = SimpleNamespace(pixels=torch.zeros(4, 1), frames=frames, stored=None)
            yield from (([1, 2, 3], sample), ([0], sample))

    def yes_no(patches: torch.Tensor, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[yes[text], no[text]] for text in texts]).mT

    model = SimpleNamespace(backbone=SimpleNamespace(encode=lambda pixels: pixels), yes_no=yes_no)
    measured = PretrainTask(model, Source(), moments).evaluate()
    assert measured == {
        "frame_accuracy": pytest.approx(100 * sum(map(sum, right)) / 12, abs=0.005),
        "frame_mAP": pytest.approx(100 * (5 / 6 + 1 / 4) / 2, abs=0.005),
    }
    assert tuple(measured) == METRICS


def test_the_logits_of_both_words(tiny: SeViLA, world: Synthetic) -> None:
    moments = world.moments("val")[:2]
    source = VideoSource(CachedVideos(64), world.folder(), 3)
    for rows, sample in source.walk(moments):
        texts = [moment_prompt(moments[row].query) for row in rows]
        patches = tiny.backbone.encode(sample.pixels)
        both = tiny.yes_no(patches, texts)
        assert both.shape == (len(rows), 3, 2)
        torch.testing.assert_close(both[..., 0], tiny.relevance(patches, texts), atol=1e-4, rtol=0)
        with torch.no_grad():
            soft = tiny.localizer.head(patches)
            no = torch.stack([tiny.localizer.word_logits(soft[:, None], [text] * 3, ["no"])[:, 0] for text in texts])
        torch.testing.assert_close(both[..., 1], no, atol=1e-4, rtol=0)
        assert float((both[..., 0] - both[..., 1]).abs().max()) > 0.01


def test_the_loss_is_the_mean_over_single_rows(tiny: SeViLA, world: Synthetic) -> None:
    moments = world.moments("val")[:2]
    source = VideoSource(CachedVideos(64), world.folder(), 3)
    pixels = [sample.pixels for moment in moments for _, sample in source.walk([moment])]
    times = [[1.0, 3.0, 5.0], [1.0, 3.0]]
    mask = torch.tensor([[True, True, True], [True, True, False]])
    batch = Batch(moments, torch.stack(pixels), mask, [[4, 12, 20], [4, 12]], times)
    task = PretrainTask(tiny, source, moments)
    with torch.no_grad():
        loss, _ = task.loss(batch)
        rows = []
        for i, t in mask.nonzero().tolist():
            patches = tiny.backbone.encode(batch.pixels[i, t : t + 1])
            label = frame_labels(times[i], moments[i])[t]
            rows.append(tiny.localizer.loss(patches, [moment_prompt(moments[i].query)], [label]))
    assert float(loss) == pytest.approx(float(torch.stack(rows).mean()), abs=1e-4)


def test_hidden_windows_are_refused() -> None:
    hidden = [replace(moment, windows=None) for moment in MOMENTS]
    need_windows(MOMENTS, [hidden[0], MOMENTS[1]])
    with pytest.raises(UserError, match=r"2 queries have no windows \(such as m0\)"):
        need_windows(hidden, MOMENTS)
    with pytest.raises(UserError, match=r"data\.val: none of its 2 queries has a window"):
        need_windows(MOMENTS, hidden)
