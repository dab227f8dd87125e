"""From keyframes to an answer: read together, or by vote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from sevila import api
from sevila.benchmarks.synthetic import Synthetic
from sevila.data.records import Question
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.tasks.chain import ForwardChain, Joint, Prediction, Voting, any_frame

QUESTION = Question("q", "v", "what is it", ("a", "b", "c"), 1)


class Scripted:
    """A model whose option logits are given."""

    prompts = api.SeViLA.load().model.prompts

    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = torch.tensor(logits)

    def answerer_prompts(self, questions: list[Question]) -> list[str]:
        return [self.prompts.answer(question.question, question.options) for question in questions]

    def single_frame_logits(
        self, patches: torch.Tensor, texts: list[str], options: list[int], positions: list[list[int]]
    ) -> list[torch.Tensor]:
        assert options == [3] and len(texts) == 1
        return [self.logits[patches[row, 0, 0].long()] for row in positions]


def vote(logits: list[list[float]], keyframes: list[int]) -> tuple[int, tuple[int, ...]]:
    patches, shown = torch.arange(len(logits)).float().view(-1, 1, 1), tuple(range(len(logits)))
    (answer,) = Voting().answer(Scripted(logits), EncodedVideo(shown, shown, patches), [QUESTION], [keyframes])
    return answer.option, answer.votes


def test_the_majority_wins_whatever_the_margins() -> None:
    logits = [[0.1, 0.0, 0.0], [0.1, 0.0, 0.0], [-9.0, 9.0, -9.0], [-9.0, 9.0, -9.0]]
    assert vote(logits, [0, 1, 2]) == (0, (0, 0, 1))
    assert vote(logits, [1, 2, 3]) == (1, (0, 1, 1))


def test_a_tie_goes_to_the_likelier_of_the_tied_options() -> None:
    logits = [[5.0, 0.0, 4.9], [0.0, 1.0, 0.9], [3.0, 0.0, 2.9], [0.0, 1.0, 0.9]]
    assert vote(logits, [0, 1, 2, 3]) == (0, (0, 1, 0, 1))  # option 2 is likeliest of all, but nobody's vote
    flipped = [[row[1], row[0], row[2]] for row in logits]
    assert vote(flipped, [0, 1, 2, 3]) == (1, (1, 0, 1, 0))


def test_the_numbers_of_a_vote_are_mean_log_probabilities() -> None:
    logits = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]
    video = EncodedVideo((0, 1), (0.0, 1.0), torch.tensor([0.0, 1.0]).view(-1, 1, 1))
    (answer,) = Voting().answer(Scripted(logits), video, [QUESTION], [[0, 1]])
    expected = torch.tensor(logits).log_softmax(-1).mean(0)
    assert answer.logits == pytest.approx(expected.tolist())


def test_one_frame_votes_as_the_model_answers_from_it_alone(
    make_chain: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA
) -> None:
    chain = replace(make_chain(), answering=Voting())
    for prediction in chain.predict(world.questions("val")[:3]):
        assert prediction.votes is not None and len(prediction.votes) == 3
        assert prediction.to_json()["votes"] == list(prediction.votes)
        assert prediction.votes.count(prediction.prediction) == max(map(prediction.votes.count, prediction.votes))
        sample = next(iter(chain.source.walk([prediction.question])))[1]
        patches = tiny.backbone.encode(sample.pixels)[list(prediction.keyframes)]
        text = tiny.prompts.answer(prediction.question.question, prediction.question.options)
        (alone,) = tiny.single_frame_logits(patches, [text], [len(prediction.question.options)])
        assert prediction.votes == tuple(alone.argmax(-1).tolist())


def test_joint_answers_have_no_votes(make_chain: Callable[..., ForwardChain], world: Synthetic) -> None:
    (prediction,) = make_chain().predict(world.questions("val")[:1])
    assert isinstance(make_chain().answering, Joint)
    assert prediction.votes is None and "votes" not in prediction.to_json()


def test_any_frame_counts_questions_with_one_right_vote() -> None:
    def voted(answer: int | None, votes: tuple[int, ...] | None) -> Prediction:
        return Prediction(replace(QUESTION, answer=answer), (), (), 0, (), votes)

    rows = [voted(1, (0, 2, 1)), voted(1, (0, 2, 2)), voted(0, (0,)), voted(None, (0, 1, 2))]
    assert any_frame(rows) == {"oracle_any_frame": 66.67}
    assert any_frame([voted(1, None)]) == {}
