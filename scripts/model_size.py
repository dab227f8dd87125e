"""What a model needs: its parameters and bytes by part, and memory and seconds of an answer or a training step.

Parts are counted on the meta device: nothing is loaded, no memory is taken. The rest is measured on random
pixels, by the library's own path.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from sevila import build, schema
from sevila.checkpoints.architecture import outline
from sevila.checkpoints.backbone import Random
from sevila.checkpoints.timm import VISION, TimmVision
from sevila.data.dataset import Batch, Record, Sample
from sevila.data.records import Moment, Question
from sevila.data.video import Frames
from sevila.model.backbone import Backbone, assemble_backbone, halve
from sevila.model.precision import wide
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK
from sevila.tasks.answer import AnswerTask, SelectEachStep
from sevila.tasks.chain import ForwardChain
from sevila.tasks.pretrain import PretrainTask
from sevila.tasks.refine import LabelEachStep, RefineTask
from sevila.training.optim import adamw


@dataclass(frozen=True)
class Part:
    """One part of the model; `group` is backbone, localizer, answerer or spare."""

    group: str
    name: str
    parameters: int
    bytes: dict[str, int]  # by dtype

    @classmethod
    def of(cls, group: str, name: str, parameters: Iterable[nn.Parameter]) -> Part:
        size: Counter[str] = Counter()
        count = 0
        for parameter in parameters:
            count += parameter.numel()
            size[str(parameter.dtype).removeprefix("torch.")] += parameter.numel() * parameter.element_size()
        return cls(group, name, count, dict(size))


class Shapes(Random):
    """Sizes alone: a part without weights stays without."""

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        return None


def parts(config: schema.Base) -> list[Part]:
    """The backbone, the two heads, and the zero-shot head that the backbone keeps on the CPU to begin others with."""
    backbone = _outlined(config)
    rows = [
        Part.of("backbone", "vision tower", backbone.tower.parameters()),
        Part.of("backbone", "language model", backbone.language.parameters()),
    ]
    head = backbone.zeroshot
    for group in ("localizer", "answerer"):
        rows += [
            Part.of(group, "layer norm", head.norm.parameters()),
            Part.of(group, "queries", [head.queries]),
            Part.of(group, "Q-Former", head.qformer.parameters()),
            Part.of(group, "projection", head.projection.parameters()),
        ]
    return [*rows, Part.of("spare", "zero-shot head", head.parameters())]


def _outlined(config: schema.Base) -> Backbone:
    weights, nowhere = Shapes(), torch.device("meta")
    precision = build.PRECISIONS[build.resolved(config).precision]
    rest = wide(precision.language) if precision.half_tower else precision.language
    sizes = weights.architecture(config.model.source)
    vision = schema.named("vision", config.vision, VISION)
    if isinstance(vision, TimmVision):
        vision = replace(vision, file=None)
    tower = vision.tower(sizes.vision_config.hidden_size, weights.fill, rest, nowhere)
    backbone = assemble_backbone(outline(sizes).to(rest), None, config.model.source, tower=tower)
    backbone.language.to(precision.language)
    if precision.half_tower:
        halve(backbone.tower)
    return backbone


def summary(rows: list[Part]) -> dict[str, Any]:
    """The same as JSON: the parts, and what follows from them: the model, without the spare head."""
    model = sum(row.parameters for row in rows if row.group != "spare")
    head = sum(row.parameters for row in rows if row.group == "localizer")
    size: Counter[str] = Counter()
    for row in rows:
        if row.group != "spare":
            size.update(row.bytes)
    return {
        "parts": [asdict(row) for row in rows],
        "parameters": model,
        "trainable": head,
        "trainable_percent": round(100 * head / model, 2),
        "bytes": dict(size),
    }


# -- memory and seconds ---

TRAINING_FRAMES = 4  # a step's, as published
QUESTION = Question(
    "0",
    "noise",
    "why did the man in the white shirt turn around at the end of the video?",
    ("to look at the dog.", "to talk to the woman.", "to pick up the ball.", "to wave at the camera.", "to sit down."),
    answer=0,
)
MOMENT = Moment("0", "noise", "A man in a white shirt turns around and looks at his dog", 60.0, ((0.0, 30.0),))


@dataclass(frozen=True)
class Noise:
    """A source of frames (as `tasks.source.VideoSource`): n random pictures a second apart."""

    n: int
    size: int

    def sample(self, record: Record) -> Sample:
        shape, generator = (self.n, 3, self.size, self.size), torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        seconds = tuple(60.0 * (i + 0.5) / self.n for i in range(self.n))
        return Sample(record, Frames(pixels, tuple(range(self.n)), seconds), pixels)

    def walk(self, records: Sequence[Record], label: str | None = None) -> Iterator[tuple[list[int], Sample]]:
        yield list(range(len(records))), self.sample(records[0])

    def batch(self, record: Record) -> Batch:
        sample = self.sample(record)
        indices, times = list(sample.frames.indices), list(sample.frames.times)
        return Batch([record], sample.pixels[None], torch.ones(1, self.n, dtype=torch.bool), [indices], [times])


class Bench:
    """One model, built to be measured once."""

    def __init__(self, config: schema.Eval, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.model: SeViLA = build.model(config, accelerator.device)
        self.size = config.model.image_size or self.model.backbone.image_size

    def chain(self, frames: int, keyframes: int) -> ForwardChain:
        return ForwardChain(self.model, LocalizerTopK(min(keyframes, frames)), Noise(frames, self.size))

    def answer(self) -> Callable[[], float]:
        chain = self.chain(self.config.frames.n, self.config.selector["k"])
        return lambda: max(chain.predict([QUESTION])[0].option_logits)

    def pretrain(self) -> Callable[[], float]:
        task = PretrainTask(self.model, Noise(TRAINING_FRAMES, self.size), [])
        return self._step(task, MOMENT, TRAINING_FRAMES)

    def refine(self) -> Callable[[], float]:
        task = RefineTask(self.chain(TRAINING_FRAMES, self.config.selector["k"]), [], LabelEachStep(self.model))
        return self._step(task, QUESTION, TRAINING_FRAMES)

    def forward(self) -> Callable[[], float]:
        return self._forward(TRAINING_FRAMES)

    def forward_n(self) -> Callable[[], float]:
        return self._forward(self.config.frames.n)

    def _forward(self, frames: int) -> Callable[[], float]:
        chain = self.chain(frames, self.config.selector["k"])
        task = AnswerTask(chain, [], SelectEachStep(self.model, chain.selector))
        return self._step(task, QUESTION, frames)

    def _step(self, task: Any, record: Record, frames: int) -> Callable[[], float]:
        """A step as the training loop makes it. AdamW's state is there already, as in every step but the first."""
        self.model.requires_grad_(False)
        task.head.requires_grad_(True)
        task.head.train()
        optimizer = adamw(task.head)
        for parameter in task.head.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        batch = Noise(frames, self.size).batch(record)

        def step() -> float:
            with self.accelerator.autocast():
                loss, _ = task.loss(batch)
            self.accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return float(loss.detach())

        return step


WORK: dict[str, str] = {
    "answer": "one answer, {n} frames to {k} keyframes",
    "pretrain": f"pre-training step, {TRAINING_FRAMES} frames",
    "refine": f"refinement step, {TRAINING_FRAMES} frames",
    "forward": f"forward step, {TRAINING_FRAMES} frames to {{k}} keyframes",
    "forward_n": "forward step, {n} frames to {k} keyframes",
}


def measure(config: schema.Eval, name: str) -> dict[str, Any]:
    """Build the model, then do one piece of work; on CUDA the second time counts, when kernels are loaded.

    `peak_bytes` is the work's, the model included: memory allocated on the GPU, or resident memory of this process,
    whose peak while building stands in `build_peak_bytes`. Where a system cannot forget an earlier peak, the work's
    is that of both, and `peak_includes_building` says so.
    """
    with build.computing(config):
        return _measured(config, name)


def _measured(config: schema.Eval, name: str) -> dict[str, Any]:
    accelerator = build.accelerator(config)
    memory = GpuMemory(accelerator.device) if accelerator.device.type == "cuda" else ResidentMemory()
    started = time.monotonic()
    work = getattr(Bench(config, accelerator), name)()
    built = {"build_seconds": round(time.monotonic() - started, 1), "build_peak_bytes": memory.peak()}
    if accelerator.device.type == "cuda":
        work()
        torch.cuda.synchronize()
    forgot = memory.forget()
    started = time.monotonic()
    value = work()
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = round(time.monotonic() - started, 2)
    return {
        **built,
        "seconds": seconds,
        "peak_bytes": memory.peak(),
        "peak_includes_building": not forgot,
        "memory": memory.kind,
        "answer" if name == "answer" else "loss": round(value, 4),
    }


class GpuMemory:
    kind = "allocated on the GPU"

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)

    def forget(self) -> bool:
        torch.cuda.reset_peak_memory_stats(self.device)
        return True


class ResidentMemory:
    kind = "resident"
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def peak(self) -> int:
        if self.status.exists():  # Linux; ru_maxrss would begin with the parent's there
            (line,) = (line for line in self.status.read_text().splitlines() if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def forget(self) -> bool:
        """Let the peak begin anew, where the system can."""
        try:
            self.refs.write_text("5")
        except OSError:
            return False
        return True
