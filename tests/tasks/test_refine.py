"""Reverse-chain refinement: pseudo-labels, the frames drawn from them, and the Localizer's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import Batch, FrameDataset, collate
from sevila.data.records import Question
from sevila.data.sampling import TrainingFrames
from sevila.data.video import CachedVideos, VideoInfo
from sevila.errors import UserError
from sevila.model.prompts import QuestionPrompts
from sevila.model.sevila import SeViLA
from sevila.tasks.chain import ForwardChain
from sevila.tasks.refine import (
    LabelEachStep,
    LabelledBefore,
    LabelledFrames,
    PseudoLabels,
    RefineTask,
    label_metrics,
    make_pseudo_labels,
    window_labels,
)

Make = Callable[..., ForwardChain]


def test_pseudo_labels_are_the_answerers_own_one_by_one(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    questions = world.questions("test")[:4] + world.questions("val")[:4]
    questions[2] = replace(questions[2], options=questions[2].options[:2], answer=1)
    mixed = questions[::2] + questions[1::2]
    chain = make_chain()
    made = make_pseudo_labels(tiny, chain.source, mixed)
    assert [label.qid for label in made] == [question.qid for question in mixed]
    yes = 0
    for label, question in zip(made, mixed, strict=True):
        ((_, sample),) = chain.source.walk([question])
        assert (label.indices, label.times) == (sample.frames.indices, sample.frames.times)
        for place, pixels in enumerate(sample.pixels):
            text = tiny.prompts.answer(question.question, question.options)
            with torch.no_grad():
                soft = tiny.answerer.head(tiny.backbone.encode(pixels[None]))
                logits = tiny.answerer.option_logits(soft[:, None], [text], len(question.options), numbered=False)[0]
            assert label.labels[place] == (int(logits.argmax()) == question.answer)
            yes += label.labels[place]
    assert 0 < yes < 8 * len(mixed)  # both labels occur, or the comparison would say little


def test_in_several_orders_the_answerer_must_be_right_in_each(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    questions = world.questions("val") + world.questions("test")
    questions[1] = replace(questions[1], options=questions[1].options[:2], answer=1)
    source = make_chain().source

    def turned(question: Question, first: int) -> Question:
        first %= len(question.options)
        options = (*question.options[first:], *question.options[:first])
        return replace(question, options=options, answer=options.index(question.options[question.answer]))

    alone = [make_pseudo_labels(tiny, source, [turned(q, first) for q in questions]) for first in range(3)]
    every = [tuple(map(all, zip(*(label.labels for label in made), strict=True))) for made in zip(*alone, strict=True)]
    labels = make_pseudo_labels(tiny, source, questions, orders=3)
    assert [label.labels for label in labels] == every
    assert 0 < sum(map(sum, every)) < sum(sum(label.labels) for label in alone[0])


def test_hidden_answers_give_no_labels(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    first, *others = world.questions("val")
    with pytest.raises(UserError, match=rf"1 questions have no answer \(such as {first.qid}\)"):
        make_pseudo_labels(tiny, make_chain().source, [*others, replace(first, answer=None)])


def test_labels_as_json() -> None:
    label = PseudoLabels("q", (1, 3), (0.25, 0.7500001), (True, False))
    row = label.to_json()
    assert row == {"qid": "q", "indices": [1, 3], "times": [0.25, 0.75], "labels": [1, 0]}
    assert PseudoLabels.from_json(row) == replace(label, times=(0.25, 0.75))


def test_label_metrics_by_hand() -> None:
    times = (0.0, 1.0, 2.0, 3.0)
    labels = [
        PseudoLabels("a", (0, 1, 2, 3), times, (True, True, False, False)),  # 1 of 2 right, 1 of 2 found
        PseudoLabels("b", (0, 1, 2, 3), times, (False, False, False, True)),  # right; 1 of 3 found
        PseudoLabels("c", (0, 1, 2, 3), times, (True, False, False, False)),  # windows hold no frame
    ]
    windows = [((1.0, 2.0),), ((1.0, 3.0),), ((9.0, 9.5),)]
    questions = [
        Question(label.qid, "v", "?", ("x", "y"), 0, windows=window)
        for label, window in zip(labels, windows, strict=True)
    ]
    assert label_metrics(labels, questions) == {
        "pseudo_label_yes": 33.33,  # 4 of 12
        "pseudo_label_precision": 50.0,  # 2 of 4
        "pseudo_label_recall": 40.0,  # 2 of 5
    }
    unknown = [replace(question, windows=None) for question in questions]
    assert label_metrics(labels, unknown) == {"pseudo_label_yes": 33.33}
    none = [replace(label, labels=(False,) * 4) for label in labels]
    assert label_metrics(none, questions) == {
        "pseudo_label_yes": 0.0,
        "pseudo_label_precision": 0.0,
        "pseudo_label_recall": 0.0,
    }


VIDEO = VideoInfo(length=1000, fps=25.0, width=96, height=64, duration=40.0)
KNOWN = tuple(range(5, 165, 5))  # 32 frame numbers


def drawn(seed: int, epoch: int, item: int, n: int = 4, known: tuple[int, ...] = KNOWN) -> list[int]:
    labels = [PseudoLabels(str(i), known, (0.0,) * len(known), (True,) * len(known)) for i in range(3)]
    return LabelledFrames(n, seed, labels=labels).indices(VIDEO, None, (epoch, item))


@given(st.integers(0, 10**9), st.integers(0, 99), st.integers(0, 2), st.integers(1, 40))
def test_one_labelled_frame_of_each_segment(seed: int, epoch: int, item: int, n: int) -> None:
    frames = drawn(seed, epoch, item, n)
    assert frames == drawn(seed, epoch, item, n)
    assert len(frames) == min(n, 32) and frames == sorted(set(frames)) and set(frames) <= set(KNOWN)
    edges = [int(place * 32 / len(frames)) for place in range(len(frames) + 1)]
    places = [KNOWN.index(frame) for frame in frames]
    assert all(a <= place < b for a, place, b in zip(edges[:-1], places, edges[1:], strict=True))


def test_frames_differ_by_seed_epoch_and_item() -> None:
    draws = [drawn(s, e, i) for s in range(4) for e in range(4) for i in range(3)]
    assert len({tuple(frames) for frames in draws}) > 44  # of 48; 8**4 are possible
    assert {frame for e in range(200) for frame in drawn(0, e, 0)} == set(KNOWN)
    assert drawn(0, 0, 0, known=(7, 9)) == [7, 9]


def test_rows_of_a_batch_with_padding() -> None:
    class Recorder:
        head = torch.nn.Linear(1, 1)

        def loss(self, patches: torch.Tensor, texts: list[str], labels: list[bool]) -> torch.Tensor:
            self.rows = (patches.flatten().tolist(), texts, labels)
            return torch.tensor(0.25)

    questions = [Question("a", "v", "what?", ("x", "y"), 0), Question("b", "w", "who?", ("p", "q"), 1)]
    labels = [
        PseudoLabels("b", (2, 4, 6), (0.0, 1.0, 2.0), (True, False, True)),
        PseudoLabels("a", (1, 4, 9), (0.0, 1.0, 2.0), (False, True, False)),
    ]
    batch = Batch(
        records=questions,
        pixels=torch.tensor([[10.0, 11.0], [20.0, 99.0]])[:, :, None],
        mask=torch.tensor([[True, True], [True, False]]),
        indices=[[4, 9], [6]],
        times=[[1.0, 2.0], [2.0]],
    )
    localizer = Recorder()
    model = SimpleNamespace(
        backbone=SimpleNamespace(encode=lambda pixels: pixels),
        localizer=localizer,
        localizer_prompts=lambda asked: [QuestionPrompts().localize(q.question, q.options) for q in asked],
    )
    task = RefineTask(SimpleNamespace(model=model), [], LabelledBefore(labels))
    loss, numbers = task.loss(batch)
    first, second = (QuestionPrompts().localize(q.question, q.options) for q in questions)
    assert localizer.rows == ([10.0, 11.0, 20.0], [first, first, second], [True, False, True])
    assert float(loss) == 0.25 and numbers == {"yes_share": pytest.approx(2 / 3)}
    assert task.head is localizer.head
    windows = [((0.5, 1.5),), ((0.0, 1.0),)]  # of the two "yes" frames, the one at 1.0 s lies in its window
    known = replace(batch, records=[replace(q, windows=w) for q, w in zip(questions, windows, strict=True)])
    assert task.loss(known)[1] == {"yes_share": pytest.approx(2 / 3), "yes_precision": 0.5}
    never = LabelledBefore([replace(label, labels=(False,) * 3) for label in labels])
    assert RefineTask(SimpleNamespace(model=model), [], never).loss(known)[1] == {"yes_share": 0.0}


# -- the published way: labels in the step ---


def drawn_batch(world: Synthetic, tiny: SeViLA, questions: list[Question], epoch: int = 0) -> Batch:
    """4 random frames of each whole video, cropped, as the published experiments draw them."""
    dataset = FrameDataset(questions, CachedVideos(tiny.backbone.image_size), world.folder(), TrainingFrames(4, seed=0))
    return collate([dataset[epoch, i] for i in range(len(questions))])


def one_by_one(tiny: SeViLA, batch: Batch, first: int = 0) -> list[bool]:
    """Frame by frame, each in a pass of its own."""
    labels = []
    for row, question in enumerate(batch.records):
        turn = first % len(question.options)
        options = [*question.options[turn:], *question.options[:turn]]
        text = tiny.prompts.answer(question.question, options)
        for place in range(len(batch.indices[row])):
            with torch.no_grad():
                soft = tiny.answerer.head(tiny.backbone.encode(batch.pixels[row, place][None]))
                logits = tiny.answerer.option_logits(soft[:, None], [text], len(options), numbered=False)
                option = int(logits[0].argmax())
            labels.append(options[option] == question.options[question.answer])
    return labels


def mixed(world: Synthetic) -> list[Question]:
    """Questions about several videos, one of two options."""
    questions = world.questions("test")[:5] + world.questions("val")[:4]
    questions[1] = replace(questions[1], options=questions[1].options[:2], answer=1)
    return questions


def test_labels_in_the_step_are_the_answerers_own_of_what_was_drawn(world: Synthetic, tiny: SeViLA) -> None:
    batch = drawn_batch(world, tiny, mixed(world))
    patches = tiny.backbone.encode(batch.pixels)
    labels = LabelEachStep(tiny).of(batch, patches[batch.mask])
    assert labels == one_by_one(tiny, batch) and 0 < sum(labels) < len(labels) == 36
    plain = replace(batch, pixels=drawn_batch(world, tiny, mixed(world), epoch=1).pixels)  # other frames, other crops
    assert LabelEachStep(tiny).of(plain, tiny.backbone.encode(plain.pixels)[batch.mask]) != labels


def test_labels_in_the_step_do_not_depend_on_the_pass(
    world: Synthetic, tiny: SeViLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = drawn_batch(world, tiny, mixed(world))
    patches = tiny.backbone.encode(batch.pixels)[batch.mask]
    labels = LabelEachStep(tiny).of(batch, patches)
    monkeypatch.setattr(SeViLA, "rows", 5)
    assert LabelEachStep(tiny).of(batch, patches) == labels


def test_padding_has_no_label(world: Synthetic, tiny: SeViLA) -> None:
    batch = drawn_batch(world, tiny, world.questions("val")[:2])
    short = replace(
        batch,
        mask=torch.tensor([[True] * 4, [True, False, False, False]]),
        indices=[batch.indices[0], batch.indices[1][:1]],
        times=[batch.times[0], batch.times[1][:1]],
    )
    patches = tiny.backbone.encode(batch.pixels)
    labels = LabelEachStep(tiny).of(batch, patches[batch.mask])
    assert LabelEachStep(tiny).of(short, patches[short.mask]) == labels[:5]


def test_in_several_orders_in_the_step_too(world: Synthetic, tiny: SeViLA) -> None:
    batch = drawn_batch(world, tiny, mixed(world))
    patches = tiny.backbone.encode(batch.pixels)[batch.mask]
    each = [one_by_one(tiny, batch, first) for first in range(3)]
    two = [i for i, q in enumerate(q for q in batch.records for _ in range(4)) if len(q.options) == 2]
    for i in two:
        each[2][i] = True  # two options have two orders
    labels = LabelEachStep(tiny, orders=3).of(batch, patches)
    assert labels == [all(of) for of in zip(*each, strict=True)] and 0 < sum(labels) < sum(each[0])


def test_the_answerer_that_labels_has_no_dropout_and_learns_nothing(
    make_chain: Make, world: Synthetic, tiny: SeViLA
) -> None:
    """While the Localizer's head is in training mode, where dropout draws numbers."""
    batch = drawn_batch(world, tiny, world.questions("val")[:3])
    task = RefineTask(make_chain(), [], LabelEachStep(tiny))
    tiny.requires_grad_(False)
    task.head.requires_grad_(True).train()
    try:
        patches = tiny.backbone.encode(batch.pixels)[batch.mask]
        state = torch.get_rng_state()
        labels = task.labels.of(batch, patches)
        assert torch.equal(torch.get_rng_state(), state) and labels == one_by_one(tiny, batch)
        loss, numbers = task.loss(batch)
        loss.backward()
        assert not torch.equal(torch.get_rng_state(), state)  # the Localizer's dropout
        assert numbers["yes_share"] == sum(labels) / 12
        touched = {name.partition(".")[0] for name, p in tiny.named_parameters() if p.grad is not None}
        assert touched == {"localizer"} and not tiny.answerer.head.training
    finally:
        task.head.eval()
        tiny.zero_grad(set_to_none=True)
        tiny.requires_grad_(False)


def test_evaluation_sees_the_localizer_as_it_stands(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    chain, questions = make_chain(), world.questions("val")
    task = RefineTask(chain, questions, LabelledBefore([]))
    before, chosen = task.evaluate(), chain.choose(questions)
    assert sorted(before) == ["accuracy", "keyframe_hit", "keyframe_recall"]
    kept = {name: tensor.clone() for name, tensor in tiny.localizer.head.state_dict().items()}
    try:
        with torch.no_grad():
            tiny.localizer.head.projection.weight.neg_()
        assert [c.keyframes for c in chain.choose(questions)] != [c.keyframes for c in chosen]
        task.evaluate()
    finally:
        tiny.localizer.head.load_state_dict(kept)
    assert task.evaluate() == before


# -- true windows in the place of the Answerer's labels ---


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
