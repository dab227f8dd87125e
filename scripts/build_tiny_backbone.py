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
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch

from sevila.checkpoints import backbone as backbones
from sevila.files import home_path, write_json
from sevila.synthetic import draw
from tiny_backbone import language, lessons, tokenizer, vision
from tiny_backbone.export import export
from tiny_backbone.practice import practise
from tiny_backbone.report import measure

SHIPPED = Path(__file__).resolve().parents[1] / "sevila" / "synthetic" / "tiny_blip2"
REPORT_LESSONS, REPORT_FRAMES = 40, 2048
VIT = "vision_model."


def examination(seed: int) -> list[lessons.Lesson]:
    """Lessons that no training step draws."""
    return [lesson for i in range(REPORT_LESSONS) for lesson in lessons.batch(lessons.exam_seed(seed, i), 64)]


def teach_language(folder: Path, seed: int, steps: int, batch: int) -> None:
    words = tokenizer.make()
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
    words = tokenizer.make()
    table = vision.words_of(words, language.word_vectors(words, seed))
    exam = vision.exam(REPORT_FRAMES, style, seed)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("all", "language", "vision", "export"), default="all")
    parser.add_argument("--folder", type=home_path, default=Path("build/tiny_backbone"), help="where stages are kept")
    parser.add_argument("--out", type=home_path, default=SHIPPED, help="the BLIP-2 folder to write")
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
    words = tokenizer.make()
    if args.stage in ("all", "export"):
        eyes = saved(args.folder, "vision", vision.Eyes(language.WIDTH))
        export(eyes, saved(args.folder, "language", language.make(words, args.seed)), words, args.out)


if __name__ == "__main__":
    main()
