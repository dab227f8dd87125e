"""A BLIP-2's sizes and tokenizer, by Hub id, folder or `tiny`; and the empty model of these sizes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from sevila.errors import UserError, reason
from sevila.files import check_plain

TINY = "tiny"
TINY_FOLDER = Path(__file__).resolve().parents[1] / "synthetic" / "tiny_blip2"
EXACT_GELU = "gelu"  # LAVIS computes T5's feed-forward layers with it, in the place of Flan-T5's gelu_new
WORD_VECTORS = "language_model.shared.weight"  # one table for both stacks of the T5 ...
TIED = tuple(f"language_model.{stack}.embed_tokens.weight" for stack in ("encoder", "decoder"))  # ... its other names

# -- sizes ---

MOST_LAYERS, MOST = 1000, 2**20  # no model is as large: a config.json that says so is damaged, or meant to fill memory
_SIZES = {
    "vision_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
                      "patch_size"),
    "qformer_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                       "encoder_hidden_size", "cross_attention_frequency"),
    "text_config": ("vocab_size", "d_model", "d_ff", "d_kv", "num_heads", "num_layers", "num_decoder_layers",
                    "relative_attention_num_buckets"),
}  # fmt: skip

# The published backbones, so that they can be built and counted without their files: EVA-CLIP's ViT-g and the Q-Former
# of BLIP-2 (Li et al. 2023), and Flan-T5's encoder-decoder (T5 v1.1 with gated feed-forward layers).
VIT_G = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,  # of EVA-CLIP's 40
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
QFORMER = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "encoder_hidden_size": 1408,
    "cross_attention_frequency": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
T5 = {  # what all gated T5s have in common
    "model_type": "t5",
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": EXACT_GELU,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_FLAN_T5 = T5 | {
    "vocab_size": 32128,
    "d_kv": 64,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
}
_PUBLISHED = {
    "Salesforce/blip2-flan-t5-xl": _FLAN_T5 | {"d_model": 2048, "d_ff": 5120, "num_heads": 32},
    "Salesforce/blip2-flan-t5-xxl": _FLAN_T5 | {"d_model": 4096, "d_ff": 10240, "num_heads": 64},
}


def published(source: str) -> Blip2Config | None:
    """The configuration of a published backbone by its Hub id; None for any other name."""
    if source not in _PUBLISHED:
        return None
    return Blip2Config(
        vision_config=dict(VIT_G),
        qformer_config=dict(QFORMER),
        text_config=dict(_PUBLISHED[source]),
        num_query_tokens=32,
    )


def read_architecture(source: str, name: str | None = None) -> Blip2Config:
    """The sizes in the config.json of a Hub id, a folder or `tiny`.

    name   how messages call the source; None: by its key, model.source

    No code of the source runs: a config.json that asks for its own python file is read as the class it names, or
    refused. Raises UserError where there is none, where it is no BLIP-2 with a T5, and for sizes that no model has.
    """
    name = name or f"model.source={source}"
    place = _place(source)
    check_plain(place)
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # a config.json may hold anything, and transformers checks little of it
        folder = Path(place).is_dir()
        what = "no configuration of a BLIP-2" if folder else "neither a folder nor a reachable Hub id of a BLIP-2"
        raise UserError(f"{name}: {what} ({reason(error)})") from error
    if config.model_type != "blip-2" or config.text_config.model_type != "t5":
        raise UserError(f"{name}: is a {config.model_type}, not a BLIP-2 with a T5 language model")
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(f"{name}: its config.json says that it is quantised; take the model with its whole weights")
    for key, size in _sizes(config):
        least = 2 if key == "text_config.vocab_size" else 1
        most = MOST_LAYERS if "layers" in key else MOST
        if type(size) is not int or not least <= size <= most:
            raise UserError(f"{name}: its config.json says {key}={size!r:.40}; expected {least} to {most}")
    config.text_config.dense_act_fn = EXACT_GELU
    return config


def _sizes(config: Blip2Config) -> Iterator[tuple[str, Any]]:
    """Names and values of all numbers that decide how much memory a model takes."""
    yield "num_query_tokens", config.num_query_tokens
    for part, names in _SIZES.items():
        for name in names:
            yield f"{part}.{name}", getattr(getattr(config, part), name)


# -- the empty model ---


def outline(config: Blip2Config) -> Blip2ForConditionalGeneration:
    """The model on the meta device: names, shapes and no memory. The output table is not tied to the word vectors."""
    with torch.device("meta"):
        blip2 = Blip2ForConditionalGeneration(config)
    language = blip2.language_model
    language.lm_head.weight = nn.Parameter(torch.empty_like(language.shared.weight))  # transformers 5 ties it
    share_word_vectors(blip2)
    return blip2


def share_word_vectors(blip2: Blip2ForConditionalGeneration) -> None:
    """Give both stacks of the T5 the one table of word vectors."""
    for stack in (blip2.language_model.encoder, blip2.language_model.decoder):
        stack.embed_tokens.weight = blip2.language_model.shared.weight


def fill_outline(blip2: Blip2ForConditionalGeneration, tensors: dict[str, torch.Tensor]) -> None:
    """Give an outline its tensors, as they are, by their names in transformers without those of `TIED`."""
    blip2.load_state_dict({**tensors, **dict.fromkeys(TIED, tensors[WORD_VECTORS])}, assign=True)
    share_word_vectors(blip2)  # `assign` gives every name a parameter of its own
    blip2.eval()


# -- tokenizer ---

# which they are, a bare tokenizer.json does not say
T5_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def read_tokenizer(given: str | None, source: str, vocabulary: int) -> PreTrainedTokenizerBase:
    """The tokenizer that `model.tokenizer` names (a folder or Hub id), else the source's own.

    Raises UserError where there is none, and where the named one has more tokens than the model's `vocabulary`.
    """
    key = f"model.source={source}" if given is None else f"model.tokenizer={given}"
    place = _place(source if given is None else given)
    tokenizer = open_tokenizer(place, key, "name one by model.tokenizer=FOLDER")
    if given is not None and len(tokenizer) > vocabulary:
        raise UserError(f"{key}: has {len(tokenizer)} tokens, model.source={source} knows {vocabulary}; name its own")
    return tokenizer


def open_tokenizer(place: str, key: str, remedy: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub id; no code there runs. Raises UserError, from `key` to `remedy`, for none."""
    check_plain(place)
    file = Path(place) / "tokenizer.json"
    tokenizer: Any
    try:
        if file.is_file() and not file.with_name("tokenizer_config.json").is_file():
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), **T5_TOKENS)
        else:
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except Exception as error:  # tokenizers raises Exception itself for a damaged file
        raise UserError(f"{key}: no tokenizer there ({reason(error)}); {remedy}") from error
    for role, token in T5_TOKENS.items():
        if getattr(tokenizer, role) is None:
            setattr(tokenizer, role, token)
    if not tokenizer("yes", add_special_tokens=False).input_ids:  # what transformers makes of a folder without one
        raise UserError(f"{key}: no tokenizer there (it knows no words); {remedy}")
    return tokenizer


def _place(source: str) -> str:
    return str(TINY_FOLDER) if source == TINY else source


def warn_of_tiny(source: str, remedy: str) -> None:
    """Say on stderr what the tiny backbone is worth on videos that are not drawn."""
    if source == TINY:
        told = "the tiny backbone knows the drawn world alone, its answers about other videos mean nothing"
        print(f"sevila: warning: {told}; {remedy} takes the paper's", file=sys.stderr)
