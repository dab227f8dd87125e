"""Keyframes and pseudo-labels that are read instead of made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import VideoSource, by_video
from sevila.data.folders import VideoFolder
from sevila.data.store import Store
from sevila.data.video import CachedVideos
from sevila.files import sealed, unsealed
from sevila.model.prompts import TemplatePrompts
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK, Oracle, Selector
from sevila.selection.scorers import JointLocalizerScorer, LongImageScorer
from sevila.tasks import cache
from sevila.tasks.chain import ForwardChain
from sevila.tasks.refine import make_pseudo_labels

N = 6
Make = Callable[..., ForwardChain]


@pytest.fixture
def make(world: Synthetic, tiny: SeViLA, open_tiny_store: Callable[..., Store]) -> Make:
    def chain(selector: Selector | None = None, n: int = N, stored: bool = True, **more: object) -> ForwardChain:
        store = open_tiny_store() if stored else None
        source = VideoSource(CachedVideos(tiny.backbone.image_size), more.pop("folder", world.folder()), n, store=store)
        return ForwardChain(tiny, selector or LocalizerTopK(2), source, **more)

    return chain


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the Localizer or the Answerer was asked about frames."""
    texts: list[str] = []
    for name in ("relevance", "frame_logits"):
        plain = getattr(SeViLA, name)

        def counted(self: SeViLA, seen, prompts, *more, _plain=plain):
            groups = [prompts] if prompts and isinstance(prompts[0], str) else prompts
            for group in groups:
                texts.extend(dict.fromkeys(group))  # of all frames the same
            return _plain(self, seen, prompts, *more)

        monkeypatch.setattr(SeViLA, name, counted)
    return texts


def count(texts: list[str]) -> int:
    number = len(texts)
    texts.clear()
    return number


def test_keyframes_are_chosen_once(make: Make, world: Synthetic, asked: list[str]) -> None:
    questions = world.questions("val")
    (first, second) = by_video(questions)
    mixed = [questions[row] for pair in zip(first, second, strict=True) for row in pair]
    plain = make(stored=False).choose(mixed)
    alone = [questions[row] for row in first]
    assert make().choose(alone) == make(stored=False).choose(alone) and count(asked) == len(mixed) + 2 * len(alone)
    assert make().choose(mixed) == plain and count(asked) == len(second)
    assert make().choose(questions) == make(stored=False).choose(questions) and count(asked) == len(mixed)
    renamed = [replace(question, qid=f"new {question.qid}", qtype="", windows=None) for question in mixed]
    assert [c.keyframes for c in make().choose(renamed)] == [c.keyframes for c in plain] and count(asked) == 0


def test_questions_are_remembered_with_those_that_they_were_asked_with(
    make: Make, world: Synthetic, asked: list[str]
) -> None:
    """Padding to the longest text of a batch moves the scores' last digits."""
    questions = world.questions("val")
    make().choose(questions)
    count(asked)
    fewer = questions[::2]
    assert make().choose(fewer) == make(stored=False).choose(fewer) and count(asked) == 2 * len(fewer)


def test_another_question_or_selection_is_chosen_for_anew(make: Make, world: Synthetic, asked: list[str], tiny) -> None:
    questions = world.questions("val")[:2]
    make().choose(questions)
    count(asked)
    for changed in (
        replace(questions[0], question="what is it?"),
        replace(questions[0], options=questions[0].options[::-1]),
        replace(questions[0], clip=(0.0, 4.0)),
        replace(questions[0], video=world.questions("test")[0].video),
    ):
        assert make().choose([changed]) == make(stored=False).choose([changed]) and count(asked) == 2
    joint, long_image = JointLocalizerScorer(tiny, 2), LongImageScorer(tiny, 2)
    for chain in (make(LocalizerTopK(3)), make(n=4), make(scorer=joint), make(scorer=long_image)):
        fresh = replace(chain, source=replace(chain.source, store=None))
        assert chain.choose(questions) == fresh.choose(questions)
    assert count(asked) == 12  # the joint scorer asks by another way
    make(scorer=LongImageScorer(tiny, 2)).choose(questions)
    assert count(asked) == 0
    make(scorer=LongImageScorer(tiny, 3)).choose(questions)
    assert count(asked) == 2


def test_other_selections_are_not_stored(make: Make, world: Synthetic, open_tiny_store, tiny: SeViLA) -> None:
    questions = world.questions("val")[:2]
    assert make(Oracle(2)).choose(questions) == make(Oracle(2), stored=False).choose(questions)

    class Foreign:
        needs_pictures = False

        def score(self, encoded, asked, pixels):
            return torch.arange(len(encoded)).expand(len(asked), -1)

    chain = make(scorer=Foreign())
    assert [c.keyframes for c in chain.choose(questions)] == [(4, 5)] * 2
    assert not (chain.source.store.folder / "tables").exists()


def _moved(head: torch.nn.Module) -> Iterator[None]:
    """The head with other weights, for a while."""
    kept = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    with torch.no_grad():
        head.projection.bias[0] += 1.0
    yield
    head.load_state_dict(kept)


def test_another_head_or_wording_is_asked_anew(make: Make, world: Synthetic, asked: list[str], tiny: SeViLA) -> None:
    questions = world.questions("val")[:2]
    make().choose(questions)
    make_pseudo_labels(tiny, make().source, questions)
    count(asked)
    for _ in _moved(tiny.localizer.head):
        assert make().choose(questions) == make(stored=False).choose(questions) and count(asked) == 4
        make_pseudo_labels(tiny, make().source, questions)  # another head's
    for _ in _moved(tiny.answerer.head):
        make().choose(questions)
        assert count(asked) == 0
        make_pseudo_labels(tiny, make().source, questions)
    assert count(asked) == 2
    tiny.prompts, plain = TemplatePrompts(answers="{question}?", localizes="{question}!"), tiny.prompts
    try:
        make().choose(questions)
        make_pseudo_labels(tiny, make().source, questions)
    finally:
        tiny.prompts = plain
    assert count(asked) == 4


def test_labels_are_made_once(make: Make, world: Synthetic, asked: list[str], tiny: SeViLA) -> None:
    questions = world.questions("val")
    first, second = by_video(questions)
    plain = make_pseudo_labels(tiny, make(stored=False).source, questions)
    count(asked)
    assert first == list(range(len(first)))
    alone = questions[: len(first)]
    assert make_pseudo_labels(tiny, make().source, alone) == plain[: len(first)] and count(asked) == len(first)
    assert make_pseudo_labels(tiny, make().source, questions) == plain and count(asked) == len(second)
    assert make_pseudo_labels(tiny, make().source, questions) == plain and count(asked) == 0
    place = next(place for place, made in enumerate(plain) if any(made.labels))
    other = replace(questions[place], answer=(questions[place].answer + 1) % len(questions[place].options))
    assert make_pseudo_labels(tiny, make().source, [other])[0].labels != plain[place].labels and count(asked) == 1


@pytest.mark.parametrize("kind", ["keyframes", "pseudo_labels"])
def test_a_row_that_says_something_else_is_made_again(
    make: Make, world: Synthetic, asked: list[str], tiny: SeViLA, kind: str, capsys: pytest.CaptureFixture
) -> None:
    """Its checksum may be right, as of a program that wrote another form."""
    questions = world.questions("val")[:1]

    def get() -> object:
        if kind == "keyframes":
            return make().choose(questions)
        return make_pseudo_labels(tiny, make().source, questions)

    plain = get()
    (file,) = (make().source.store.folder / "tables" / kind).glob("*/*.jsonl")
    row = unsealed(json.loads(file.read_text()), file.parent.name)
    (result,) = row["results"]
    changes = [{"indices": ["1"] * N}, {"labels": [2] * N}, {"times": [0.0]}]
    if kind == "keyframes":
        changes = [{"keyframes": [0, N]}, {"keyframes": ["0"]}, {"frames": [[0, "x", 1.0]] * N}, {"frames": None}]
    for wrong in [*([{**result, **change}] for change in changes), [], [result, result]]:
        for left in file.parent.glob("*.jsonl"):
            left.unlink()
        file.write_text(json.dumps(sealed({**row, "results": wrong}, file.parent.name)) + "\n")
        count(asked)
        capsys.readouterr()
        assert get() == plain and count(asked) > 0
        assert f"the row {row['key']} is not of its kind: made again" in capsys.readouterr().err


def test_what_an_interrupted_run_made_is_not_lost(
    make: Make, world: Synthetic, asked: list[str], tiny: SeViLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = world.questions("val")
    monkeypatch.setattr(cache, "BLOCK", 1)
    plain, logits = make_pseudo_labels(tiny, make(stored=False).source, questions), tiny.frame_logits
    first, second = by_video(questions)

    def interrupted(*given: object) -> torch.Tensor:
        if len(asked) == len(first):
            raise KeyboardInterrupt
        return logits(*given)

    count(asked)
    monkeypatch.setattr(tiny, "frame_logits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_pseudo_labels(tiny, make().source, questions)
    assert count(asked) == len(first)
    monkeypatch.setattr(tiny, "frame_logits", logits)
    assert make_pseudo_labels(tiny, make().source, questions) == plain and count(asked) == len(second)


def test_a_video_is_known_by_its_bytes(make: Make, world: Synthetic, asked: list[str], tmp_path: Path) -> None:
    first, other = world.questions("val")[0], world.questions("test")[0]
    make().choose([first])
    count(asked)
    copies = tmp_path / "copies"
    copies.mkdir()
    shutil.copy(world.folder().path(first.video), copies / "renamed.mp4")
    moved = replace(first, video="renamed")
    (chosen,) = make(folder=VideoFolder(copies)).choose([moved])
    assert count(asked) == 0 and chosen.keyframes == make().choose([first])[0].keyframes
    shutil.copy(world.folder().path(other.video), copies / "renamed.mp4")
    make(folder=VideoFolder(copies)).choose([moved])
    assert count(asked) == 1


def test_one_video_under_two_names(make: Make, world: Synthetic, tmp_path: Path) -> None:
    question = world.questions("val")[0]
    for name in ("a", "b"):
        shutil.copy(world.folder().path(question.video), tmp_path / f"{name}.mp4")
    asked = [replace(question, video=name, qid=name) for name in ("a", "b")]
    for _ in range(2):
        chosen = make(folder=VideoFolder(tmp_path)).choose(asked)
        assert [c.question.qid for c in chosen] == ["a", "b"] and chosen[0].frames == chosen[1].frames
