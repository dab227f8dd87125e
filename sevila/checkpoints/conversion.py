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
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.utils import logging

from sevila.checkpoints.architecture import open_tokenizer
from sevila.checkpoints.blip2_folder import Blip2Folder
from sevila.checkpoints.heads import ROLES, predict_options, save_head
from sevila.checkpoints.lavis import (
    SPARE,
    VISION_LAYERS,
    blip2_from,
    heads_from,
    merge,
    remains_of,
    roles_in,
    used_blocks,
)
from sevila.checkpoints.state_dict import HUB_ID, Checkpoint, listed, read_checkpoint
from sevila.errors import UserError
from sevila.files import atomic_path, check_plain
from sevila.model.head import Head

T5_TOKENIZER = "google/flan-t5-xl"  # every Flan-T5 has the same
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")  # a source with one of these is a file, there or not
BACKBONE = "backbone"  # the folder inside OUT
BOTH, BLIP2S_OWN = "both heads of SeViLA", "BLIP-2's own head, the start of both"
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

    @property
    def command(self) -> str:
        """What can be done with it."""
        heads = {role: "FOLDER" if role in self.found.missing else str(self.out) for role in ROLES}
        return f'sevila predict VIDEO "question" option option {predict_options(self.source, heads)}'


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
    missing, unexpected, misshaped and not finite tensor, and where `out` holds something; OSError where it cannot be
    written.
    """
    sizes = sizes or Sizes()
    _check_out(out)
    base: Blip2Folder | None
    if len(sources) == 1 and not _is_file(sources[0]):
        if backbone is not None:
            raise UserError(f"--backbone={backbone}: {sources[0]} is its own backbone; leave the option out")
        base = Blip2Folder.open(sources[0])
        found = Found(BLIP2S_OWN, dict.fromkeys(ROLES, base.head()))
    else:
        checkpoints = [_read(Path(source)) for source in sources]
        base = None if backbone is None else Blip2Folder.open(backbone)
        found = _find(checkpoints, base, sizes)
    text = None
    if found.whole is None:
        _refuse_idle(tokenizer, sizes)
    else:
        text = read_t5_tokenizer(tokenizer, found.whole.language_model.config.vocab_size)
    training = {"converted_from": [_short(source) for source in sources], "weights": found.what}
    return _write(out, found, base, text, training)


# -- what was given ---


def _check_out(out: Path) -> None:
    """Raises UserError where a folder cannot be made or holds something."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out}: is a file; name a folder to write to")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"--out={out}: not empty; give another folder to write to")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: {above} cannot be written to; give another folder")


def _refuse_idle(tokenizer: str | None, sizes: Sizes) -> None:
    """Raises UserError for an option that is about the backbone to write, where none is written."""
    options = {
        "tokenizer": tokenizer,
        "dtype": None if sizes.dtype == torch.float32 else "bf16",
        "qformer-heads": sizes.qformer_heads,
        "vision-heads": sizes.vision_heads,
    }
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name}={value}: is about a backbone to write, and none is written; leave it out")


def _is_file(source: str) -> bool:
    return Path(source).is_file() or Path(source).suffix in SUFFIXES


def _read(path: Path) -> Checkpoint:
    check_plain(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; among several sources name its weight files")
    return read_checkpoint(path)


def read_t5_tokenizer(place: str | None, vocabulary: int) -> PreTrainedTokenizerBase:
    """T5's tokenizer from a folder or Hub id. Raises UserError where it is none of a T5 with that vocabulary."""
    place = T5_TOKENIZER if place is None else place
    key = f"--tokenizer={place}"
    files = f"give a folder that holds its tokenizer.json, or the Hub id {T5_TOKENIZER}"
    tokenizer = open_tokenizer(place, key, f"the backbone needs Flan-T5's: {files}")
    if (tokenizer.pad_token_id, tokenizer.eos_token_id) != (0, 1) or len(tokenizer) > vocabulary:
        raise UserError(
            f"{key}: not this T5's: it has {len(tokenizer)} tokens, <pad> {tokenizer.pad_token_id} and "
            f"</s> {tokenizer.eos_token_id}; expected at most {vocabulary} tokens, <pad> 0 and </s> 1"
        )
    return tokenizer


# -- what it holds ---


def _find(checkpoints: Sequence[Checkpoint], base: Blip2Folder | None, sizes: Sizes) -> Found:
    """The heads in LAVIS files, and their whole model unless `base` takes that place."""
    source = ", ".join(checkpoint.path.name for checkpoint in checkpoints)
    everything = merge(checkpoints)
    state = used_blocks(everything, VISION_LAYERS)
    roles = roles_in(state)
    lacking = [part for part, prefix in _WHOLE.items() if not any(name.startswith(prefix) for name in state)]
    if roles and base is None and lacking:
        raise UserError(
            f"{source}: no whole model (no {', no '.join(lacking)}), so say which backbone these heads belong to: "
            "--backbone Salesforce/blip2-flan-t5-xl, or a folder; or name the missing files too"
        )
    heads = heads_from(state, source, base.sizes if base else None, attention_heads=sizes.qformer_heads)
    spare = [*SPARE.items()]
    what = BOTH
    missing: tuple[str, ...] = ()
    if len(roles) == 1:
        (role,) = roles
        (other,) = (name for name in ROLES if name != role)
        remains = remains_of(other)
        if role == "answerer" and not any(re.fullmatch(remains, name) for name in state):
            what, heads = BLIP2S_OWN, dict.fromkeys(ROLES, heads[role])
        else:
            what, missing = f"the trained {role} of an official run", (other,)
            spare.append((f"what the run kept of its frozen {other}", remains))
    if base is not None:
        spare += [("the vision tower", r"visual_encoder\..+"), ("the language model", r"t5_model\..+")]
    left_out = [*_left_out(everything, state, spare), *_beside(checkpoints)]
    whole = blip2_from(state, source, sizes.qformer_heads, sizes.vision_heads, sizes.dtype) if base is None else None
    return Found(what, heads, tuple(left_out), whole, missing)


def _left_out(
    everything: Mapping[str, Tensor], state: Mapping[str, Tensor], spare: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Lines that name the tensors which go into no file, kind by kind."""
    beyond = [name for name in everything if name not in state]
    if beyond:
        yield f"blocks of the vision tower after number {VISION_LAYERS}, which BLIP-2 does not use: {listed(beyond, 4)}"
    told: set[str] = set()
    for kind, pattern in spare:
        names = [name for name in state if name not in told and re.fullmatch(pattern, name)]
        told.update(names)
        if names:
            yield f"{kind}: {listed(names, 4)}"


def _beside(checkpoints: Sequence[Checkpoint]) -> Iterator[str]:
    for checkpoint in checkpoints:
        if checkpoint.beside:
            yield f"what {checkpoint.path.name} holds beside the model: {', '.join(checkpoint.beside)}"


# -- what is written ---


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
