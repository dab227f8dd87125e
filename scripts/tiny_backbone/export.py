"""Putting the parts together as a BLIP-2 in transformers' own format."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import Blip2Config, Blip2ForConditionalGeneration, T5ForConditionalGeneration, T5Tokenizer

from sevila.synthetic.language import SLOTS
from tiny_backbone.vision import Eyes


def assemble(eyes: Eyes, language: T5ForConditionalGeneration) -> Blip2ForConditionalGeneration:
    """One BLIP-2 of the two halves."""
    config = Blip2Config(
        vision_config=eyes.vision_model.config.to_dict(),
        qformer_config=eyes.qformer.config.to_dict(),
        text_config=language.config.to_dict(),
        num_query_tokens=SLOTS,
    )
    config.text_config.dense_act_fn = "gelu"
    blip2 = Blip2ForConditionalGeneration(config)
    # transformers ties the output table to the word vectors when a model is built from a config; it must not be
    blip2.language_model.lm_head.weight = nn.Parameter(language.lm_head.weight.detach().clone())
    for part in ("vision_model", "qformer", "language_projection"):
        getattr(blip2, part).load_state_dict(getattr(eyes, part).state_dict())
    blip2.query_tokens.data.copy_(eyes.query_tokens)
    blip2.language_model.load_state_dict(language.state_dict())
    if not torch.equal(blip2.language_model.shared.weight, language.shared.weight):
        raise RuntimeError("the word vectors were overwritten by the output table")
    return blip2


def export(eyes: Eyes, language: T5ForConditionalGeneration, tokenizer: T5Tokenizer, folder: Path) -> None:
    """Write the folder: float16 weights (they are read as float32), configuration, tokenizer."""
    assemble(eyes, language).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
