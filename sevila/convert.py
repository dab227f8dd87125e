"""python -m sevila.convert SOURCE [SOURCE ...] OUT: other projects' checkpoints to heads and a backbone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from sevila.cli import guarded
from sevila.errors import UserError
from sevila.files import check_other, home, home_path
from sevila.report.terminal import printable

if TYPE_CHECKING:
    from sevila.checkpoints.conversion import Converted

TEXT = """\
Convert other projects' checkpoints to heads (localizer.safetensors, answerer.safetensors, a json beside each) in the
folder OUT, and to OUT/backbone where a whole BLIP-2 is among the sources. Then localizer=OUT and answerer=OUT work in
train, refine, eval and predict.

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
  python -m sevila.convert sevila_pretrained.pth OUT --backbone Salesforce/blip2-flan-t5-xl
  python -m sevila.convert blip2_pretrained_flant5xl.pth eva_vit_g.pth flan-t5-xl/*.safetensors OUT

Files are read without running code in them (weights_only=True). A missing, unexpected or misshaped tensor is an
error that lists it, and then nothing is written.
"""
DTYPES = ("fp32", "bf16")


class Parser(argparse.ArgumentParser):
    """Errors as everywhere else in the library: one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; python -m sevila.convert --help says more")


def parser() -> Parser:
    words = Parser(
        prog="python -m sevila.convert",
        usage="%(prog)s SOURCE [SOURCE ...] OUT [options]",
        description=TEXT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words.add_argument(
        "sources", nargs="+", metavar="SOURCE", type=home, help="checkpoint files, or one BLIP-2 folder or Hub id"
    )
    words.add_argument("out", metavar="OUT", type=home_path, help="folder to write; it must be new or empty")
    words.add_argument(
        "--backbone", metavar="PLACE", type=home, help="folder or Hub id of the BLIP-2 that the heads belong to"
    )
    tokenizer = "Flan-T5's, for OUT/backbone: folder or Hub id (google/flan-t5-xl)"
    words.add_argument("--tokenizer", metavar="PLACE", type=home, help=tokenizer)
    words.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the weights in OUT/backbone (fp32)")
    unusual = "of a model of unusual sizes"
    words.add_argument("--qformer-heads", type=int, metavar="N", help=f"attention heads of the Q-Former, {unusual}")
    words.add_argument("--vision-heads", type=int, metavar="N", help=f"attention heads of the vision tower, {unusual}")
    return words


def run(argv: Sequence[str] | None = None) -> None:
    """Convert, and print what was written."""
    given = parser().parse_args(argv)
    for key in ("qformer_heads", "vision_heads"):
        if getattr(given, key) is not None and getattr(given, key) < 1:
            raise UserError(f"--{key.replace('_', '-')}={getattr(given, key)}: must be at least 1")
    for source in (*given.sources, given.backbone, given.tokenizer):
        check_other("OUT", given.out, {"SOURCE": source})

    import torch

    from sevila.checkpoints.conversion import Sizes, convert

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
            f"or BLIP-2) into a folder of its own and name that with {role}=FOLDER"
        )
    words = " ".join(f"{role}={'FOLDER' if role in found.missing else out}" for role in ("localizer", "answerer"))
    print(f"use: python -m sevila.predict model.source={done.source} {words} video=... question=... options=...")


def cli(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: run(argv))


if __name__ == "__main__":
    raise SystemExit(cli())
