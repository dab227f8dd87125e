"""One's own videos: encoded once, asked about often; misuse is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sevila
from sevila.api import SeViLA
from sevila.data.store import Store
from sevila.data.video import VideoReader
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.prompts import moment_prompt, open_prompt
from sevila.selection.rules import Uniform

QUESTIONS = ["what does the red star hold?", "who enters?"]
OPTIONS = [["a cup", "a key"], ["the circle", "the square", "the star"]]


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return SeViLA.load(dtype="fp32")


@pytest.fixture
def video(encode: Callable[..., Path]) -> Path:
    return encode("v.mp4", 24)


def test_several_questions_cost_one_decoding_and_one_pass_of_the_tower(
    model: SeViLA, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {"decoded": 0, "encoded": 0}
    decode, encode_ = VideoReader.decode, Backbone.encode

    def decoded(*given: Any) -> Any:
        work["decoded"] += 1
        return decode(*given)

    def encoded(*given: Any) -> Any:
        work["encoded"] += 1
        return encode_(*given)

    monkeypatch.setattr(VideoReader, "decode", decoded)
    monkeypatch.setattr(Backbone, "encode", encoded)
    shown = model.encode(video, n_frames=8)
    assert (len(shown), shown.indices, shown.patches.shape[:1]) == (8, (1, 4, 7, 10, 13, 16, 19, 22), (8,))
    together = model.answer(shown, QUESTIONS, OPTIONS, k=2)
    model.localize(shown, QUESTIONS, k=3)
    assert work == {"decoded": 1, "encoded": 1}
    for question, options, answer in zip(QUESTIONS, OPTIONS, together, strict=True):
        alone = model.answer(video, question, options, k=2, n_frames=8)
        assert (alone.option, alone.text, len(alone.keyframes)) == (answer.option, options[answer.option], 2)
        assert alone.logits == pytest.approx(answer.logits, abs=1e-4)
        best = sorted(sorted(alone.frames, key=lambda frame: -frame.score)[:2], key=lambda frame: frame.index)
        assert list(alone.keyframes) == best


def test_an_answer_is_json(model: SeViLA, video: Path) -> None:
    answer = model.answer(video, QUESTIONS[0], OPTIONS[0], k=2, n_frames=4)
    row = json.loads(json.dumps(answer.to_dict()))
    assert list(row) == ["option", "text", "probabilities", "logits", "keyframes", "frames"]
    assert [frame["index"] for frame in row["keyframes"]] == [frame.index for frame in answer.keyframes]
    found = model.localize(video, "a star falls", k=2, n_frames=4)
    assert list(json.loads(json.dumps(found.to_dict()))) == ["keyframes", "frames"]


def test_keyframes_of_an_open_question_or_a_sentence(model: SeViLA, video: Path) -> None:
    shown = model.encode(video, n_frames=6)
    for query, prompt in (
        ("what falls?", open_prompt("what falls?")),
        ("a star falls", moment_prompt("a star falls")),
    ):
        found = model.localize(shown, query, k=2)
        scores = model.model.relevance(shown.patches, [prompt])[0].tolist()
        assert [frame.score for frame in found.frames] == scores
        assert found.positions == tuple(sorted(sorted(range(6), key=lambda i: -scores[i])[:2]))
        assert found.keyframes == tuple(found.frames[i] for i in found.positions)
    assert open_prompt("what falls?").startswith("Question: what falls? Does the information")
    spread = model.localize(shown, ["a", "b"], selector=Uniform(3))
    assert [each.positions for each in spread] == [(1, 3, 5)] * 2


def test_a_clip_and_a_store(model: SeViLA, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevila import build, schema

    assert model.encode(video, n_frames=2, clip=(0.4, 0.8)).indices == (12, 17)
    store: Store | None = build.store(schema.Store(str(tmp_path / "s")), model.model.backbone, model.videos)
    stored = SeViLA(model.model, store=store)
    first = stored.encode(video, n_frames=4)
    monkeypatch.setattr(Backbone, "encode", lambda *_: pytest.fail("encoded anew"))
    again = stored.encode(video, n_frames=4)
    assert torch.equal(first.patches, again.patches) and (first.times, first.indices) == (again.times, again.indices)


MISUSE: list[tuple[Callable[[SeViLA, Path], object], str]] = [
    (lambda m, v: m.answer(v, "what?", "ab"), "options='ab': a plain text; give a list of texts"),
    (lambda m, v: m.answer(v, "what?", ["a"]), "a question needs 2 to 26 options, got 1"),
    (lambda m, v: m.answer(v, "what?", [["a", "b"]]), "options of question: expected texts, found ['a', 'b']"),
    (lambda m, v: m.answer(v, ["q1", "q2"], ["a", "b"]), "options: 2 questions need 2 lists of options, one each"),
    (lambda m, v: m.answer(v, ["q1", "q2"], [["a", "b"]]), "options: 2 questions need 2 lists of options, one each"),
    (lambda m, v: m.answer(v, ["q1", "q2"], [["a", "b"], ["a", 2]]), "options of question 1: expected texts, found 2"),
    (lambda m, v: m.answer(v, "", ["a", "b"]), "question: expected a text, found ''"),
    (lambda m, v: m.localize(v, " "), "query: expected a text, found ' '"),
    (lambda m, v: m.localize(v, "a", k=9, n_frames=8), "k=9: 8 frames were sampled; choose k from 1 to that"),
    (lambda m, v: m.localize(v, "a", k="2"), "k='2': 24 frames were sampled; choose k from 1 to that"),
    (lambda m, v: m.localize(v, []), "query: expected a text or a list of texts, found []"),
    (lambda m, v: m.answer(v, [], []), "question: expected a text or a list of texts, found []"),
    (lambda m, v: m.answer([v], "what?", ["a", "b"]), "video: expected a path or what encode() gives, one at a time"),
    (lambda m, v: m.answer(v, 7, ["a", "b"]), "question: expected a text or a list of texts, found 7"),
    (lambda m, v: m.encode(v, n_frames=0), "n_frames=0: must be a whole number of frames, at least 1"),
    (lambda m, v: m.encode(v.with_name("none.mp4")), "none.mp4: no such video file"),
    (lambda m, v: SeViLA.load(device="gpu"), "device='gpu': must be auto, cpu, cuda or cuda:N"),
    (
        lambda m, v: SeViLA.load(dtype="float8"),
        "dtype='float8': must be auto, fp32, bf16, fp64, published, or one of torch's",
    ),
    (lambda m, v: SeViLA.load(dtype=torch.float16), "dtype=torch.float16: must be auto, fp32, bf16, fp64"),
]


@pytest.mark.parametrize(("call", "message"), MISUSE)
def test_misuse_is_one_line(model: SeViLA, video: Path, call: Callable[[SeViLA, Path], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call(model, video)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert SeViLA.load(device="auto", dtype="auto").model.backbone.device.type == "cpu"
    with pytest.raises(UserError, match=r"^device=cuda: this machine has 0 CUDA GPUs; use device=cpu$"):
        SeViLA.load(device="cuda")


def test_long_texts_keep_their_end(model: SeViLA, video: Path) -> None:
    long = "what is it " * 30
    model.answer(video, long, ["a", "b"], k=1, n_frames=2)
    assert model.model.backbone.truncated == set() and model.model.backbone.text_tokens == 512


def test_the_error_is_exported() -> None:
    assert sevila.UserError is UserError


def test_the_tiny_model_is_told_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    SeViLA.load("tiny")
    assert capsys.readouterr().err == ""
    SeViLA.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sevila: warning: no model is named: this is the tiny one of the drawn world")
