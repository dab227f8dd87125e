"""Where a backbone comes from: its architecture, its weights, its tokenizer.

`Pretrained` reads a Hub id, a folder in transformers' BLIP-2 format, or `tiny`. `Random` takes the sizes only and
fills them with seeded noise: for measuring memory and time, without any file of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from sevila.checkpoints.published import published
from sevila.errors import UserError
from sevila.files import check_plain

TINY = "tiny"
TINY_FOLDER = Path(__file__).resolve().parents[1] / "synthetic" / "tiny_blip2"
NOISE = 0.02  # standard deviation of random matrices: activations stay finite at any depth


MOST_LAYERS, MOST = 1000, 2**20  # no model is as large: a config.json that says so is damaged, or meant to fill memory
_SIZES = {
    "vision_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
                      "patch_size"),
    "qformer_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                       "encoder_hidden_size", "cross_attention_frequency"),
    "text_config": ("vocab_size", "d_model", "d_ff", "d_kv", "num_heads", "num_layers", "num_decoder_layers",
                    "relative_attention_num_buckets"),
}  # fmt: skip


class Weights(Protocol):
    """One way to come by weights. `source` is what `model.source` says."""

    def architecture(self, source: str) -> Blip2Config:
        """All sizes. UserError where the source is no BLIP-2 with a T5."""

    def blip2(
        self, source: str, config: Blip2Config, dtype: torch.dtype, device: torch.device, attention: str
    ) -> Blip2ForConditionalGeneration:
        """The whole model, its parameters in `dtype` from the start."""

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        """Give weights to a part that came without any, or UserError: `what` has none, and its `remedy`."""

    def name(self, source: str) -> str:
        """How messages and head files call the backbone."""


@dataclass(frozen=True)
class Pretrained:
    """The weights that the source holds."""

    def architecture(self, source: str) -> Blip2Config:
        return read_architecture(source)

    def blip2(
        self, source: str, config: Blip2Config, dtype: torch.dtype, device: torch.device, attention: str
    ) -> Blip2ForConditionalGeneration:
        from sevila.checkpoints.folder import Blip2Folder  # it builds on this package

        return Blip2Folder.open(source, "model.source=").load(config, dtype, device, attention)

    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        raise UserError(f"{what} has no weights: {remedy}, or model.weights=random to measure without any")

    def name(self, source: str) -> str:
        return source


@dataclass(frozen=True)
class Random:
    """Noise that is a function of the seed, the sizes, the dtype and the kind of device."""

    seed: int = 0

    def architecture(self, source: str) -> Blip2Config:
        return published(source) or read_architecture(source)

    def blip2(
        self, source: str, config: Blip2Config, dtype: torch.dtype, device: torch.device, attention: str
    ) -> Blip2ForConditionalGeneration:
        blip2 = outline(config).to(dtype).to_empty(device=device)
        share_word_vectors(blip2)
        blip2.set_attn_implementation(attention)
        self.fill(blip2, source, "")
        return blip2

    @torch.no_grad()
    def fill(self, module: nn.Module, what: str, remedy: str) -> None:
        """Matrices become noise, scales 1, biases and buffers 0, each in its place."""
        generator: torch.Generator | None = None
        for name, parameter in module.named_parameters():
            generator = generator or torch.Generator(parameter.device).manual_seed(self.seed)
            if parameter.ndim >= 2:
                parameter.normal_(0.0, NOISE, generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        for buffer in module.buffers():
            buffer.zero_()

    def name(self, source: str) -> str:
        return f"{source} with random weights"


WEIGHTS: dict[str, type[Weights]] = {"pretrained": Pretrained, "random": Random}


def read_architecture(source: str, said: str | None = None) -> Blip2Config:
    """The sizes in the config.json of a Hub id, a folder or `tiny`; `said` is how messages call it.

    No code of the source runs: a config.json that asks for its own python file is read as the class it names, or
    refused.
    """
    said = said or f"model.source={source}"
    check_plain(_place(source))
    try:
        config = AutoConfig.from_pretrained(_place(source), trust_remote_code=False)
    except Exception as error:  # a config.json may hold anything, and transformers checks little of it
        folder = Path(_place(source)).is_dir()
        what = "no configuration of a BLIP-2" if folder else "neither a folder nor a reachable Hub id of a BLIP-2"
        raise UserError(f"{said}: {what} ({reason(error)})") from error
    if config.model_type != "blip-2" or config.text_config.model_type != "t5":
        raise UserError(f"{said}: is a {config.model_type}, not a BLIP-2 with a T5 language model")
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"{said}: its config.json says that it is quantised; take the model with its whole weights")
    for name, size in _sizes(config):
        least = 2 if name == "text_config.vocab_size" else 1
        most = MOST_LAYERS if "layers" in name else MOST
        if type(size) is not int or not least <= size <= most:
            raise UserError(f"{said}: its config.json says {name}={size!r:.40}; expected {least} to {most}")
    config.text_config.dense_act_fn = "gelu"  # LAVIS overwrites Flan-T5's gelu_new with the exact GELU
    return config


def _sizes(config: Blip2Config) -> Iterator[tuple[str, Any]]:
    """Names and values of all numbers that decide how much memory a model takes."""
    yield "num_query_tokens", config.num_query_tokens
    for part, names in _SIZES.items():
        for name in names:
            yield f"{part}.{name}", getattr(getattr(config, part), name)


def outline(config: Blip2Config) -> Blip2ForConditionalGeneration:
    """The model on the meta device: names, shapes and no memory. The output table is not tied to the word vectors."""
    with torch.device("meta"):
        blip2 = Blip2ForConditionalGeneration(config)
    language = blip2.language_model
    language.lm_head.weight = nn.Parameter(torch.empty_like(language.shared.weight))
    share_word_vectors(blip2)
    return blip2


def share_word_vectors(blip2: Blip2ForConditionalGeneration) -> None:
    """Give both stacks of the T5 the one table of word vectors."""
    for stack in (blip2.language_model.encoder, blip2.language_model.decoder):
        stack.embed_tokens.weight = blip2.language_model.shared.weight


def read_tokenizer(given: str | None, source: str, words: int) -> PreTrainedTokenizerBase:
    """The tokenizer that `model.tokenizer` names (a folder or Hub id), else the source's own.

    words   size of the model's vocabulary

    UserError where there is none, or where the named one has more words than the model.
    """
    key = f"model.source={source}" if given is None else f"model.tokenizer={given}"
    check_plain(_place(source if given is None else given))
    try:
        tokenizer = AutoTokenizer.from_pretrained(_place(source if given is None else given), trust_remote_code=False)
    except Exception as error:  # tokenizers raises Exception itself for a damaged file
        raise UserError(f"{key}: no tokenizer there ({reason(error)}); name one by model.tokenizer=FOLDER") from error
    for role, token in (("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")):
        if getattr(tokenizer, role) is None:  # a bare tokenizer.json does not say which they are
            setattr(tokenizer, role, token)
    if not tokenizer("yes", add_special_tokens=False).input_ids:  # what transformers makes of a folder without one
        raise UserError(f"{key}: no tokenizer there (it knows no words); name one by model.tokenizer=FOLDER")
    if given is not None and len(tokenizer) > words:
        raise UserError(f"{key}: has {len(tokenizer)} tokens, model.source={source} knows {words}; name its own")
    return tokenizer


def _place(source: str) -> str:
    return str(TINY_FOLDER) if source == TINY else source


def reason(error: Exception) -> str:
    """What an error of another library says, in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
