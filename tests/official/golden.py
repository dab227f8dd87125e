"""A golden folder: random weights under the official names, inputs, and what the official code made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from official.difference import Tolerances
from sevila.checkpoints.lavis import backbone_from, head_sizes, heads_from
from sevila.errors import UserError
from sevila.files import read_json
from sevila.model.backbone import Backbone
from sevila.model.head import HeadConfig
from sevila.model.language import AnswerDecoding, Official
from sevila.model.precision import wide
from sevila.model.prompts import target
from sevila.model.sevila import SeViLA


@dataclass(frozen=True)
class Spoken:
    """Prompts that are given word for word: a question's text is its row in the golden inputs."""

    answers: list[str]
    localizers: list[str]

    def answer(self, question: str, options: object) -> str:
        return self.answers[int(question)]

    def localize(self, question: str, options: object) -> str:
        return self.localizers[int(question)]


class Golden:
    """The folder's weights, tensors and notes (`aux` is None where the folder has none).

    dtype   float64, in which the comparison decides, or float32, a smoke test
    fused   with the fused attention that the library uses by default, not the plain one of the official code
    device  where the model is; inputs and official outputs stay on the CPU
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Path,
        dtype: torch.dtype = torch.float64,
        fused: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        if not (folder / "golden.json").is_file():
            raise UserError(f"{folder}: holds no golden.json; name the folder with --golden DIR")
        self.dtype, self.tolerances, self.device = dtype, Tolerances.of(dtype), torch.device(device)
        self.attention = "sdpa" if fused else "eager"
        self.folder, self.meta = folder, read_json(folder / "golden.json")
        self.weights = load_file(folder / "state_dict.safetensors")
        self.tensors = load_file(folder / "tensors.safetensors")
        t5 = self.meta["config"]["t5"]
        for name, recipe in self.meta.get("tables", {}).items():
            self.weights[name] = table(t5["vocab_size"], t5["d_model"], **recipe)
        self.aux: dict[str, Any] | None = None
        if (folder / "aux.json").is_file():
            self.aux = read_json(folder / "aux.json")
            self.aux["tensors"] = load_file(folder / "aux_tensors.safetensors")
        self.tokenizer = read_tokenizer(tokenizer)
        self.videos, self.frames = self.tensors["in.video"].shape[:2]
        self.pixels = self.tensors["in.video"]
        self.options = len(self.meta["ids"]["answer"])

    @cached_property
    def sizes(self) -> HeadConfig:
        return head_sizes(self.weights, "answerer", self.meta["config"]["bert"]["num_attention_heads"])

    @cached_property
    def backbone(self) -> Backbone:
        config = self.meta["config"]
        return backbone_from(
            self.weights,
            self.tokenizer,
            str(self.folder),
            config["bert"]["num_attention_heads"],
            config["vit"]["num_heads"],
            dtype=self.dtype,
            attention=self.attention,
        ).to(self.device)

    @cached_property
    def prompts(self) -> Spoken:
        return Spoken(self.meta["inputs"]["qa_input"], self.meta["inputs"]["loc_input"])

    @cached_property
    def answers(self) -> list[int]:
        """Of each row the right option's index."""
        return [[target(i) for i in range(self.options)].index(text) for text in self.meta["inputs"]["qa_output"]]

    @cached_property
    def patches(self) -> Tensor:
        """[B, T, P, Dv], made once."""
        return self.backbone.encode(self.pixels)

    def model(self, decoding: AnswerDecoding | None = None) -> SeViLA:
        """The library's model with heads of its own to train. The official decoding by default."""
        made = heads_from(self.weights, str(self.folder), self.sizes, self.attention, dtype=wide(self.dtype))
        heads = {role: head.to(self.device) for role, head in made.items()}
        return SeViLA(self.backbone, **heads, decoding=decoding or Official(), prompts=self.prompts)


def table(rows: int, columns: int, seed: int, scale: float) -> Tensor:
    """A vocabulary table that is not stored but made by an integer hash of the position."""
    x = np.arange(rows * columns, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(seed)
    for shift, factor in ((16, 2246822519), (13, 3266489917), (16, 1)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    unit = (x >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
    return torch.from_numpy((unit - np.float32(0.5)) * np.float32(scale)).view(rows, columns)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """T5's tokenizer from its tokenizer.json."""
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder}: holds no tokenizer.json of T5; name its folder with --tokenizer DIR")
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
