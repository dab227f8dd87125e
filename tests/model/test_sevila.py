"""The chain over one video: results that are no numbers are refused, whatever made them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sevila import api
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.records import EncodedVideo
from sevila.model.sevila import Localizer, SeViLA


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return api.SeViLA.load(dtype=torch.float32).model


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_and_logits_that_are_no_numbers(model: SeViLA, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    patches = torch.randn(3, 17, 128, generator=torch.Generator().manual_seed(0))
    calls: dict[str, Callable[[], object]] = {
        "a frame's score": lambda: model.relevance(patches, ["is it red?"]),
        "an option's logit": lambda: model.option_logits(patches, [[0, 2]], ["is it red?"], [2]),
        "an option's logit ": lambda: model.single_frame_logits(patches, ["is it red?"], [2]),
    }
    for call in calls.values():
        call()
    logits = Backbone.logits

    def spoilt(self: Backbone, states: Tensor, ids: object = None) -> Tensor:
        found = logits(self, states, ids)
        found[..., 0] = value
        return found

    monkeypatch.setattr(Backbone, "logits", spoilt)
    for what, call in calls.items():
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == (
            f"{what.strip()} is NaN or infinite for the prompt 'is it red?'; "
            "run the model in float32 or bfloat16 (float16 overflows in T5)"
        )


def test_the_prompt_that_failed_is_named(model: SeViLA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though all results come back together."""
    videos = [video(seed, 3) for seed in range(3)]
    questions = [Question("", "", f"{thing}?", ()) for thing in ("first", "second", "third")]
    seen: list[str] = []
    word_logits = Localizer.word_logits

    def spoilt(self: Localizer, soft: Tensor, texts: list[str], *more: object) -> Tensor:
        found = word_logits(self, soft, texts, *more)
        seen.extend(texts)
        return found + torch.tensor([[float("nan") if "second" in text else 0.0] for text in texts])

    monkeypatch.setattr(Localizer, "word_logits", spoilt)
    with pytest.raises(UserError, match=r"a frame's score is NaN or infinite for the prompt 'Question: second\?"):
        model.localize_each(videos, questions)
    assert "third" in seen[-1]


# -- several videos or questions in one call ---


def video(seed: int, frames: int) -> EncodedVideo:
    patches = torch.randn(frames, 17, 128, generator=torch.Generator().manual_seed(seed))
    return EncodedVideo(tuple(range(frames)), tuple(map(float, range(frames))), patches)


QUESTIONS = [
    Question("", "", "what does the red star hold?", ("a cup", "a key")),
    Question("", "", "is it red?", ("yes", "no", "who can say what colour it is")),
    Question("", "", "where is the blue moon?", ("up", "down")),
]


def test_a_batch_is_scored_as_its_videos_are(model: SeViLA) -> None:
    """To the bit on a CPU, whatever the videos' lengths."""
    videos = [video(seed, frames) for seed, frames in enumerate((5, 2, 7))]
    for together, encoded, question in zip(model.localize_each(videos, QUESTIONS), videos, QUESTIONS, strict=True):
        assert torch.equal(together, model.localize(encoded, [question]))


def test_on_a_gpu_a_batch_shares_passes(model: SeViLA, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [video(seed, frames) for seed, frames in enumerate((5, 2, 7))]
    alone = model.localize_each(videos, QUESTIONS)
    sizes: list[int] = []
    word_logits = Localizer.word_logits

    def counted(self: Localizer, soft: Tensor, *more: object) -> Tensor:
        sizes.append(len(soft))
        return word_logits(self, soft, *more)

    monkeypatch.setattr(Localizer, "word_logits", counted)
    monkeypatch.setattr(SeViLA, "_apart", False)
    joined = model.localize_each(videos, QUESTIONS)
    assert sizes == [14]
    monkeypatch.setattr(model.backbone, "tokens", 400)  # a few rows a pass, which part and mix the videos
    parted = model.localize_each(videos, QUESTIONS)
    assert len(sizes) > 3 and sum(sizes) == 28
    for found in (joined, parted):
        for own, expected in zip(found, alone, strict=True):
            torch.testing.assert_close(own, expected, atol=1e-4, rtol=0)


def test_questions_are_answered_together_as_alone(model: SeViLA) -> None:
    encoded, picked = video(1, 6), [[0, 5], [1, 2, 3], [4, 5]]
    texts, numbers = model.answerer_prompts(QUESTIONS), [len(q.options) for q in QUESTIONS]
    together = model.option_logits(encoded.patches, picked, texts, numbers)
    votes = model.single_frame_logits(encoded.patches, texts, numbers, picked)
    whole = model.single_frame_logits(encoded.patches, texts, numbers)
    for m, (text, number) in enumerate(zip(texts, numbers, strict=True)):
        (alone,) = model.option_logits(encoded.patches, [picked[m]], [text], [number])
        torch.testing.assert_close(together[m], alone, atol=1e-4, rtol=0)
        with torch.no_grad():
            soft = model.answerer.head(encoded.patches[picked[m]])
            vote = model.answerer.option_logits(soft[:, None], [text] * len(soft), number, numbered=False)
        assert torch.equal(votes[m], vote) and votes[m].shape == (len(picked[m]), number)
        torch.testing.assert_close(votes[m], whole[m][picked[m]], atol=1e-4, rtol=0)


def test_groups_of_rows_are_those_alone(model: SeViLA) -> None:
    """To the bit: groups share no pass. Behind a row's own options stands -inf."""
    with torch.no_grad():
        soft = [model.answerer.head(video(seed, frames).patches) for seed, frames in enumerate((4, 3))]
    texts, numbers = [["is it red?"] * 4, ["is it blue?", "what is it?", "is it blue?"]], [[3] * 4, [2, 5, 2]]
    together = model.frame_logits(soft, texts, numbers)
    for group in range(2):
        (alone,) = model.frame_logits([soft[group]], [texts[group]], [numbers[group]])
        assert torch.equal(together[group], alone)
    assert together[1].isneginf().tolist() == [[False] * 2 + [True] * 3, [False] * 5, [False] * 2 + [True] * 3]
    assert model.frame_logits([], [], []) == []


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/no/such/home")
    with pytest.raises(UserError, match=r"^model\.source=/no/such/home/blip2: "):
        api.SeViLA.load("~/blip2")
    with pytest.raises(UserError, match=r"^localizer=/no/such/home/R1: "):
        api.SeViLA.load(localizer="~/R1")
