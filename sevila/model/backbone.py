"""The frozen image-language model: vision tower, T5, tokenizer. `sevila.checkpoints.backbone` loads one."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sevila.errors import UserError
from sevila.model import (
    t5,
    torchvision_check,  # noqa: F401  before anything imports transformers
)
from sevila.model.head import Head, HeadConfig
from sevila.model.passes import TOKENS
from sevila.model.precision import at_least_float32, wide
from sevila.model.vision import Blip2Tower, Tower

if TYPE_CHECKING:
    from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

TEXT_TOKENS = 77  # the official limit; longer texts lose their end
_ALIASES = re.compile(r"language_model\.(encoder|decoder)\.embed_tokens\.")  # of the word vectors
_HEAD_NAMES = (
    ("queries", "query_tokens"),
    ("norm.", "vision_model.post_layernorm."),
    ("projection.", "language_projection."),
)


class Backbone(nn.Module):
    """What every head shares, and what no training changes.

    tower      pixels [N, 3, S, S] -> patches [N, P, Dv], before any head's layer norm
    language   T5 with exact GELU
    zeroshot   the head BLIP-2 itself was trained with, the start of both heads

    `tokens` is the memory budget of a pass through the tower or the language model: rows x tokens a row.
    """

    def __init__(
        self,
        tower: Tower,
        language: T5ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        zeroshot: Head,
        source: str,
        text_tokens: int = TEXT_TOKENS,
        tokens: int = TOKENS,
    ) -> None:
        super().__init__()
        self.tower, self.language, self.tokenizer, self.source = tower, language, tokenizer, source
        self.zeroshot = zeroshot
        self.text_tokens, self.tokens = text_tokens, tokens
        t5.fuse_norms(language)
        self.truncated: set[str] = set()  # texts that lost their end, for the warning at a run's end
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stays in evaluation mode: a frozen model has no dropout."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        return self.language.shared.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.language.shared.weight.dtype

    @property
    def vision(self) -> nn.Module:
        """transformers' or timm's own module inside the tower."""
        return self.tower.model

    @property
    def image_size(self) -> int:
        return self.tower.image_size

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell one backbone's weights from another's, the same in float32 and bfloat16."""
        return fingerprint_of(self._weights())

    @cached_property
    def first_fingerprint(self) -> str:
        """What heads of version 0.1 were given in its place: it looks at the beginning of two tensors alone."""
        digest = hashlib.sha256()
        for tensor in (self.tower.positions, self.language.lm_head.weight):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(_bits(tensor.flatten()[:4096]))
        return digest.hexdigest()[:12]

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, under the names that they have in transformers' BLIP-2."""
        for name, tensor in self.tower.weights():
            if not name.startswith("post_layernorm."):  # that is the head's
                yield f"vision_model.{name}", tensor
        for name, tensor in self.zeroshot.state_dict().items():
            yield name_in_blip2(name), tensor
        for name, tensor in self.language.state_dict().items():
            yield f"language_model.{name}", tensor

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [..., 3, S, S] -> patches [..., P, Dv], in the backbone's dtype.

        Pictures of another size than `image_size` get their position embeddings interpolated, bicubically.
        """
        frames = pixels.flatten(0, -4)
        each = max(1, self.tokens // self.tower.positions.shape[1])
        parts = [self.tower(part.to(self.device, self.dtype)) for part in frames.split(each)]
        return torch.cat(parts).unflatten(0, pixels.shape[:-3])

    def token(self, word: str) -> int:
        """The id of a word that must be one token ("yes", "A")."""
        ids = self.tokenizer(word, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise UserError(f"{self.source}: its tokenizer splits {word!r} into {len(ids)} tokens; SeViLA needs one")
        return ids[0]

    def prefix(self, number: int | None) -> list[int]:
        """Ids of "Frame: " or "Frame i: ", with the trailing space that transformers 5's T5 tokenizer drops."""
        text = "Frame:" if number is None else f"Frame {number}:"
        space = self.tokenizer.convert_tokens_to_ids("▁")
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, space]

    def text(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> ids and mask [N, L], ended by </s>, cut on the right at `text_tokens`, padded to the longest."""
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}  # many rows ask the same
        different = list(place)
        batch = self.tokenizer(
            different, padding="longest", truncation=True, max_length=self.text_tokens, return_tensors="pt"
        )
        full = (batch.attention_mask.sum(1) == self.text_tokens).nonzero().flatten().tolist()
        for text in {different[i] for i in full} - self.truncated:
            if len(self.tokenizer(text).input_ids) > self.text_tokens:
                self.truncated.add(text)
        rows = [place[text] for text in texts]
        return batch.input_ids[rows].to(self.device), batch.attention_mask[rows].to(self.device)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has for the language model, </s> included, at most `text_tokens`."""
        return self.text(texts)[1].sum(1).tolist()

    def assemble(self, soft: Tensor, texts: Sequence[str], numbered: bool) -> tuple[Tensor, Tensor]:
        """Soft tokens of N rows and their texts -> the encoder's embeddings and mask.

        soft [N, K, Q, Dl]; each frame stands behind "Frame: ", or "Frame i: " counted from 1, then comes the text.
        Returns [N, K * (prefix + Q) + L, Dl] and [N, same].
        """
        ids, mask = self.text(texts)
        rows, frames = soft.shape[:2]
        parts = []
        for i in range(frames):
            prefix = torch.tensor(self.prefix(i + 1 if numbered else None), device=self.device)
            parts += [self.language.shared(prefix).expand(rows, -1, -1), soft[:, i].to(self.dtype)]
        seen = torch.cat(parts, dim=1)
        embeds = torch.cat([seen, self.language.shared(ids)], dim=1)
        return embeds, torch.cat([mask.new_ones(rows, seen.shape[1]), mask], dim=1)

    def read(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Run the encoder: [N, L, Dl] -> [N, L, Dl]."""
        return t5.read(self.language.encoder, embeds, mask)

    def decode(self, hidden: Tensor, mask: Tensor, said: Tensor) -> Tensor:
        """Run the decoder over what it has said so far: ids [N, M], start token first -> [N, M, Dl]."""
        return t5.decode(self.language.decoder, hidden, mask, said)

    def logits(self, states: Tensor, ids: Sequence[int] | None = None) -> Tensor:
        """States [..., Dl] -> logits of the given tokens (of all if None), [..., len(ids)], in float32 at least."""
        table = self.language.lm_head.weight
        return at_least_float32(states @ (table if ids is None else table[list(ids)]).T)

    @property
    def start(self) -> int:
        return self.language.config.decoder_start_token_id

    def answer_loss(self, embeds: Tensor, mask: Tensor, targets: Sequence[str]) -> Tensor:
        """Mean cross-entropy over all tokens of the targets, </s> included. Scalar, in float32 at least."""
        batch = self.tokenizer(list(targets), padding="longest", return_tensors="pt")
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100).to(self.device)
        said = torch.cat([labels.new_full((len(labels), 1), self.start), labels[:, :-1].clamp(min=0)], dim=1)
        states = self.decode(self.read(embeds, mask), mask, said)
        return nn.functional.cross_entropy(self.logits(states).flatten(0, 1), labels.flatten(), ignore_index=-100)


def fingerprint_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """`Backbone.fingerprint` from the names and tensors of transformers' BLIP-2, in any order.

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


def _bits(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()


def assemble_backbone(
    blip2: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    attention: str = "sdpa",
    text_tokens: int = TEXT_TOKENS,
    tower: Tower | None = None,
    tokens: int = TOKENS,
) -> Backbone:
    """Take transformers' model apart: the frozen parts, and its own Q-Former as the zero-shot head.

    tower   in the place of the model's own
    """
    head = zeroshot_head(blip2, attention)
    tower = tower or Blip2Tower(blip2.vision_model)
    return Backbone(tower, blip2.language_model, tokenizer, head, source, text_tokens, tokens)


def zeroshot_head(blip2: Blip2ForConditionalGeneration, attention: str = "sdpa") -> Head:
    """BLIP-2's own layer norm, Q-Former, queries and projection, copied to float32 at least, on the model's device."""
    sizes = HeadConfig.of(blip2.config.qformer_config, blip2.config.num_query_tokens, blip2.config.text_config.d_model)
    with torch.device("meta"):
        head = Head(sizes, attention)
    parts = {
        "norm": blip2.vision_model.post_layernorm,
        "qformer": blip2.qformer,
        "projection": blip2.language_projection,
    }
    tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    tensors["queries"] = blip2.query_tokens.detach()
    head.load_state_dict({name: t.to(wide(t.dtype), copy=True) for name, t in tensors.items()}, assign=True)
    return head
