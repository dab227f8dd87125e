"""The frozen image-language model: vision tower, T5, tokenizer.

One loading call serves a Hub id, a local folder in transformers' BLIP-2 format, and `tiny`, the small backbone of
the synthetic world that ships with the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, Blip2ForConditionalGeneration, PreTrainedTokenizerBase
from transformers.models.blip_2.modeling_blip_2 import Blip2VisionModel
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration
from transformers.utils import logging

from sevila.errors import UserError
from sevila.model.head import Head, HeadConfig

TINY = "tiny"
TINY_FOLDER = Path(__file__).resolve().parents[1] / "synthetic" / "tiny_blip2"
TEXT_TOKENS = 77  # the official limit; longer texts lose their end


class Backbone(nn.Module):
    """What every head shares, and what no training changes.

    vision     pixels [N, 3, S, S] -> patches [N, P, Dv], before any head's layer norm
    language   T5 with exact GELU
    zeroshot   the head BLIP-2 itself was trained with, the start of both heads
    """

    def __init__(
        self,
        vision: Blip2VisionModel,
        language: T5ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        zeroshot: Head,
        source: str,
        text_tokens: int = TEXT_TOKENS,
    ) -> None:
        super().__init__()
        self.vision, self.language, self.tokenizer, self.source = vision, language, tokenizer, source
        self.zeroshot = zeroshot
        self.text_tokens = text_tokens
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
    def image_size(self) -> int:
        return self.vision.config.image_size

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell one backbone's weights from another's, the same in float32 and bfloat16."""
        digest = hashlib.sha256()
        for tensor in (self.vision.embeddings.position_embedding, self.language.lm_head.weight):
            digest.update(str(tuple(tensor.shape)).encode())
            start = tensor.detach().flatten()[:4096].to("cpu", torch.bfloat16)
            digest.update(start.view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:12]

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [..., 3, S, S] -> patches [..., P, Dv], in the backbone's dtype.

        Pictures of another size than `image_size` get their position embeddings interpolated, bicubically.
        """
        frames = pixels.flatten(0, -4).to(self.device, self.dtype)
        hidden = self.vision.embeddings(frames, interpolate_pos_encoding=True)
        hidden = self.vision.encoder(inputs_embeds=hidden).last_hidden_state
        return hidden.unflatten(0, pixels.shape[:-3])

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
        batch = self.tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self.text_tokens, return_tensors="pt"
        )
        full = (batch.attention_mask.sum(1) == self.text_tokens).nonzero().flatten().tolist()
        for text in {texts[i] for i in full} - self.truncated:
            if len(self.tokenizer(text).input_ids) > self.text_tokens:
                self.truncated.add(text)
        return batch.input_ids.to(self.device), batch.attention_mask.to(self.device)

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
        return self.language.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state

    def decode(self, hidden: Tensor, mask: Tensor, said: Tensor) -> Tensor:
        """Run the decoder over what it has said so far: ids [N, M], start token first -> [N, M, Dl]."""
        return self.language.decoder(
            input_ids=said, encoder_hidden_states=hidden, encoder_attention_mask=mask, use_cache=False
        ).last_hidden_state

    def logits(self, states: Tensor, ids: Sequence[int] | None = None) -> Tensor:
        """States [..., Dl] -> float32 logits of the given tokens (of all if None), [..., len(ids)]."""
        table = self.language.lm_head.weight
        return (states @ (table if ids is None else table[list(ids)]).T).float()

    @property
    def start(self) -> int:
        return self.language.config.decoder_start_token_id

    def answer_loss(self, embeds: Tensor, mask: Tensor, targets: Sequence[str]) -> Tensor:
        """Mean cross-entropy over all tokens of the targets, </s> included. Scalar, float32."""
        batch = self.tokenizer(list(targets), padding="longest", return_tensors="pt")
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100).to(self.device)
        said = torch.cat([labels.new_full((len(labels), 1), self.start), labels[:, :-1].clamp(min=0)], dim=1)
        states = self.decode(self.read(embeds, mask), mask, said)
        return nn.functional.cross_entropy(self.logits(states).flatten(0, 1), labels.flatten(), ignore_index=-100)


def load(
    source: str = TINY,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    text_tokens: int = TEXT_TOKENS,
) -> Backbone:
    """Load a BLIP-2 by Hub id, local folder or `tiny`.

    Raises UserError where there is no such folder or Hub id, or where it is not a BLIP-2 with a T5.
    """
    place = str(TINY_FOLDER) if source == TINY else source
    try:
        config = AutoConfig.from_pretrained(place)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model.source={source}: neither a folder nor a reachable Hub id of a BLIP-2 ({reason})"
        ) from error
    if config.model_type != "blip-2" or config.text_config.model_type != "t5":
        raise UserError(f"model.source={source}: is a {config.model_type}, not a BLIP-2 with a T5 language model")
    config.text_config.dense_act_fn = "gelu"  # LAVIS overwrites Flan-T5's gelu_new with the exact GELU
    with _quiet():
        blip2 = Blip2ForConditionalGeneration.from_pretrained(
            place, config=config, dtype=dtype, attn_implementation=attention
        )
    return assemble_backbone(blip2, AutoTokenizer.from_pretrained(place), source, attention, text_tokens).to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and its note that the output table is not tied (it must not be)."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def assemble_backbone(
    blip2: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    attention: str = "sdpa",
    text_tokens: int = TEXT_TOKENS,
) -> Backbone:
    """Take transformers' model apart: the frozen parts, and its own Q-Former as the zero-shot head (float32)."""
    sizes = HeadConfig.of(blip2.config.qformer_config, blip2.config.num_query_tokens, blip2.config.text_config.d_model)
    head = Head(sizes, attention)
    head.norm.load_state_dict(blip2.vision_model.post_layernorm.state_dict())
    head.qformer.load_state_dict(blip2.qformer.state_dict())
    head.projection.load_state_dict(blip2.language_projection.state_dict())
    head.queries.data.copy_(blip2.query_tokens)
    return Backbone(blip2.vision_model, blip2.language_model, tokenizer, head, source, text_tokens)


__all__ = ["TINY", "Backbone", "assemble_backbone", "load"]
