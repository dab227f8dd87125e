"""Other projects' checkpoints to this one's files: two heads, and a backbone folder where a whole model is there.

A head names the backbone that it was made for, so that one is needed too: it comes from the sources themselves, or the
user names it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Blip2ForConditionalGeneration, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from sevila.checkpoints.folder import Blip2Folder
from sevila.checkpoints.heads import ROLES, save_head
from sevila.checkpoints.hub import HUB_ID, brief
from sevila.checkpoints.importers import VISION_LAYERS, Checkpoint, merge, open_checkpoint, vision_block
from sevila.checkpoints.lavis import SPARE, blip2_from, heads_from, remains_of, roles_in
from sevila.errors import UserError
from sevila.files import atomic_path, check_plain
from sevila.model.head import Head

T5_TOKENIZER = "google/flan-t5-xl"  # every Flan-T5 has the same
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")  # a source with one of these is a file, there or not
BACKBONE = "backbone"  # the folder inside OUT
_WHOLE = {
    "vision tower (eva_vit_g.pth)": "visual_encoder.blocks.",
    "language model (flan-t5)": "t5_model.encoder.block.",
}


@dataclass(frozen=True)
class Found:
    """What sources hold: heads by role, where they come from, what is not taken along.

    whole      the backbone that they hold, if they hold one
    missing    the roles that have to come from elsewhere
    """

    what: str
    heads: dict[str, Head]
    left_out: tuple[str, ...] = ()
    whole: Blip2ForConditionalGeneration | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """What was written, and over which backbone."""

    out: Path
    found: Found
    source: str
    fingerprint: str


@dataclass(frozen=True)
class Sizes:
    """What tensors do not tell: numbers of attention heads (None: of the usual width), and the dtype to store."""

    qformer_heads: int | None = None
    vision_heads: int | None = None
    dtype: torch.dtype = torch.float32


def convert(
    sources: Sequence[str],
    out: Path,
    backbone: str | None = None,
    tokenizer: str | None = None,
    sizes: Sizes | None = None,
) -> Converted:
    """Write the heads in `sources` to the folder `out`, and their backbone to out/backbone if it is among them.

    sources     checkpoint files that belong together, or one BLIP-2 in transformers' format (folder, Hub id, `tiny`)
    backbone    the BLIP-2 (folder, Hub id, `tiny`) that the heads belong to; then none is written
    tokenizer   of the backbone that is written: a folder or Hub id
    sizes       of the backbone that is written

    `out` appears when it is complete. Raises UserError for sources that are unreadable or do not fit, with every
    missing, unexpected and misshaped tensor, and where `out` holds something; OSError where it cannot be written.
    """
    check_out(out)
    if len(sources) == 1 and not _is_file(sources[0]):
        if backbone is not None:
            raise UserError(f"--backbone={backbone}: {sources[0]} is its own backbone; leave the option out")
        base = Blip2Folder.open(sources[0])
        found = _of_blip2(base)
        words = None
    else:
        checkpoints = [_open(Path(source)) for source in sources]
        state = merge(checkpoints)
        base = None if backbone is None else Blip2Folder.open(backbone)
        found = _of_state(state, checkpoints, base, sizes or Sizes())
        words = None if found.whole is None else read_tokenizer(tokenizer, found.whole.config.text_config.vocab_size)
    if words is None:
        _refuse_idle(tokenizer, sizes or Sizes())
    training = {"converted_from": [_short(source) for source in sources], "weights": found.what}
    return _write(out, found, base, words, training)


def _refuse_idle(tokenizer: str | None, sizes: Sizes) -> None:
    """UserError for an option that is about the backbone to write, where none is written."""
    dtype = None if sizes.dtype == torch.float32 else "bf16"
    options = {"tokenizer": tokenizer, "dtype": dtype}
    options |= {"qformer-heads": sizes.qformer_heads, "vision-heads": sizes.vision_heads}
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name}={value}: is about a backbone to write, and none is written; leave it out")


def _is_file(source: str) -> bool:
    return Path(source).is_file() or Path(source).suffix in SUFFIXES


def _open(path: Path) -> Checkpoint:
    check_plain(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; among several sources name its weight files")
    return open_checkpoint(path)


def check_out(out: Path) -> None:
    """UserError where a folder cannot be made or holds something."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; the last word must be a folder to write to")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: not empty; give another folder to write to")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{out}: {above} cannot be written to; give another folder")


def read_tokenizer(place: str | None, vocabulary: int) -> PreTrainedTokenizerBase:
    """T5's tokenizer from a folder or Hub id, checked against the size of the language model's vocabulary."""
    name = T5_TOKENIZER if place is None else place
    plain = Path(name) / "tokenizer.json"
    check_plain(name)
    try:
        if plain.is_file() and not (plain.parent / "tokenizer_config.json").is_file():
            tokens = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(plain), **tokens)
        else:
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # tokenizers raises Exception itself for a damaged file
        raise UserError(
            f"--tokenizer={name}: no tokenizer ({brief(error)}); the backbone needs Flan-T5's: give a folder that "
            f"holds its tokenizer.json, or the Hub id {T5_TOKENIZER}"
        ) from None
    if (tokenizer.pad_token_id, tokenizer.eos_token_id) != (0, 1) or len(tokenizer) > vocabulary:
        raise UserError(
            f"--tokenizer={name}: not this T5's: it has {len(tokenizer)} words, <pad> {tokenizer.pad_token_id} and "
            f"</s> {tokenizer.eos_token_id}; expected at most {vocabulary} words, <pad> 0 and </s> 1"
        )
    return tokenizer


def _of_blip2(base: Blip2Folder) -> Found:
    head = base.head()
    return Found("BLIP-2's own head, the start of both", dict.fromkeys(ROLES, head))


def _of_state(
    everything: Mapping[str, Tensor], checkpoints: Sequence[Checkpoint], base: Blip2Folder | None, sizes: Sizes
) -> Found:
    """The heads in a LAVIS state dict, and its whole model unless `base` takes that place."""
    source = ", ".join(checkpoint.path.name for checkpoint in checkpoints)
    state = {name: tensor for name, tensor in everything.items() if vision_block(name) < VISION_LAYERS}
    roles = roles_in(state)
    lacking = [part for part, prefix in _WHOLE.items() if not any(name.startswith(prefix) for name in state)]
    if roles and base is None and lacking:
        raise UserError(
            f"{source}: no whole model (no {', no '.join(lacking)}), so say which backbone these heads belong to: "
            "--backbone Salesforce/blip2-flan-t5-xl, or a folder; or name the missing files too"
        )
    heads = heads_from(state, source, base and base.sizes, attention_heads=sizes.qformer_heads)
    kinds = [*SPARE.items()]
    what, missing = "both heads of SeViLA", ()
    if len(roles) == 1:
        (role,) = roles
        (other,) = (name for name in ROLES if name != role)
        remains = remains_of(other)
        if role == "answerer" and not any(re.match(remains, name) for name in state):
            what, heads = "BLIP-2's own head, the start of both", dict.fromkeys(ROLES, heads[role])
        else:
            what, missing = f"the trained {role} of an official run", (other,)
            kinds.append((f"what the run kept of its frozen {other}", remains + ".+"))
    if base is not None:
        kinds += [("the vision tower", r"visual_encoder\..+"), ("the language model", r"t5_model\..+")]
    left_out = [*_left_out(everything, state, kinds), *_beside(checkpoints)]
    whole = blip2_from(state, source, sizes.qformer_heads, sizes.vision_heads, sizes.dtype) if base is None else None
    return Found(what, heads, tuple(left_out), whole, missing)


def _left_out(
    everything: Mapping[str, Tensor], state: Mapping[str, Tensor], kinds: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Lines that name the tensors which go into no file, kind by kind."""
    beyond = [name for name in everything if name not in state]
    if beyond:
        yield _names(f"blocks of the vision tower after number {VISION_LAYERS}, which BLIP-2 does not use", beyond)
    seen: set[str] = set()
    for kind, pattern in kinds:
        names = [name for name in state if name not in seen and re.fullmatch(pattern, name)]
        seen.update(names)
        if names:
            yield _names(kind, names)


def _names(kind: str, names: Sequence[str]) -> str:
    more = f", ... ({len(names)} tensors)" if len(names) > 4 else ""
    return f"{kind}: {', '.join(names[: 2 if more else 4])}{more}"


def _beside(checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    for checkpoint in checkpoints:
        if checkpoint.beside:
            yield f"what {checkpoint.path.name} holds beside the model: {', '.join(checkpoint.beside)}"


def _write(
    out: Path,
    found: Found,
    base: Blip2Folder | None,
    tokenizer: PreTrainedTokenizerBase | None,
    training: Mapping[str, Any],
) -> Converted:
    """Everything into one temporary folder, which then becomes `out`."""
    with atomic_path(out) as temporary:
        temporary.mkdir()
        if found.whole is not None and tokenizer is not None:
            with _quiet():
                found.whole.save_pretrained(temporary / BACKBONE)
            tokenizer.save_pretrained(temporary / BACKBONE)
            for file in (temporary / BACKBONE).glob("*.safetensors"):  # which are the writer's own to read
                shutil.copymode(temporary / BACKBONE / "config.json", file)
            base = Blip2Folder(temporary / BACKBONE, str(out / BACKBONE))
        assert base is not None
        for role, head in found.heads.items():
            save_head(temporary / f"{role}.safetensors", head, base, role, training)
    return Converted(out, found, base.source, base.fingerprint)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _short(source: str) -> str:
    """A Hub id as it is, a path by its last name."""
    return source if not Path(source).exists() and HUB_ID.fullmatch(source) else Path(source).name
