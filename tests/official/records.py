"""The golden inputs as this library's records, batches and frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from official.golden import Golden
from sevila.data.dataset import Batch, Record, Sample
from sevila.data.records import Moment, Question
from sevila.data.video import Frames
from sevila.model.prompts import letters
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK
from sevila.tasks.chain import ForwardChain


def questions(golden: Golden) -> list[Question]:
    return [
        Question(qid, str(row), str(row), letters(golden.options), golden.answers[row])
        for row, qid in enumerate(golden.meta["inputs"]["question_id"])
    ]


def moments(golden: Golden) -> list[Moment]:
    """A second a frame; every frame that the official code calls "yes" is a window of its own."""
    inputs = golden.meta["inputs_fmr"]
    rows = []
    for row, (text, labels) in enumerate(zip(inputs["loc_input"], inputs["qa_output"], strict=True)):
        query = re.match(r"Question: (.*) Option A: yes\. ", text)[1]
        windows = tuple((float(i), float(i)) for i, word in enumerate(labels.split("_")) if word == "yes")
        rows.append(Moment(inputs["question_id"][row], str(row), query, float(golden.frames), windows))
    return rows


def batch(golden: Golden, records: Sequence[Record]) -> Batch:
    shown = list(range(golden.frames))
    mask = torch.ones(golden.videos, golden.frames, dtype=torch.bool)
    return Batch(list(records), golden.pixels, mask, [shown] * len(records), [[float(i) for i in shown]] * len(records))


@dataclass(frozen=True)
class GoldenFrames:
    """Stands where a `VideoSource` would: the golden frames are not decoded but given."""

    golden: Golden
    store: ClassVar[None] = None

    def walk(self, records: Sequence[Record], label: str | None = None) -> Iterator[tuple[list[int], Sample]]:
        shown = tuple(range(self.golden.frames))
        for row, record in enumerate(records):
            pixels = self.golden.pixels[int(record.video)]
            yield [row], Sample(record, Frames(pixels, shown, tuple(map(float, shown))), pixels)


def chain(golden: Golden, model: SeViLA, k: int) -> ForwardChain:
    return ForwardChain(model, LocalizerTopK(k), GoldenFrames(golden))


def repeated(texts: Sequence[str], times: int) -> list[str]:
    """One row a frame."""
    return [text for text in texts for _ in range(times)]
