"""Scorers that ask the Localizer, and the registry of scorers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sevila.config import load
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection import SCORERS, build_scorer
from sevila.selection.rules import Candidates, LocalizerTopK
from sevila.selection.scorers import (
    GroupScorer,
    JointLocalizerScorer,
    LocalizerScorer,
    LongImageScorer,
    question_text,
)


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


def test_the_localizer(sevila: SeViLA, encoded: EncodedVideo, questions: list[Question]) -> None:
    scores = LocalizerScorer(sevila).score(encoded, questions).tolist()
    texts = [sevila.prompts.localize(q.question, q.options) for q in questions]
    assert scores == sevila.relevance(encoded.patches, texts).tolist()
    assert len(scores) == 3 and len(set(scores[0])) == 10


def test_neighbours_read_together_share_a_score(
    sevila: SeViLA, encoded: EncodedVideo, patches: Tensor, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = JointLocalizerScorer(sevila).score(encoded, questions)
    assert scores.shape == (3, 10)
    groups = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    backbone, soft = sevila.backbone, sevila.localizer.head(patches)
    for m, question in enumerate(questions):
        text = sevila.prompts.localize(question.question, question.options)
        for group in groups:
            embeds, mask = backbone.assemble(soft[None, group], [text], numbered=True)
            start = torch.tensor([[backbone.start]])
            said = backbone.language(
                inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=start
            )  # transformers' own pass, logits of the whole vocabulary
            expected = float(said.logits[0, 0, backbone.token("yes")])
            assert scores[m, group].tolist() == pytest.approx([expected] * len(group), abs=1e-4)
    assert len({round(score, 4) for score in scores.flatten().tolist()}) == 9
    monkeypatch.setattr(sevila.backbone, "tokens", 1)  # one group a pass
    again = JointLocalizerScorer(sevila).score(encoded, questions)
    torch.testing.assert_close(again, scores, atol=1e-4, rtol=0)


def test_four_frames_are_one_long_image(
    sevila: SeViLA, encoded: EncodedVideo, patches: Tensor, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: layer norm, Q-Former and projection over the patches of four frames, then transformers' own T5."""
    scores = LongImageScorer(sevila).score(encoded, questions)
    assert scores.shape == (3, 10)
    head, backbone = sevila.localizer.head, sevila.backbone
    words = backbone.language.shared
    for group in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
        long_image = torch.cat([patches[i] for i in group])[None]
        assert long_image.shape == (1, len(group) * patches.shape[1], patches.shape[2])
        read = head.qformer(query_embeds=head.queries, encoder_hidden_states=head.norm(long_image))
        soft = head.projection(read.last_hidden_state)
        assert soft.shape[1] == head.config.queries  # one set of soft tokens, not one a frame
        for m, question in enumerate(questions):
            text = sevila.prompts.localize(question.question, question.options)
            ids = torch.tensor([backbone.tokenizer(text).input_ids])
            embeds = torch.cat([words(torch.tensor([backbone.prefix(None)])), soft, words(ids)], dim=1)
            said = backbone.language(inputs_embeds=embeds, decoder_input_ids=torch.tensor([[backbone.start]]))
            expected = float(said.logits[0, 0, backbone.token("yes")])
            assert scores[m, group].tolist() == pytest.approx([expected] * len(group), abs=1e-4)
    assert len({round(score, 4) for score in scores.flatten().tolist()}) == 9
    joint = JointLocalizerScorer(sevila).score(encoded, questions)
    assert (joint - scores).abs().min() > 1e-3  # another reading


def test_a_long_image_of_one_frame_is_that_frame(
    sevila: SeViLA, encoded: EncodedVideo, questions: list[Question]
) -> None:
    alone, plain = LongImageScorer(sevila, 1), LocalizerScorer(sevila)
    assert torch.equal(alone.score(encoded, questions), plain.score(encoded, questions))


def test_the_best_group_becomes_the_keyframes(sevila: SeViLA, encoded: EncodedVideo, questions: list[Question]) -> None:
    """k of a group's size: the whole group; a smaller k: its earliest frames."""
    eight = EncodedVideo(encoded.indices[:8], encoded.times[:8], encoded.patches[:8])
    scores = LongImageScorer(sevila).score(eight, questions[:1])[0].tolist()
    best = max((0, 4), key=lambda first: scores[first])
    candidates = Candidates("1", eight.times, eight.indices, scores)
    assert LocalizerTopK(2).select(candidates) == [best, best + 1]
    assert LocalizerTopK(4).select(candidates) == [best, best + 1, best + 2, best + 3]


@pytest.mark.parametrize("kind", [JointLocalizerScorer, LongImageScorer])
@pytest.mark.parametrize("together", [1, 3, 10, 16])
def test_any_size_of_group(
    sevila: SeViLA,
    encoded: EncodedVideo,
    questions: list[Question],
    kind: type[GroupScorer],
    together: int,
) -> None:
    scores = kind(sevila, together).score(encoded, questions[:1])[0].tolist()
    assert len(scores) == 10
    assert all(scores[i] == scores[i - i % together] for i in range(10))


def test_plain_text_of_a_question(questions: list[Question]) -> None:
    assert question_text(questions[0]) == "what does the red star hold? a cup a key"
    assert question_text(replace(questions[0], question="")) == "a cup a key"


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ({"name": "localiser"}, "scorer.name=localiser: unknown (did you mean 'localizer'?)"),
        ({"name": "localizer", "frames": 4}, "unknown key 'scorer.frames'; scorer localizer has: name"),
        ({"name": "localizer_joint", "frames": 0}, "scorer.frames=0: must be a whole number"),
        ({"name": "localizer_long_image", "frames": 0}, "scorer.frames=0: must be a whole number"),
        ({"name": "localizer", "sevila": 1}, "unknown key 'scorer.sevila'"),
        ({"name": "atp"}, "scorer.file has no value: scorer atp needs it"),
    ],
)
def test_bad_scorers(sevila: SeViLA, node: dict, problem: str) -> None:
    with pytest.raises(UserError) as raised:
        build_scorer(node, sevila)
    assert problem in str(raised.value)


def test_every_rule_and_scorer_has_its_config(sevila: SeViLA, tmp_path: Path) -> None:
    """The files of configs/ name what there is, with keys that it takes."""
    folder = Path(__file__).resolve().parents[2] / "configs"
    assert {path.stem for path in (folder / "scorer").glob("*.yaml")} == set(SCORERS)
    for name in ("localizer", "localizer_joint", "localizer_long_image"):
        node = load("eval", [f"scorer={name}"]).scorer
        assert node["name"] == name and build_scorer(node, sevila) is not None
    spans = tmp_path / "spans.jsonl"
    spans.write_text("")
    from sevila.schema import named
    from sevila.selection import SELECTORS

    for name in SELECTORS:
        extra = [f"selector.file={spans}"] if name in ("stored", "windows") else []
        node = load("eval", [f"selector={name}", *extra]).selector
        assert type(named("selector", node, SELECTORS)) is SELECTORS[name]
