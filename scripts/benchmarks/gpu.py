"""The published size on a GPU, in bfloat16: a time line by stage, and how much of the GPU's peak each reaches.

The peak is measured in the same run: the largest rate of a square matrix product in bfloat16.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.cost import Sizes, Stage, stages
from benchmarks.subject import FRAMES, KEYFRAMES, OPTIONS, pictures, questions
from benchmarks.timing import synchronize
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.errors import UserError
from sevila.files import write_json
from sevila.model.sevila import SeViLA

SOURCE = "Salesforce/blip2-flan-t5-xl"
QUESTIONS = 9  # a video
SQUARE = 8192  # side of the matrices of the peak


def main(out: Path | None) -> int:
    if not torch.cuda.is_available():
        raise UserError("--suite gpu: there is no CUDA device here; the other suites run on a CPU")
    device = torch.device("cuda")
    model = published(device)
    report = measure(model, Sizes(), torch.bfloat16, runs=10)
    print(f"{torch.cuda.get_device_name()}: matrix product {report['peak_tflops']:.0f} TFLOP/s")
    for row in report["stages"]:
        rate = f"{row['tflops']:8.0f} TFLOP/s{row['percent_of_peak']:7.1f} %"
        print(f"{row['name']:24}{1000 * row['seconds']:9.1f} ms{rate}")
    print(
        f"a video, {QUESTIONS} questions: {report['seconds']:.3f} s, {report['percent_of_peak']:.1f} % of the peak, "
        f"{report['questions_a_second']:.1f} questions a second, {report['peak_memory_gib']:.1f} GiB"
    )
    if out is not None:
        write_json(out, report)
    return 0


def published(device: torch.device, heads: torch.dtype = torch.bfloat16) -> SeViLA:
    """ViT-g and Flan-T5-XL with random weights in bfloat16, the heads too unless they are to be float32."""
    backbone = backbones.load(SOURCE, device, torch.bfloat16, weights=backbones.Random(), tokenizer=str(TINY_FOLDER))
    head = backbone.zeroshot.to(device, heads)
    return SeViLA(backbone, head, head).requires_grad_(False)


def peak(device: torch.device, dtype: torch.dtype, side: int = SQUARE, runs: int = 20) -> float:
    """Operations a second of a matrix product, the best of some."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(times(lambda: left @ right, runs))


@torch.no_grad()
def measure(model: SeViLA, sizes: Sizes, dtype: torch.dtype, runs: int, side: int = SQUARE) -> dict[str, Any]:
    """Each stage of a video with its questions, then the whole chain."""
    device = model.backbone.device
    pixels = pictures(FRAMES, model.backbone.image_size).to(device)
    asked = questions(QUESTIONS)
    localize = [model.prompts.localize(a.question, a.options) for a in asked]
    answer = [model.prompts.answer(a.question, a.options) for a in asked]
    keyframes = [list(range(0, FRAMES, FRAMES // KEYFRAMES))[:KEYFRAMES]] * QUESTIONS
    patches = model.backbone.encode(pixels)

    def chain() -> None:
        seen = model.backbone.encode(pixels)
        scores = model.relevance(seen, localize)
        best = scores.argsort(dim=-1, descending=True)[:, :KEYFRAMES].sort(-1).values.tolist()
        model.option_logits(seen, best, answer, [OPTIONS] * QUESTIONS)

    lengths = model.backbone.lengths(localize), model.backbone.lengths(answer)
    mean = [round(sum(row) / len(row)) for row in lengths]
    counted = stages(FRAMES, KEYFRAMES, QUESTIONS, _with_texts(sizes, *mean))
    ways: dict[str, tuple[Callable[[], Any], list[Stage]]] = {
        "vision tower": (lambda: model.backbone.encode(pixels), counted[:1]),
        "Localizer": (lambda: model.relevance(patches, localize), counted[1:4]),
        "Answerer": (lambda: model.option_logits(patches, keyframes, answer, [OPTIONS] * QUESTIONS), counted[4:]),
        "forward chain": (chain, counted),
    }
    top = peak(device, dtype, side)
    rows = []
    for name, (way, parts) in ways.items():
        seconds = statistics.median(times(way, runs))
        rate = sum(part.operations for part in parts) / seconds
        rows.append({"name": name, "seconds": seconds, "tflops": rate / 1e12, "percent_of_peak": 100 * rate / top})
    whole = rows[-1]
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return {
        "peak_tflops": top / 1e12,
        "stages": rows,
        "seconds": whole["seconds"],
        "percent_of_peak": whole["percent_of_peak"],
        "questions_a_second": QUESTIONS / whole["seconds"],
        "peak_memory_gib": memory,
    }


def _with_texts(sizes: Sizes, localize: int, answer: int) -> Sizes:
    return Sizes(**{**vars(sizes), "localizer_text": localize, "answerer_text": answer})


def times(way: Callable[[], Any], runs: int) -> list[float]:
    """Seconds of each run, after two that do not count."""
    taken = []
    for number in range(runs + 2):
        synchronize()
        started = time.perf_counter()
        way()
        synchronize()
        if number > 1:
            taken.append(time.perf_counter() - started)
    return taken
