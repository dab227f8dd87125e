"""The small models that LAVIS, timm and this library are compared on. Sizes stand here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One size.

    vision        arguments of LAVIS's VisionTransformer (and of timm's `Eva`, under the same names)
    stored_image  image size that the stored position embeddings are for; LAVIS interpolates where it differs
    bert          arguments of BertConfig; `cross_every` blocks, one attends to the picture
    t5            arguments of T5Config
    text_tokens   longer texts lose their end
    """

    name: str
    seed: int
    vision: dict[str, Any]
    stored_image: int
    bert: dict[str, int]
    queries: int
    cross_every: int
    t5: dict[str, int]
    videos: int
    frames: int
    text_tokens: int = 77


def _vision(img_size: int, patch_size: int, embed_dim: int, depth: int, num_heads: int) -> dict[str, Any]:
    mlp_ratio = 4.3637  # EVA-CLIP ViT-g's
    return {
        "img_size": img_size,
        "patch_size": patch_size,
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio,
    }


def _bert(hidden_size: int, layers: int, heads: int, intermediate_size: int) -> dict[str, int]:
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate_size,
    }


def _t5(d_model: int, d_kv: int, heads: int, d_ff: int, layers: int, decoder_layers: int) -> dict[str, int]:
    return {
        "d_model": d_model,
        "d_kv": d_kv,
        "num_heads": heads,
        "d_ff": d_ff,
        "num_layers": layers,
        "num_decoder_layers": decoder_layers,
    }


CASES = (
    Case("small", 1, _vision(28, 7, 88, 2, 2), 28, _bert(64, 2, 4, 96), 4, 2, _t5(48, 8, 4, 64, 2, 2), 2, 3),
    Case("deep", 2, _vision(32, 8, 64, 6, 4), 32, _bert(48, 7, 3, 80), 5, 2, _t5(40, 10, 4, 72, 4, 3), 2, 2),
    Case("wide", 3, _vision(56, 14, 352, 3, 4), 56, _bert(192, 4, 3, 384), 32, 2, _t5(128, 16, 6, 200, 2, 2), 1, 8),
    # interpolated position embeddings: up; and down, from a picture that is no multiple of the patch
    Case("larger", 4, _vision(84, 14, 96, 2, 6), 56, _bert(128, 6, 2, 100), 7, 3, _t5(56, 12, 2, 88, 2, 4), 3, 1),
    Case("smaller", 5, _vision(31, 6, 80, 3, 1), 48, _bert(32, 3, 8, 64), 1, 1, _t5(64, 32, 1, 48, 1, 1), 2, 4, 9),
)
