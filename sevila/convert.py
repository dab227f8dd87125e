"""sevila convert SOURCE [SOURCE ...] --out DIR: other projects' checkpoints to heads and a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sevila.cli import Parser, guarded
from sevila.errors import UserError
from sevila.files import check_other, home, home_path
from sevila.report.terminal import printable

if TYPE_CHECKING:
    from sevila.checkpoints.conversion import Converted

TEXT = """\
Convert other projects' checkpoints to heads (localizer.safetensors, answerer.safetensors, a json beside each) in the
folder DIR, and to DIR/backbone where a whole BLIP-2 is among the sources. Then localizer=DIR and answerer=DIR work in
train, refine and eval, --localizer DIR and --answerer DIR in predict.

SOURCE is one of
  sevila_pretrained.pth       the released SeViLA checkpoint: both heads; needs --backbone
  checkpoint_best.pth         of a run of the official code: the head that it trained; needs --backbone
  blip2_pretrained_*.pth      LAVIS's BLIP-2: its Q-Former is the start of both heads; needs --backbone, or beside it
                              eva_vit_g.pth and all weight files of flan-t5 (.safetensors or .bin): a whole BLIP-2
  FOLDER or HUB_ID            a BLIP-2 in transformers' format: its Q-Former is the start of both heads, and it is
                              its own backbone, which stays where it is
"""
EXAMPLES = """\
examples:
  sevila convert sevila_pretrained.pth --out DIR --backbone Salesforce/blip2-flan-t5-xl
  sevila convert blip2_pretrained_flant5xl.pth eva_vit_g.pth flan-t5-xl/*.safetensors --out DIR

Files are read without running code in them (weights_only=True). A missing, unexpected, misshaped or not
finite tensor is an error that lists it, and then nothing is written.
"""
DTYPES = ("fp32", "bf16")


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="sevila convert",
        usage="%(prog)s SOURCE [SOURCE ...] --out DIR [options]",
        description=TEXT,
        epilog=EXAMPLES,
    )
    add = made.add_argument
    add("sources", nargs="+", metavar="SOURCE", type=home, help="checkpoint files, or one BLIP-2 folder or Hub id")
    add("--out", metavar="DIR", type=home_path, required=True, help="folder to write; it must be new or empty")
    backbone = "folder or Hub id of the BLIP-2 that the heads belong to"
    add("--backbone", metavar="PLACE", type=home, help=backbone)
    tokenizer = "Flan-T5's, for DIR/backbone: folder or Hub id (google/flan-t5-xl)"
    add("--tokenizer", metavar="PLACE", type=home, help=tokenizer)
    add("--dtype", choices=DTYPES, default="fp32", help="of the weights in DIR/backbone (fp32)")
    unusual = "of a model of unusual sizes"
    add("--qformer-heads", type=int, metavar="N", help=f"attention heads of the Q-Former, {unusual}")
    add("--vision-heads", type=int, metavar="N", help=f"attention heads of the vision tower, {unusual}")
    return made


def run(argv: Sequence[str] | None = None) -> None:
    """Convert, and print what was written. Raises UserError for what cannot be converted."""
    given = parser().parse_intermixed_args(argv)
    for key in ("qformer_heads", "vision_heads"):
        if getattr(given, key) is not None and getattr(given, key) < 1:
            raise UserError(f"--{key.replace('_', '-')}={getattr(given, key)}: must be at least 1")
    for source in (*given.sources, given.backbone, given.tokenizer):
        check_other("--out", given.out, {"SOURCE": source})

    import torch

    from sevila.checkpoints.conversion import Sizes, convert  # late: --help and a wrong option answer at once

    dtype = torch.bfloat16 if given.dtype == "bf16" else torch.float32
    sizes = Sizes(given.qformer_heads, given.vision_heads, dtype)
    show(convert(given.sources, given.out, given.backbone, given.tokenizer, sizes))


def show(done: Converted) -> None:
    """Say what was found, what was written, what was left out and what to do next."""
    found, out = done.found, done.out
    print(f"found: {found.what}")
    for line in found.left_out:
        print(printable(f"left out: {line}"))
    if found.whole is not None:
        count = sum(p.numel() for p in found.whole.parameters())
        print(f"written: {done.source}, {count:,} parameters, fingerprint {done.fingerprint}")
    else:
        print(f"backbone: {done.source}, fingerprint {done.fingerprint}; it stays where it is")
    for role, head in found.heads.items():
        count = sum(p.numel() for p in head.parameters())
        print(f"written: {out / role}.safetensors, {count:,} parameters; {role}.json describes it")
    for role in found.missing:
        print(
            f"the {role} is not in these files: convert the checkpoint that the run began with (sevila_pretrained.pth "
            f"or BLIP-2) into a folder of its own and name that with --{role} FOLDER"
        )
    print(f"use: {done.command}")


def cli(argv: Sequence[str] | None = None) -> int:
    """`sevila convert`; returns the exit code."""
    return guarded(lambda: run(argv))


if __name__ == "__main__":
    raise SystemExit(cli())
