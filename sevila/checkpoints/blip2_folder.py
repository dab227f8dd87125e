"""A BLIP-2 in transformers' format, read tensor by tensor: whole, or not at all.

Weights are model.safetensors or pytorch_model.bin, in one file or in several with an index. Names and shapes are
checked before anything is used, values as they are read. What may be there and is not needed is known by name
(`SPARE`). No file can run code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration

from sevila.checkpoints.architecture import TIED, TINY, TINY_FOLDER, fill_outline, outline, read_architecture
from sevila.checkpoints.state_dict import HUB_FAULTS, check_tensors, fetch, listed, read_checkpoint
from sevila.errors import UserError, reason
from sevila.files import check_plain, read_json
from sevila.model.digest import fingerprint_of, name_in_blip2
from sevila.model.head import Head, HeadConfig
from sevila.model.precision import finite

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or in several files, listed in NAME.index.json
FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # of a Hub repository: configurations, weights, tokenizer
VERDICT = "its weights do not fit its config.json"
SPARE = "|".join(  # what may be there and is not needed
    (
        *map(re.escape, TIED),
        # a table of old T5 files that no T5 reads
        r"language_model\.decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
        r"(qformer|vision_model)\.embeddings\.position_ids",  # counters of positions
    )
)
TOWER_BLOCKS = r"vision_model\.encoder\.layers\..+"


class Blip2Folder:
    """A folder with a BLIP-2's configuration and weights.

    folder   where it lies on this machine
    source   what the user calls it: a Hub id, a folder or `tiny`
    key      what stands before `source` in messages, as in "model.source="
    """

    def __init__(self, folder: Path, source: str, key: str = "") -> None:
        self.folder, self.source, self.name = folder, source, f"{key}{source}"

    @classmethod
    def open(cls, place: str, key: str = "") -> Blip2Folder:
        """A local folder, `tiny`, or a Hub id, which is downloaded. Raises UserError for no BLIP-2 with a T5."""
        folder = TINY_FOLDER if place == TINY else Path(place)
        check_plain(folder)
        if not folder.is_dir():
            try:
                if "@" in place:
                    raise ValueError("a backbone is named without a revision")
                folder = fetch(place, FILES)
                if not any(folder.glob("*.safetensors")):
                    folder = fetch(place, (*FILES, "*.bin"))
            except HUB_FAULTS as error:
                raise UserError(
                    f"{key}{place}: neither a folder nor a reachable Hub id of a BLIP-2, such as "
                    f"Salesforce/blip2-flan-t5-xl ({reason(error)})"
                ) from None
        found = cls(folder, place, key)
        _ = found.config
        return found

    @cached_property
    def config(self) -> Blip2Config:
        return read_architecture(str(self.folder), self.name)

    @property
    def sizes(self) -> HeadConfig:
        """Of the backbone's own head, and so of every head over it."""
        config: Any = self.config
        return HeadConfig.of(config.qformer_config, config.num_query_tokens, config.text_config.d_model)

    @cached_property
    def fingerprint(self) -> str:
        """The same twelve hex digits as `Backbone.fingerprint` of the loaded model. Raises UserError as `load`."""
        return fingerprint_of(self._read(self._checked(self.config)[1]))

    def head(self) -> Head:
        """BLIP-2's own head, float32: what `Backbone.zeroshot` of the loaded model is. Raises UserError as `load`."""
        with torch.device("meta"):
            head = Head(self.sizes)
        ours = {name_in_blip2(name): name for name in head.state_dict()}
        tensors = self._read([name for name in self._checked(self.config)[1] if name in ours])
        head.load_state_dict({ours[name]: t.to(torch.float32, copy=True) for name, t in tensors}, assign=True)
        return head.eval()

    def load(
        self, config: Blip2Config, dtype: torch.dtype, device: torch.device, rest: torch.dtype | None = None
    ) -> Blip2ForConditionalGeneration:
        """The whole model, its parameters in `dtype` from the start.

        config   `self.config`, perhaps without blocks of the vision tower: the file's are left out then
        rest     of all but the language model; None: `dtype` too

        Raises UserError that lists the tensors that are missing, unexpected, of another shape or not finite.
        """
        blip2, names = self._checked(config)
        kinds = {True: dtype, False: rest or dtype}
        tensors = ((name, t, kinds[name.startswith("language_model.")]) for name, t in self._read(names))
        fill_outline(blip2, {name: t.to(device, kind, copy=True) for name, t, kind in tensors})
        return blip2

    def _checked(self, config: Any) -> tuple[Blip2ForConditionalGeneration, list[str]]:
        """The empty model and the names of its tensors: the files hold these, in its shapes, and no others."""
        try:
            blip2 = outline(config)
        except Exception as error:  # whatever transformers makes of sizes that do not go together
            raise UserError(f"{self.name}: no model has the sizes in its config.json ({reason(error)})") from None
        wanted = {name: t.shape for name, t in blip2.state_dict().items() if name not in TIED}
        spare = f"{SPARE}|{TOWER_BLOCKS}" if config.vision_config.num_hidden_layers == 0 else SPARE
        shapes = {name: tensor.to("meta") for name, tensor in self._tensors.items()}  # values are looked at in `_read`
        check_tensors(self.name, VERDICT, wanted, shapes, re.compile(spare))
        return blip2, list(wanted)

    def _read(self, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors, one by one. Raises UserError, after the last one, where values are no finite numbers."""
        damaged = {}
        for name in names:
            tensor = self._tensors[name]
            if not finite(tensor):
                damaged[name] = tensor
            yield name, tensor
        check_tensors(self.name, VERDICT, {name: tensor.shape for name, tensor in damaged.items()}, damaged)

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        """All tensors in the folder by name: on the disk, until they are used."""
        found: dict[str, Tensor] = {}
        for file in self._files():
            tensors = read_checkpoint(file).state
            twice = [name for name in tensors if name in found]
            if twice:
                raise UserError(f"{file}: holds tensors of another file too: {listed(twice, 4)}")
            found |= tensors
        return found

    def _files(self) -> list[Path]:
        for name in WEIGHTS:
            if (self.folder / name).is_file():
                return [self.folder / name]
            index = self.folder / f"{name}.index.json"
            if index.is_file():
                return [self.folder / file for file in _listed_in(index)]
        raise UserError(f"{self.name}: holds no weights (no {' or '.join(WEIGHTS)}, in one file or with an index)")


def _listed_in(index: Path) -> list[str]:
    """The names of the files that an index lists. Raises UserError for one that leads out of the folder."""
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{index}: no index of weights (no entry weight_map)")
    for file in places.values():
        if Path(file).name != file or not (index.parent / file).is_file():
            raise UserError(f"{index}: names {file!r}, and there is no such file beside it")
    return sorted(set(places.values()))
