"""What the shipped backbone can do, measured through the library's own loading path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from sevila.data.transforms import evaluation_transform
from sevila.model.backbone import Backbone
from sevila.synthetic import draw
from tiny_backbone import language, lessons, vision

LESSON_BATCHES, LESSONS_A_BATCH, FRAMES = 120, 32, 2048


class _Eyes(nn.Module):
    """The backbone's own vision side: uint8 frames -> soft tokens."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.backbone.zeroshot(self.backbone.encode(evaluation_transform(frames)))


def _text(backbone: Backbone, exam: Sequence[lessons.Lesson]) -> dict[str, float]:
    """Percent of lessons said right to the last token, words standing for frames: by kind and number of frames."""
    right: dict[str, list[bool]] = defaultdict(list)
    scores = language.correct(backbone.language, language.Reader(backbone.tokenizer), exam)
    for lesson, ok in zip(exam, scores, strict=True):
        kind, _, family = lesson.kind.partition("/")
        right[f"{kind}, {len(lesson.scenes)} frames"].append(ok)
        if kind == "letter":
            right[f"letter/{family}, 4 frames"] += [ok] if len(lesson.scenes) == 4 else []
    return {kind: round(100 * sum(oks) / len(oks), 2) for kind, oks in sorted(right.items()) if oks}


@torch.no_grad()
def measure(backbone: Backbone, seed: int) -> dict[str, dict[str, float]]:
    """`text`: lessons that no training step drew; `frames`: words read off painted frames, by style."""
    exam = [
        lesson for i in range(LESSON_BATCHES) for lesson in lessons.batch(lessons.exam_seed(seed, i), LESSONS_A_BATCH)
    ]
    words = vision.words_of(backbone.tokenizer, backbone.language.shared.weight)
    frames = {}
    for style in (draw.PLAIN, draw.WIDE, draw.COLLAGE, draw.SKETCH):
        painted, scenes = vision.exam(FRAMES, style, seed)
        seen = vision.score(_Eyes(backbone), words, painted, scenes)
        frames[style.name] = {name: round(value, 2) for name, value in seen.items()}
    return {"text": _text(backbone, exam), "frames": frames}
