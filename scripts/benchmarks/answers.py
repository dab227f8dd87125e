"""One question, and several about one video: from normalised frames in memory to option logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.baseline import Plain
from benchmarks.subject import FRAMES, KEYFRAMES, OPTIONS, Asked, Subject, pictures, questions
from benchmarks.timing import Row, compared, interleaved
from sevila.model.sevila import SeViLA

TOLERANCE = 1e-4  # of logits in float32
ENOUGH = 99.0  # percent of the fastest setting's answers that must be float32's
VIDEOS, SAMPLED = 20, 8  # of the agreement: videos, and frames sampled of each


@dataclass(frozen=True)
class Result:
    """Of M questions: frames' scores [M, T], keyframes, letters' logits [M, A]."""

    scores: Tensor
    keyframes: list[list[int]]
    logits: Tensor

    @property
    def choices(self) -> list[int]:
        return self.logits.argmax(-1).tolist()

    def equals(self, other: Result) -> bool:
        """The same keyframes and choices, and all logits within the tolerance."""
        return (
            self.keyframes == other.keyframes and self.choices == other.choices and self.difference(other) <= TOLERANCE
        )

    def difference(self, other: Result) -> float:
        scores = (self.scores - other.scores).abs().max()
        return max(float(scores), float((self.logits - other.logits).abs().max()))


def prompts_of(model: SeViLA, asked: Sequence[Asked]) -> tuple[list[str], list[str]]:
    localize = [model.prompts.localize(a.question, a.options) for a in asked]
    return localize, [model.prompts.answer(a.question, a.options) for a in asked]


def plainly(plain: Plain, model: SeViLA, pixels: Tensor, asked: Sequence[Asked]) -> Result:
    """Question by question."""
    rows = [plain.answer(pixels, *texts, OPTIONS, KEYFRAMES) for texts in zip(*prompts_of(model, asked), strict=True)]
    scores, keyframes, logits = zip(*rows, strict=True)
    return Result(torch.stack(scores).float(), list(keyframes), torch.stack(logits).float())


@torch.no_grad()
def together(model: SeViLA, pixels: Tensor, asked: Sequence[Asked]) -> Result:
    """This library's way: the video is encoded once."""
    localize, answer = prompts_of(model, asked)
    patches = model.backbone.encode(pixels)
    scores = model.relevance(patches, localize)
    best = scores.argsort(dim=-1, descending=True, stable=True)[:, :KEYFRAMES]
    keyframes = best.sort(-1).values.tolist()
    logits = torch.stack(model.option_logits(patches, keyframes, answer, [OPTIONS] * len(asked)))
    return Result(scores, keyframes, logits)


def measure(
    name: str,
    subject: Subject,
    plain: Plain,
    fused: Plain,
    fast: SeViLA,
    count: int,
    runs: int,
    targets: tuple[float, float],
    agreement: dict[str, Any],
) -> list[Row]:
    """`count` questions about one video: in float32, and in the fastest setting, whose row is equal by `agreement`."""
    pixels = pictures(FRAMES, subject.sevila.backbone.image_size, seed=count)
    asked = questions(count, seed=count)
    ways: dict[str, Any] = {
        "eager": lambda: plainly(plain, subject.sevila, pixels, asked),
        "ours": lambda: together(subject.sevila, pixels, asked),
        "fast": lambda: together(fast, pixels, asked),
        "sdpa": lambda: plainly(fused, subject.sevila, pixels, asked),
    }
    together(fast, pixels, asked)
    seconds, found = interleaved(ways, runs, warm=count == 1)
    true = found["eager"]

    def notes(way: str) -> dict[str, Any]:
        return {
            "sdpa_baseline_ratio": round(seconds["sdpa"].wall / seconds[way].wall, 3),
            "largest_difference": found[way].difference(true),
            "equal_answers": sum(a == b for a, b in zip(found[way].choices, true.choices, strict=True)),
            "questions": count,
        }

    agreed = agreement["equal_answers_percent"] >= ENOUGH
    exact = found["ours"].equals(true)
    return [
        compared(name, seconds["eager"], seconds["ours"], exact, runs, targets[0], notes("ours")),
        compared(
            f"{name}_fastest", seconds["eager"], seconds["fast"], agreed, runs, targets[1],
            {"precision": str(fast.backbone.dtype), **notes("fast"), **agreement},
        ),
    ]  # fmt: skip


def agreement(model: SeViLA, fast: SeViLA, count: int) -> dict[str, Any]:
    """How many of `count` questions, about different videos, the fastest setting answers as float32 does.

    Float32 is this library's here, which `measure` compares with the baseline: 200 questions, each by itself, would
    take the baseline half an hour. Margins are those between the best and the second letter in float32.
    """
    each = -(-count // VIDEOS)
    pairs: list[tuple[Result, Result]] = []
    for video in range(VIDEOS):
        asked = questions(min(each, count - each * video), seed=100 + video) if count > each * video else []
        if asked:
            pixels = pictures(SAMPLED, model.backbone.image_size, seed=100 + video)
            pairs.append((together(model, pixels, asked), together(fast, pixels, asked)))
    equal = [a == b for exact, half in pairs for a, b in zip(exact.choices, half.choices, strict=True)]
    frames = [a == b for exact, half in pairs for a, b in zip(exact.keyframes, half.keyframes, strict=True)]
    logits = torch.cat([exact.logits for exact, _ in pairs])
    top = logits.topk(2, dim=-1).values
    margins = (top[:, 0] - top[:, 1]).quantile(torch.tensor([0.01, 0.05, 0.5])).tolist()
    return {
        "agreement_questions": len(equal),
        "equal_answers_percent": round(100 * sum(equal) / len(equal), 2),
        "equal_keyframes_percent": round(100 * sum(frames) / len(frames), 2),
        "margin_quantiles_1_5_50": [round(margin, 4) for margin in margins],
        "answers_by_letter": logits.argmax(-1).bincount(minlength=OPTIONS).tolist(),
    }
