"""What tells one model from another: digests of all its weights."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_ALIASES = re.compile(r"language_model\.(encoder|decoder)\.embed_tokens\.")  # of the word vectors
_HEAD_NAMES = (
    ("queries", "query_tokens"),
    ("norm.", "vision_model.post_layernorm."),
    ("projection.", "language_projection."),
)


def digest(*modules: nn.Module) -> str:
    """Sixteen hex digits of every parameter's and buffer's name, shape, dtype and bits.

    Nothing is sampled: the checksum of a tensor (CRC-32) runs over all its bytes, at the speed of memory, so that a
    billion parameters take a second.
    """
    total = hashlib.sha256()
    for number, module in enumerate(modules):
        for name, tensor in module.state_dict().items():
            values = tensor.detach().cpu().contiguous().reshape(-1)
            bits = zlib.crc32(values.view(torch.uint8).numpy())
            total.update(f"{number} {name} {tuple(tensor.shape)} {tensor.dtype} {bits}\n".encode())
    return total.hexdigest()[:16]


def first_fingerprint_of(tensors: Iterable[Tensor]) -> str:
    """What heads of version 0.1 were given in its place: a digest of the beginnings alone of tensors of any shape."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(str(tuple(tensor.shape)).encode())
        total.update(_bits(tensor.flatten()[:4096]))
    return total.hexdigest()[:12]


def fingerprint_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """`Backbone.fingerprint` from the names and tensors, of any shape, of transformers' BLIP-2, in any order.

    It covers all of the vision tower, the language model and BLIP-2's own head: each tensor's name, shape and, as
    bfloat16, every value (CRC-32, at the speed of memory). Left out is the bias of the keys in the tower's attention,
    which changes nothing and which LAVIS's files lack.
    """
    lines = []
    for name, tensor in weights:
        if not _ALIASES.match(name):
            if name.endswith("self_attn.qkv.bias"):
                query, _, value = tensor.chunk(3)
                tensor = torch.cat([query, value])
            lines.append(f"{name} {list(tensor.shape)} {zlib.crc32(_bits(tensor))}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:12]


def name_in_blip2(name: str) -> str:
    """The name in transformers' BLIP-2 of a tensor of its own head."""
    return next((new + name[len(old) :] for old, new in _HEAD_NAMES if name.startswith(old)), name)


def _bits(tensor: Tensor) -> Any:
    return tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()
