"""Make the tiny BLIP-2 that ships with the package, from nothing.

    python scripts/build_tiny_backbone.py                      # every stage, into build/tiny_backbone
    python scripts/build_tiny_backbone.py --stage language     # one stage; stages resume where they stopped
    python scripts/build_tiny_backbone.py --report             # measure the shipped backbone, write report.json

Stages: `language` teaches a small T5 from text alone; `vision` teaches a ViT, a Q-Former and a projection to say the
words of a painted frame (the two need nothing of each other and may run side by side, in two processes); `export`
writes the folder in transformers' BLIP-2 format. About an hour on two cores. The ViT has seen more styles than the
Q-Former can read.

What it never sees: the benchmark's and the moments' visual styles and videos, and the Localizer's prompt with the
benchmark's question families or with moment queries about what somebody does. The T5 does read the benchmark's
questions, as multiple choice and open ones, with words where frames will stand.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from transformers import Blip2Config, Blip2ForConditionalGeneration, T5ForConditionalGeneration, T5Tokenizer

from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.files import home_path, write_json
from sevila.model.backbone import Backbone
from sevila.synthetic import draw
from sevila.synthetic.stories import SLOTS
from tiny_backbone import language, lessons, vision
from tiny_backbone.vision import Eyes

REPORT_LESSONS, FRAMES = 40, 2048
VIT = "vision_model."


def examination(seed: int) -> list[lessons.Lesson]:
    """Lessons that no training step draws."""
    return [lesson for i in range(REPORT_LESSONS) for lesson in lessons.batch(lessons.exam_seed(seed, i), 64)]


def teach_language(folder: Path, seed: int, steps: int, batch: int) -> None:
    words = language.make_tokenizer()
    model, reader = language.make(words, seed), language.Reader(words)
    exam = examination(seed)[: 64 * 16]

    def loss(step: int) -> torch.Tensor:
        rng = language.lesson_seed(seed, step)
        with torch.autocast("cpu", torch.bfloat16):
            return language.loss(
                model, reader(lessons.batch(rng, batch)), torch.Generator().manual_seed(rng.getrandbits(40))
            )

    def plain(name: str) -> bool:
        return any(part in name for part in ("shared", "lm_head", "embed_tokens", "relative"))

    practise("language", model, loss, steps, folder, plain, lambda: language.score(model, reader, exam))


def teach_vision(folder: Path, seed: int, steps: Sequence[int], batch: int) -> None:
    """Read plain frames; see wide ones; with these eyes read plain frames again. Numbers of steps of the three."""
    torch.manual_seed(seed)
    eyes = vision.Eyes(language.WIDTH)
    teach_frames("plain", eyes, draw.PLAIN, folder, seed, steps[0], batch)
    reading = {name: tensor.clone() for name, tensor in eyes.state_dict().items() if not name.startswith(VIT)}
    teach_frames("wide", eyes, draw.WIDE, folder, seed, steps[1], batch)
    eyes.load_state_dict({**eyes.state_dict(), **reading})
    eyes.vision_model.requires_grad_(False)
    teach_frames("vision", eyes, draw.PLAIN, folder, seed, steps[2], batch)


def teach_frames(
    name: str, eyes: vision.Eyes, style: draw.Style, folder: Path, seed: int, steps: int, batch: int
) -> None:
    """So many steps of reading frames of one style; what is trainable in `eyes` learns. Kept as NAME.pt."""
    words = language.make_tokenizer()
    table = vision.words_of(words, language.word_vectors(words, seed))
    exam = vision.exam(FRAMES, style, seed)
    pages, scenes = vision.picture_book(160 * batch, style, Random(seed), torch.Generator().manual_seed(seed))
    targets = table.targets(scenes)
    fresh = batch // 8

    def loss(step: int) -> torch.Tensor:
        rng = language.lesson_seed(seed, step)
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        place = (step * fresh) % len(pages)  # the oldest pages are painted anew
        new, new_scenes = vision.picture_book(fresh, style, rng, generator)
        pages[place : place + fresh], targets[place : place + fresh] = new, table.targets(new_scenes)
        rows = torch.randint(len(pages), (batch,), generator=generator)
        torch.manual_seed(rng.getrandbits(40))  # dropout
        return table.loss(eyes(pages[rows]), targets[rows])

    def plain(name: str) -> bool:
        return "embedding" in name or "language_projection" in name

    practise(name, eyes, loss, steps, folder, plain, lambda: vision.score(eyes, table, *exam))


def saved(folder: Path, name: str, model: torch.nn.Module) -> torch.nn.Module:
    """A stage's model as it was kept last."""
    model.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True)["model"])
    return model.eval()


# -- the practice loop of both halves, which resumes ---

LR, REPORT_EVERY = 1e-3, 500  # learning rate at its peak; steps between reports
WARM_UP, COOL_DOWN = 100, 0.3  # steps of linear warm-up; share of all steps in which the rate falls to zero


def rate(step: int, steps: int) -> float:
    """Warm up, hold, fall linearly: 0..1."""
    left = (steps - step) / (COOL_DOWN * steps)
    return min(1.0, (step + 1) / WARM_UP, left)


def optimisers(model: nn.Module, plain: Callable[[str], bool]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else (`plain` names those by parameter name)."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and not plain(name)]
    rest = [p for name, p in named if p.ndim != 2 or plain(name)]
    return [
        torch.optim.Muon(matrices, lr=2 * LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=LR, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def practise(
    name: str,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    steps: int,
    folder: Path,
    plain: Callable[[str], bool],
    report: Callable[[], dict[str, float]],
) -> None:
    """Train `model` on `loss_of(step)` and keep `folder/NAME.pt` so that a later call goes on where this one ended.

    The loss of a step depends on its number alone (and on the weights), so that stopping changes nothing.
    """
    optims = optimisers(model, plain)
    base = [[group["lr"] for group in optim.param_groups] for optim in optims]
    path, start = folder / f"{name}.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        for optim, state in zip(optims, saved["optims"], strict=True):
            optim.load_state_dict(state)
        start = saved["step"]
    total, since = 0.0, time.time()
    for step in range(start, steps):
        model.train()
        loss = loss_of(step)
        for optim, rates in zip(optims, base, strict=True):
            optim.zero_grad()
            for group, r in zip(optim.param_groups, rates, strict=True):
                group["lr"] = r * rate(step, steps)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            pace = (time.time() - since) / 50
            print(f"{name} {step + 1}/{steps} loss {total / 50:.4f} {pace:.2f} s/step", flush=True)
            total, since = 0.0, time.time()
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            model.eval()
            print(name, {kind: round(value, 1) for kind, value in report().items()}, flush=True)
            state = {"model": model.state_dict(), "optims": [o.state_dict() for o in optims], "step": step + 1}
            torch.save(state, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
            since = time.time()


# -- the halves put together, in transformers' own format ---


def assemble(eyes: Eyes, language: T5ForConditionalGeneration) -> Blip2ForConditionalGeneration:
    """One BLIP-2 of the two halves."""
    config = Blip2Config(
        vision_config=eyes.vision_model.config.to_dict(),
        qformer_config=eyes.qformer.config.to_dict(),
        text_config=language.config.to_dict(),
        num_query_tokens=SLOTS,
    )
    config.text_config.dense_act_fn = "gelu"
    blip2 = Blip2ForConditionalGeneration(config)
    # transformers ties the output table to the word vectors when a model is built from a config; it must not be
    blip2.language_model.lm_head.weight = nn.Parameter(language.lm_head.weight.detach().clone())
    for part in ("vision_model", "qformer", "language_projection"):
        getattr(blip2, part).load_state_dict(getattr(eyes, part).state_dict())
    blip2.query_tokens.data.copy_(eyes.query_tokens)
    blip2.language_model.load_state_dict(language.state_dict())
    if not torch.equal(blip2.language_model.shared.weight, language.shared.weight):
        raise RuntimeError("the word vectors were overwritten by the output table")
    return blip2


def export(eyes: Eyes, language: T5ForConditionalGeneration, tokenizer: T5Tokenizer, folder: Path) -> None:
    """Write the folder: float16 weights (they are read as float32), configuration, tokenizer."""
    assemble(eyes, language).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# -- what the shipped backbone can do, through the library's own loading path ---

LESSON_BATCHES, LESSONS_A_BATCH = 120, 32


class _Eyes(nn.Module):
    """The backbone's own vision side: uint8 frames -> soft tokens."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.backbone.zeroshot(self.backbone.encode(frames))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "language", "vision", "export"), default="all")
    parser.add_argument("--folder", type=home_path, default=Path("build/tiny_backbone"), help="where stages are kept")
    parser.add_argument("--out", type=home_path, default=TINY_FOLDER, help="the BLIP-2 folder to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--language-steps", type=int, default=1500)
    parser.add_argument("--vision-steps", type=int, nargs=3, default=(3000, 1200, 700), metavar="N")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="measure the backbone in --out, write report.json there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.report:
        figures = measure(backbones.load(str(args.out)), args.seed)
        write_json(args.out / "report.json", figures)
        print(json.dumps(figures, indent=2))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.stage in ("all", "language"):
        teach_language(args.folder, args.seed, args.language_steps, args.batch)
    if args.stage in ("all", "vision"):
        teach_vision(args.folder, args.seed, args.vision_steps, 2 * args.batch)
    words = language.make_tokenizer()
    if args.stage in ("all", "export"):
        eyes = saved(args.folder, "vision", vision.Eyes(language.WIDTH))
        export(eyes, saved(args.folder, "language", language.make(words, args.seed)), words, args.out)


if __name__ == "__main__":
    main()
