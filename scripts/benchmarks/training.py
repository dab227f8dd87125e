"""Epochs of the two trainings with a warm store, and evaluation from files, on real files of video.

The plain epoch does what the official code does for every row: decode, run the tower, choose keyframes by `generate`
(or label the frames with the frozen Answerer), and only then learn. Dropout is off, so that losses can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.baseline import Plain
from benchmarks.subject import FRAMES, KEYFRAMES, OPTIONS, questions
from benchmarks.timing import Row, compared, interleaved
from sevila.data.dataset import Batch, Sample, VideoSource
from sevila.data.folders import AnyFile
from sevila.data.loading import stream
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames, ordered_keys, uniform_indices
from sevila.data.store import Store
from sevila.data.transforms import transform_digest
from sevila.data.video import CachedVideos, VideoReader
from sevila.model.digest import digest
from sevila.model.head import Head
from sevila.model.pixels import normalize
from sevila.model.prompts import letters, target
from sevila.model.sevila import SeViLA
from sevila.selection import SELECTORS
from sevila.selection.rules import Selector
from sevila.tasks.answer import AllFrames, AnswerTask, SelectEachStep
from sevila.tasks.chain import ForwardChain
from sevila.tasks.refine import LabelledBefore, RefineTask, make_pseudo_labels
from sevila.training.optim import adamw

TOLERANCE = 1e-4  # of every step's loss, float32
BATCH = 2
REFINED = 4  # frames of a question in refinement


def records(videos: Sequence[Path], each: int) -> list[Question]:
    """`each` random questions a video."""
    made = []
    for number, video in enumerate(videos):
        for i, asked in enumerate(questions(each, seed=300 + number)):
            made.append(Question(f"{number}-{i}", str(video), asked.question, asked.options, (number + i) % OPTIONS))
    return made


def selector() -> Selector:
    return SELECTORS["topk"](k=KEYFRAMES)


def source(model: SeViLA, n: int, store: Store | None) -> VideoSource:
    return VideoSource(CachedVideos(model.backbone.image_size, 0), AnyFile(), n, store=store)


def store_of(model: SeViLA, folder: Path) -> Store:
    backbone = model.backbone
    maker = {"tower": digest(backbone.tower), "transform": transform_digest(backbone.image_size, normalize)}
    return Store(folder, maker, backbone.dtype)


def learn(head: Head, losses: Callable[[], Iterator[Tensor]]) -> list[float]:
    """An epoch: a step of AdamW for each loss. The head is afterwards what it was."""
    before = copy.deepcopy(head.state_dict())
    head.requires_grad_(True)
    optimizer = adamw(head)
    seen = []
    for loss in losses():
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen.append(float(loss.detach()))
    head.requires_grad_(False)
    head.load_state_dict(before)
    return seen


def batches(
    made: VideoSource, asked: Sequence[Question], n: int, fixed: dict[str, Any] | None = None
) -> Iterator[Batch]:
    keys = ordered_keys(len(asked))
    parts = [keys[i : i + BATCH] for i in range(0, len(keys), BATCH)]
    return stream(made.dataset(asked, EvaluationFrames(n), fixed), 0, parts)


class PlainEpoch:
    """What the official training does, row by row."""

    def __init__(self, plain: Plain, model: SeViLA, asked: Sequence[Question], n: int) -> None:
        self.plain, self.model, self.asked, self.n = plain, model, asked, n

    def parts(self) -> Iterator[tuple[list[Question], list[Tensor]]]:
        """Batches of questions with the patches of their frames."""
        size = self.model.backbone.image_size
        for start in range(0, len(self.asked), BATCH):
            part, patches = list(self.asked[start : start + BATCH]), []
            for question in part:
                reader = VideoReader(question.video)
                frames = reader.read(uniform_indices(reader.length, reader.fps, self.n), size)
                patches.append(self.plain.encode(normalize(frames.pixels)))
            yield part, patches

    def forward(self) -> Iterator[Tensor]:
        prompts = self.model.prompts
        for part, patches in self.parts():
            chosen = []
            for question, seen in zip(part, patches, strict=True):
                scores = self.plain.relevance(seen, prompts.localize(question.question, question.options))
                chosen.append(seen[sorted(scores.argsort(descending=True, stable=True)[:KEYFRAMES].tolist())])
            texts = [prompts.answer(q.question, q.options) for q in part]
            targets = [target(q.answer) for q in part]
            yield self.plain.loss(self.plain.answerer, torch.stack(chosen), texts, targets, numbered=True)

    def refine(self) -> Iterator[Tensor]:
        prompts = self.model.prompts
        for part, patches in self.parts():
            texts, targets = [], []
            for question, seen in zip(part, patches, strict=True):
                right = self.right(seen, question)
                texts += [prompts.localize(question.question, question.options)] * len(seen)
                targets += ["yes" if label else "no" for label in right]
            yield self.plain.loss(self.plain.localizer, torch.cat(patches)[:, None], texts, targets, numbered=False)

    @torch.no_grad()
    def right(self, patches: Tensor, question: Question) -> list[bool]:
        """Whether the frozen Answerer prefers the right letter after "Option", a frame at a time."""
        text = self.model.prompts.answer(question.question, question.options)
        embeds, mask = self.plain.assemble(self.plain.answerer(patches)[:, None], [text] * len(patches), numbered=False)
        tokens = torch.tensor([self.plain.ids(target(question.answer))] * len(patches))
        logits = self.plain.blip2.language_model(inputs_embeds=embeds, attention_mask=mask, labels=tokens).logits[:, 1]
        ids = [self.plain.ids(letter)[0] for letter in letters(len(question.options))]
        return (logits[:, ids].argmax(-1) == question.answer).tolist()


def close(found: Sequence[float], true: Sequence[float]) -> bool:
    return len(found) == len(true) and max(abs(a - b) for a, b in zip(found, true, strict=True)) <= TOLERANCE


def forward(
    plain: Plain, model: SeViLA, videos: Sequence[Path], folder: Path, each: int, runs: int, n: int = FRAMES
) -> list[Row]:
    """An epoch of fine-tuning the Answerer, keyframes chosen in every step, or read from the store."""
    asked = records(videos, each)
    made = source(model, n, store_of(model, folder))
    chain = ForwardChain(model, selector(), made)
    epoch = PlainEpoch(plain, model, asked, n)

    def warm() -> list[float]:
        task = AnswerTask(chain, [], SelectEachStep(model, selector()))
        return learn(task.head, lambda: (task.loss(batch)[0] for batch in batches(made, asked, n)))

    def chosen() -> list[float]:
        fixed = {c.question.qid: [c.frames[i].index for i in c.keyframes] for c in chain.choose(asked)}
        task = AnswerTask(chain, [], AllFrames())
        return learn(task.head, lambda: (task.loss(batch)[0] for batch in batches(made, asked, n, fixed)))

    seconds, _ = interleaved({"cold": warm}, 1, warm=False)
    chosen()
    more, found = interleaved(
        {"plain": lambda: learn(plain.answerer, epoch.forward), "warm": warm, "chosen": chosen}, runs, warm=False
    )
    notes = {"questions": len(asked), "first_epoch_s": round(seconds["cold"].wall, 4)}
    names = {"forward_epoch_warm": ("warm", 3.0), "forward_epoch_stored_choices": ("chosen", 8.0)}
    return [
        compared(name, more["plain"], more[way], close(found[way], found["plain"]), runs, goal, notes)
        for name, (way, goal) in names.items()
    ]


def refine(plain: Plain, model: SeViLA, videos: Sequence[Path], folder: Path, each: int, runs: int) -> list[Row]:
    """An epoch of refining the Localizer; pseudo-labels and patches are stored."""
    asked = records(videos, each)
    made = source(model, REFINED, store_of(model, folder))
    chain = ForwardChain(model, selector(), made)
    epoch = PlainEpoch(plain, model, asked, REFINED)

    def warm() -> list[float]:
        task = RefineTask(chain, [], LabelledBefore(make_pseudo_labels(model, made, asked)))
        return learn(task.head, lambda: (task.loss(batch)[0] for batch in batches(made, asked, REFINED)))

    first, _ = interleaved({"cold": warm}, 1, warm=False)
    seconds, found = interleaved(
        {"plain": lambda: learn(plain.localizer, epoch.refine), "warm": warm}, runs, warm=False
    )
    notes = {"questions": len(asked), "first_epoch_s": round(first["cold"].wall, 4)}
    equal = close(found["warm"], found["plain"])
    return [compared("refine_epoch_warm", seconds["plain"], seconds["warm"], equal, runs, 1.7, notes)]


@dataclass(frozen=True)
class InMemory:
    """The samples of a source, decoded beforehand."""

    samples: list[tuple[list[int], Sample]]
    store: None = None

    def walk(self, asked: Sequence[Question], label: str | None = None) -> Iterator[tuple[list[int], Sample]]:
        return iter(self.samples)


def evaluation(model: SeViLA, videos: Sequence[Path], each: int, runs: int, n: int = FRAMES) -> list[Row]:
    """The same evaluation on pixels in memory (baseline) and from files, decoded as by default: in between."""
    asked = records(videos, each)
    files = source(model, n, None)
    chains = {
        "memory": ForwardChain(model, selector(), InMemory(list(files.walk(asked)))),
        "files": ForwardChain(model, selector(), files),
    }
    ways = {
        name: (lambda chain=chain: [p.option_logits for p in chain.predict(asked)]) for name, chain in chains.items()
    }
    seconds, found = interleaved(ways, runs, warm=False)
    notes = {"questions": len(asked), "videos": len(videos), "precision": str(model.backbone.dtype)}
    equal = found["memory"] == found["files"]
    return [compared("evaluation_overhead", seconds["memory"], seconds["files"], equal, runs, 1 / 1.15, notes)]
