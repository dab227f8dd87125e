"""A BLIP-2 in transformers' format, read tensor by tensor: whole, or not at all.

Weights are model.safetensors or pytorch_model.bin, in one file or in several with an index. Everything is checked
before anything is used: what is missing, unexpected or of another shape, and values that are no numbers, are listed in
one UserError. What may be there and is not needed is known by name (`SPARE`). No file can run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration

from sevila.checkpoints.architecture import TINY, TINY_FOLDER, outline, read_architecture, share_word_vectors
from sevila.checkpoints.hub import HUB_FAULTS, brief, fetch
from sevila.checkpoints.importers import open_checkpoint
from sevila.errors import UserError
from sevila.files import check_plain, read_json
from sevila.model.digest import fingerprint_of, name_in_blip2
from sevila.model.head import Head, HeadConfig
from sevila.model.precision import finite

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or in several files, listed in NAME.index.json
FILES = ("*.json", "*.safetensors", "*.model", "*.txt")  # of a Hub repository: configurations, weights, tokenizer
SPARE = {  # what may be there and is not needed
    "second names of T5's word vectors": r"language_model\.(encoder|decoder)\.embed_tokens\.weight",
    "a table of old T5 files that no T5 reads": r"language_model\.decoder\.block\.0\.layer\.1\.EncDecAttention"
    r"\.relative_attention_bias\.weight",
    "counters of positions": r"(qformer|vision_model)\.embeddings\.position_ids",
}
_SPARE = re.compile("|".join(SPARE.values()))
_SHARED = "language_model.shared.weight"
_ALIASES = re.compile(next(iter(SPARE.values())))
_TOWER_BLOCKS = re.compile(r"vision_model\.encoder\.layers\..+")
_LISTED = 20  # tensors of a kind that a message names


class Blip2Folder:
    """A folder with a BLIP-2's configuration and weights.

    folder   where it lies on this machine
    source   what the user calls it: a Hub id, a folder or `tiny`
    key      what stands before `source` in messages, as in "model.source="
    """

    def __init__(self, folder: Path, source: str, key: str = "") -> None:
        self.folder, self.source, self.said = folder, source, f"{key}{source}"

    @classmethod
    def open(cls, place: str, key: str = "") -> Blip2Folder:
        """A local folder, `tiny`, or a Hub id, which is downloaded. UserError where it is no BLIP-2 with a T5."""
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
                    f"Salesforce/blip2-flan-t5-xl ({brief(error)})"
                ) from None
        found = cls(folder, place, key)
        _ = found.config
        return found

    @cached_property
    def config(self) -> Blip2Config:
        return read_architecture(str(self.folder), self.said)

    @property
    def sizes(self) -> HeadConfig:
        """Of the backbone's own head, and so of every head over it."""
        config = self.config
        return HeadConfig.of(config.qformer_config, config.num_query_tokens, config.text_config.d_model)

    @cached_property
    def fingerprint(self) -> str:
        """The same twelve hex digits as `Backbone.fingerprint` of the loaded model. UserError as for `load`."""
        return fingerprint_of(self._read(self._names(self.config)))

    def head(self) -> Head:
        """BLIP-2's own head, float32: what `Backbone.zeroshot` of the loaded model is. UserError as for `load`."""
        with torch.device("meta"):
            head = Head(self.sizes)
        names = {name_in_blip2(name): name for name in head.state_dict()}
        found = self._read([name for name in self._names(self.config) if name in names])
        head.load_state_dict({names[name]: t.to(torch.float32, copy=True) for name, t in found}, assign=True)
        return head.eval()

    def load(
        self, config: Blip2Config, dtype: torch.dtype, device: torch.device, attention: str
    ) -> Blip2ForConditionalGeneration:
        """The whole model, its parameters in `dtype` from the start.

        config   `self.config`, perhaps without blocks of the vision tower: the file's are left out then

        UserError lists the tensors that are missing, unexpected, of another shape, or hold NaN or infinite values.
        """
        blip2 = self._outline(config)
        tensors = {name: t.to(device, dtype, copy=True) for name, t in self._read(self._names(config))}
        for alias in blip2.state_dict().keys() - tensors.keys():
            tensors[alias] = tensors[_SHARED]
        blip2.load_state_dict(tensors, assign=True)
        share_word_vectors(blip2)
        blip2.set_attn_implementation(attention)
        return blip2.eval()

    def _outline(self, config: Blip2Config) -> Blip2ForConditionalGeneration:
        try:
            return outline(config)
        except Exception as error:  # whatever transformers makes of sizes that do not go together
            raise UserError(f"{self.said}: no model has the sizes in its config.json ({brief(error)})") from None

    def _names(self, config: Blip2Config) -> list[str]:
        """Of all tensors of the model, once it is known that the files hold these in these shapes, and no others."""
        wanted = {name: t.shape for name, t in self._outline(config).state_dict().items() if not _ALIASES.match(name)}
        self._compare(wanted, leave_out=_TOWER_BLOCKS if config.vision_config.num_hidden_layers == 0 else None)
        return list(wanted)

    def _read(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors, one by one. UserError, after the last one, where values are no finite numbers."""
        damaged = []
        for name in names:
            tensor = self._tensors[name]()
            if not finite(tensor):
                damaged.append(name)
            yield name, tensor
        if damaged:
            values = "values that are no finite numbers (NaN, infinity, integers)"
            raise UserError(f"{self.said}: {values} in {_listed(damaged)}")

    def _compare(self, wanted: Mapping[str, torch.Size], leave_out: re.Pattern[str] | None) -> None:
        found = self._shapes
        missing = [name for name in wanted if name not in found]
        unexpected = [
            name
            for name in found
            if name not in wanted and not _SPARE.fullmatch(name) and not (leave_out and leave_out.fullmatch(name))
        ]
        shapes = [
            f"{name} is {list(found[name])}, not {list(shape)}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name]) != tuple(shape)
        ]
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        if any(kinds.values()):
            said = "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds.items() if names)
            raise UserError(f"{self.said}: its weights do not fit its config.json, {said}")

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: shape for name, (shape, _) in self._found.items()}

    @cached_property
    def _tensors(self) -> dict[str, Callable[[], Tensor]]:
        return {name: read for name, (_, read) in self._found.items()}

    @cached_property
    def _found(self) -> dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]]:
        """Of each tensor in the folder its shape, and what reads it."""
        found: dict[str, tuple[tuple[int, ...], Callable[[], Tensor]]] = {}
        for file in self._files():
            tensors = dict(_of_safetensors(file) if file.suffix == ".safetensors" else _of_checkpoint(file))
            twice = [name for name in tensors if name in found]
            if twice:
                raise UserError(f"{file}: holds tensors of another file too: {_listed(twice)}")
            found |= tensors
        return found

    def _files(self) -> list[Path]:
        for name in WEIGHTS:
            if (self.folder / name).is_file():
                return [self.folder / name]
            index = self.folder / f"{name}.index.json"
            if index.is_file():
                return [self.folder / file for file in _of_index(index)]
        raise UserError(f"{self.said}: holds no weights (no {' or '.join(WEIGHTS)}, in one file or with an index)")


def _of_index(index: Path) -> list[str]:
    """The names of the files that an index lists. UserError for one that leads out of the folder."""
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{index}: no index of weights (no entry weight_map)")
    for file in places.values():
        if Path(file).name != file or not (index.parent / file).is_file():
            raise UserError(f"{index}: names {file!r}, and there is no such file beside it")
    return sorted(set(places.values()))


def _of_safetensors(file: Path) -> Iterator[tuple[str, tuple[tuple[int, ...], Callable[[], Tensor]]]]:
    try:
        tensors = safe_open(file, "pt")
        for name in tensors.keys():  # noqa: SIM118  no dict
            shape = tuple(tensors.get_slice(name).get_shape())
            yield name, (shape, lambda name=name: tensors.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file ({brief(error)})") from None


def _of_checkpoint(file: Path) -> Iterator[tuple[str, tuple[tuple[int, ...], Callable[[], Tensor]]]]:
    for name, tensor in open_checkpoint(file).state.items():
        yield name, (tuple(tensor.shape), lambda tensor=tensor: tensor)


def _listed(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} tensors)" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
