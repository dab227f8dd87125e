"""The forward chain over many questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sevila import api
from sevila.benchmarks.synthetic import Synthetic
from sevila.data.dataset import VideoSource
from sevila.data.folders import VideoFolder
from sevila.data.records import Question
from sevila.data.video import CachedVideos
from sevila.model.backbone import Backbone
from sevila.model.sevila import ScoredFrame, SeViLA
from sevila.selection.rules import LocalizerTopK, Oracle, Uniform
from sevila.synthetic.world import encode
from sevila.tasks import cache
from sevila.tasks.chain import Chosen, ForwardChain, Prediction, chain_metrics, selection_metrics

Make = Callable[..., ForwardChain]


def close(a: Prediction, b: Prediction) -> bool:
    """Whether two predictions differ by no more than rounding."""
    scores = [[f.score for f in p.frames] for p in (a, b)]
    return (
        (a.question, a.keyframes, a.prediction) == (b.question, b.keyframes, b.prediction)
        and torch.allclose(torch.tensor(a.option_logits), torch.tensor(b.option_logits), atol=1e-4)
        and torch.allclose(torch.tensor(scores[0]), torch.tensor(scores[1]), atol=1e-4)
    )


def test_results_come_in_the_questions_order(make_chain: Make, world: Synthetic) -> None:
    questions = world.questions("val") + world.questions("test")
    mixed = questions[::3] + questions[1::3] + questions[2::3]
    chain = make_chain()
    predictions = chain.predict(mixed)
    assert [p.question for p in predictions] == mixed
    assert [(c.question, c.keyframes) for c in chain.choose(mixed)] == [(p.question, p.keyframes) for p in predictions]
    assert all(p.prediction == max(range(5), key=lambda i: p.option_logits[i]) for p in predictions)
    for p in predictions:
        best = sorted(sorted(range(8), key=lambda i: -p.frames[i].score)[:3])
        assert list(p.keyframes) == best


def test_a_prediction_does_not_depend_on_the_other_questions(make_chain: Make, world: Synthetic) -> None:
    questions = world.questions("test")
    questions[1] = replace(questions[1], options=questions[1].options[:2], answer=None)
    chain = make_chain()
    together = {p.question.qid: p for p in chain.predict(questions)}
    for question in questions[:4] + questions[-1:]:
        (alone,) = chain.predict([question])
        assert close(alone, together[question.qid])
        assert len(alone.option_logits) == len(question.options)


def test_the_chain_is_the_models_own_answer(make_chain: Make, world: Synthetic, tiny: SeViLA) -> None:
    question = world.questions("val")[2]
    (prediction,) = make_chain().predict([question])
    path = world.folder().path(question.video)
    answer = api.SeViLA(tiny).answer(path, question.question, question.options, k=3, n_frames=8)
    assert answer.option == prediction.prediction and answer.text == question.options[prediction.prediction]
    assert [f.index for f in answer.keyframes] == [prediction.frames[i].index for i in prediction.keyframes]
    assert answer.probabilities == pytest.approx(torch.tensor(prediction.option_logits).softmax(-1).tolist(), abs=1e-4)
    scores = [frame.score for frame in prediction.frames]
    assert [frame.score for frame in answer.frames] == pytest.approx(scores, abs=1e-4)


def test_keyframes_chosen_before_are_kept(make_chain: Make, world: Synthetic) -> None:
    questions = world.questions("val")[::-1]
    chain = make_chain()
    first = chain.predict(questions)
    again = chain.predict(questions, chosen=chain.choose(questions))
    assert all(close(a, b) for a, b in zip(first, again, strict=True))
    moved = [replace(c, keyframes=(0, 7)) for c in chain.choose(questions)]
    others = chain.predict(questions, chosen=moved)
    uniform = make_chain(Uniform(2)).predict(questions)
    assert {p.keyframes for p in others} == {(0, 7)} and {p.keyframes for p in uniform} == {(2, 6)}
    assert [p.option_logits for p in others] != [p.option_logits for p in uniform]


def test_k_is_cut_to_a_short_video(tiny: SeViLA, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    encode(pixels, tmp_path / "short.mp4")
    encode(pixels.repeat(4, 1, 1, 1), tmp_path / "long.mp4")
    source = VideoSource(CachedVideos(64), VideoFolder(tmp_path), 8)
    chain = ForwardChain(tiny, LocalizerTopK(4), source)
    questions = [Question("a", "short", "what?", ("x", "y")), Question("b", "long", "what?", ("x", "y"))]
    short, long = chain.predict(questions)
    assert (short.keyframes, len(short.frames)) == ((0, 1, 2), 3)
    assert (len(long.keyframes), len(long.frames)) == (4, 8)


def test_an_interrupted_prediction_goes_on(
    make_chain: Make, world: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    questions = world.questions("val") + world.questions("test")
    plain = make_chain().predict(questions)
    monkeypatch.setattr(cache, "ANSWERS", 1)
    answered: list[int] = []
    original = ForwardChain._answer

    def answer(self: ForwardChain, chosen: list[Chosen], patches: torch.Tensor) -> list[Prediction]:
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(len(chosen))
        return original(self, chosen, patches)

    monkeypatch.setattr(ForwardChain, "_answer", answer)
    with pytest.raises(KeyboardInterrupt):
        make_chain().predict(questions, keep=tmp_path)
    known, answered[:] = sum(answered), [0]
    monkeypatch.setattr(ForwardChain, "_answer", lambda *given: (answered.append(len(given[1])), original(*given))[1])
    assert make_chain().predict(questions, keep=tmp_path) == plain  # logits to the bit
    assert sum(answered) == len(questions) - known > 0 < known
    reworded = [replace(questions[0], question="who?"), *questions[1:]]  # makes its whole video new
    answered[:] = [0]
    make_chain().predict(reworded, keep=tmp_path)
    assert sum(answered) == sum(question.video == questions[0].video for question in questions)
    assert f"sevila: {known} questions were answered before" in capsys.readouterr().err


def test_answers_come_as_they_are_made(
    make_chain: Make, world: Synthetic, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first ones while the other videos are untouched; kept ones first, row by row."""
    questions = world.questions("val")
    whole = dict(enumerate(make_chain().predict(questions)))
    encoded = [0]
    encode = Backbone.encode
    monkeypatch.setattr(Backbone, "encode", lambda *words: encoded.append(1) or encode(*words))
    answers = make_chain().answers(questions, keep=tmp_path)
    first = dict([next(answers)])
    assert first.items() <= whole.items() and sum(encoded) == 1
    answers.close()
    encoded[:] = [0]
    assert dict(make_chain().answers(questions, keep=tmp_path)) == whole
    assert sum(encoded) == len({question.video for question in questions}) - 1


def test_a_selector_without_scores(make_chain: Make, world: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeViLA, "relevance", lambda *_: pytest.fail("the Localizer was asked"))
    questions = world.questions("val")
    for prediction in make_chain(Uniform(4), 8).predict(questions):
        assert prediction.keyframes == (1, 3, 5, 7) and {f.score for f in prediction.frames} == {None}
        assert prediction.to_json()["frames"][0] == {"index": 4, "time": 1.0, "score": None}
    chosen = make_chain(Oracle(2), 32).choose(questions)
    assert selection_metrics(chosen) == {"keyframe_recall": 100.0, "keyframe_hit": 100.0}


def test_a_line_of_predictions() -> None:
    question = Question("q", "v", "what?", ("a", "b"), 1, "why")
    frames = (ScoredFrame(3, 1.00049, 2.12345678), ScoredFrame(9, 3.0, -1e-9))
    for votes in (None, (0,)):
        whole = Prediction(question, frames, (1,), 0, (0.123456789, -1.0), votes)
        assert Prediction.from_row(question, json.loads(json.dumps(whole.to_row()))) == whole
    assert Prediction(question, frames, (1,), 0, (0.123456789, -1.0)).to_json() == {
        "qid": "q",
        "video": "v",
        "qtype": "why",
        "answer": 1,
        "prediction": 0,
        "option_logits": [0.123457, -1.0],
        "keyframes": [{"index": 9, "time": 3.0, "score": -1e-9}],
        "frames": [{"index": 3, "time": 1.0, "score": 2.12346}, {"index": 9, "time": 3.0, "score": -1e-9}],
    }


def test_metrics_by_hand() -> None:
    frames = tuple(ScoredFrame(i, float(i), None) for i in range(4))
    rows = [  # answer, prediction, type, keyframes, windows
        (0, 0, "x", (0, 1), ((1.0, 2.0),)),  # one of two true frames
        (1, 0, "x", (2, 3), ((3.0, 9.0),)),  # the only one
        (2, 2, "y", (0, 1), ((0.2, 0.8),)),  # no frame is true: left out
        (None, 1, "y", (0, 3), ((1.0, 2.0),)),  # none of two; its answer is hidden
    ]
    predictions = [
        Prediction(Question(str(i), "v", "?", ("a", "b", "c"), a, t, None, w), frames, k, p, (0.0, 0.0, 0.0))
        for i, (a, p, t, k, w) in enumerate(rows)
    ]
    assert chain_metrics(predictions) == {
        "accuracy": 66.67,
        "accuracy_by_type": {"x": 50.0, "y": 100.0},
        "n": 3,
        "keyframe_recall": 50.0,
        "keyframe_hit": 66.67,
    }
    pruned = [prediction.pruned() for prediction in predictions]
    assert chain_metrics(pruned) == chain_metrics(predictions)
    assert [[frame.index for frame in p.frames] for p in pruned] == [[0, 1, 2], [2, 3], [0, 1], [0, 1, 2, 3]]
    free = replace(predictions[1], question=replace(predictions[1].question, windows=None)).pruned()
    assert [frame.index for frame in free.frames] == [2, 3] and free.keyframes == (0, 1)
    unknown = [Chosen(replace(predictions[0].question, windows=None), frames, (0,))]
    assert selection_metrics(unknown) == {}
