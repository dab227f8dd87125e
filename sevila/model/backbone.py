"""The frozen image-language model: vision tower, T5, tokenizer (paper, section 3.1: BLIP-2, ViT-g and Flan-T5).

`sevila.checkpoints.backbone` loads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from sevila.errors import UserError
from sevila.model import torchvision_check  # noqa: F401  before anything imports transformers
from sevila.model.device import Constants, taken
from sevila.model.digest import fingerprint_of, first_fingerprint_of, name_in_blip2
from sevila.model.head import Head, HeadConfig
from sevila.model.language import TOKENS, fuse_norms, run_decoder, run_encoder
from sevila.model.pixels import normalize
from sevila.model.precision import at_least_float32, wide
from sevila.model.tower import Blip2Tower, Tower
from sevila.transfer import upload

if TYPE_CHECKING:
    from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

TEXT_TOKENS = 77  # the official limit; longer texts lose their end
COMPILED_STEP = 32  # frames


class Backbone(nn.Module):
    """What every head shares, and what no training changes.

    tower         pixels [N, 3, S, S] -> patches [N, P, Dv], before any head's layer norm
    language      T5 with exact GELU
    zeroshot      the head BLIP-2 itself was trained with, the start of both heads
    text_tokens   longer texts lose their end
    tokens        memory budget of a pass through the tower or the language model: rows x tokens a row
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
        self.compiled = False
        fuse_norms(language)
        self._constants = Constants()
        self._known: dict[str, list[int]] = {}  # ids of single words and of prefixes
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
    def patches_dtype(self) -> torch.dtype:
        """What pixels are given to the tower in, and patches come out in."""
        return self.tower.positions.dtype

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
        return first_fingerprint_of((self.tower.positions, self.language.lm_head.weight))

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, under the names that they have in transformers' BLIP-2."""
        for name, tensor in self.tower.weights():
            if not name.startswith("post_layernorm."):  # that is the head's
                yield f"vision_model.{name}", tensor
        for name, tensor in self.zeroshot.state_dict().items():
            yield name_in_blip2(name), tensor
        for name, tensor in self.language.state_dict().items():
            yield f"language_model.{name}", tensor

    def compile_tower(self) -> None:
        """Run the tower through torch.compile, from now on. Results differ from the plain tower's by rounding."""
        self.tower.compile(dynamic=False)
        self.compiled = True

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures [..., 3, S, S] -> patches [..., P, Dv], in the tower's dtype.

        pixels   uint8 RGB, as they are decoded; or of a floating type and normalised already. UserError for others

        Pictures of another size than `image_size` get their position embeddings interpolated, bicubically.
        """
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise UserError(f"pixels of {pixels.dtype}: expected uint8 (0 to 255), or normalised ones of a float type")
        # frame by frame, in passes that fit into memory, all of nearly the same size
        frames = pixels.flatten(0, -4)
        each = max(1, self.tokens // self.tower.positions.shape[1])
        passes = frames.tensor_split(max(1, -(-len(frames) // each)))
        return torch.cat([self._patches(self._ready(part)) for part in passes]).unflatten(0, pixels.shape[:-3])

    def _ready(self, pixels: Tensor) -> Tensor:
        """uint8 or normalised [N, 3, S, S] -> normalised, on the tower's device and in its dtype."""
        there = upload(pixels, self.device)
        return (normalize(there) if there.dtype == torch.uint8 else there).to(self.patches_dtype)

    def _patches(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> [N, P, Dv]. Each number of frames costs a compiled tower a compilation.

        So that it meets few numbers, they are filled up with blank frames: to a power of two, above `COMPILED_STEP` to
        a multiple of it.
        """
        frames = len(pixels)
        if not self.compiled:
            return self.tower(pixels)
        power = 1 << (frames - 1).bit_length()
        full = power if frames <= COMPILED_STEP else -(-frames // COMPILED_STEP) * COMPILED_STEP
        blank = pixels.new_zeros((full - frames, *pixels.shape[1:]))
        return self.tower(torch.cat([pixels, blank]))[:frames]

    def token(self, word: str) -> int:
        """The id of a word that must be one token ("yes", "A"). UserError where the tokenizer splits it."""
        ids = self._ids_of(word)
        if len(ids) != 1:
            raise UserError(f"{self.source}: its tokenizer splits {word!r} into {len(ids)} tokens; SeViLA needs one")
        return ids[0]

    def prefix(self, number: int | None) -> list[int]:
        """Ids of "Frame: " or "Frame i: ", with the trailing space that transformers 5's T5 tokenizer drops."""
        text = "Frame:" if number is None else f"Frame {number}:"
        space: Any = self.tokenizer.convert_tokens_to_ids("▁")
        return [*self._ids_of(text), space]

    def _ids_of(self, words: str) -> list[int]:
        """Ids of the few words that every pass needs, looked up once."""
        if words not in self._known:
            self._known[words] = self.tokenizer(words, add_special_tokens=False).input_ids
        return self._known[words]

    def text(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> ids and mask [N, L], ended by </s>, cut on the right at `text_tokens`, padded to the longest.

        Both are the host's, who knows so without asking the device where there is padding. What was cut is remembered
        in `truncated`.
        """
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
        return batch.input_ids[rows], batch.attention_mask[rows]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has for the language model, </s> included, at most `text_tokens`."""
        return self.text(texts)[1].sum(1).tolist()

    def embed(self, ids: Tensor, mask: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The host's ids and mask [N, L], behind the embeddings `before` [N, F, Dl] -> embeddings [N, F + L, Dl], mask.

        The mask [N, F + L] is on the device like the embeddings, and None where no row has padding.
        """
        words = self.language.shared(upload(ids, self.device))
        embeds = words if before is None else torch.cat([before, words], dim=1)
        if bool(mask.all()):
            return embeds, None
        seen = mask.new_ones(len(mask), embeds.shape[1] - mask.shape[1])
        return embeds, upload(torch.cat([seen, mask], dim=1), self.device)

    def assemble(self, soft: Tensor, texts: Sequence[str], numbered: bool) -> tuple[Tensor, Tensor | None]:
        """The language model's input: frames, each behind its prefix, then the text (paper, section 3.2, figure 2).

        soft [N, K, Q, Dl]: soft tokens of K frames a row; "Frame: " stands before each, or "Frame i: ", from 1.
        Returns embeddings [N, L, Dl] and mask [N, L], L = K * (prefix + Q) + the longest text; no mask where all texts
        are as long.
        """
        rows, frames = soft.shape[:2]
        parts = []
        for i in range(frames):
            prefix = self._vectors(self.prefix(i + 1 if numbered else None))
            parts += [prefix.expand(rows, -1, -1), soft[:, i].to(self.dtype)]
        return self.embed(*self.text(texts), before=torch.cat(parts, dim=1))

    def _vectors(self, ids: Sequence[int]) -> Tensor:
        """Embeddings [len(ids), Dl] of words that every pass needs."""
        table = self.language.shared.weight
        return self._constants.of(table, ("words", *ids), lambda: next(taken(table, [ids])))

    def ids(self, ids: Sequence[int]) -> Tensor:
        """Ids that every pass needs, as the decoder takes them: [1, len(ids)]."""
        table = self.language.shared.weight
        return self._constants.of(table, ("ids", *ids), lambda: upload(torch.tensor([list(ids)]), table.device))

    def run_encoder(self, embeds: Tensor, mask: Tensor | None) -> Tensor:
        """Embeddings [N, L, Dl] and mask [N, L] (None: no padding) -> encoder states [N, L, Dl]."""
        return run_encoder(self.language.encoder, embeds, mask)

    def run_decoder(self, hidden: Tensor, mask: Tensor | None, tokens: Tensor) -> Tensor:
        """Encoder states [N, L, Dl], mask [N, L] and the answer so far, ids [N, M], start token first -> [N, M, Dl].

        No mask: no padding.
        """
        return run_decoder(self.language.decoder, hidden, mask, tokens)

    def logits(self, states: Tensor, ids: Sequence[int] | None = None) -> Tensor:
        """States [..., Dl] -> logits of the given tokens (of all if None), [..., len(ids)], in float32 at least."""
        table = self.language.lm_head.weight
        if ids is None:
            return at_least_float32(states @ table.T)
        rows = self._constants.of(table, ("rows", *ids), lambda: next(taken(table, [ids])))
        return at_least_float32(states @ rows.T)

    @property
    def start(self) -> int:
        """The id that every answer begins with, before its first word."""
        return self.language.config.decoder_start_token_id

    def answer_loss(self, embeds: Tensor, mask: Tensor | None, targets: Sequence[str]) -> Tensor:
        """Mean cross-entropy over all tokens of the targets, </s> included (paper, section 3.3).

        embeds [N, L, Dl] and mask [N, L] (None: no padding), one target a row. Scalar, in float32 at least.
        """
        batch = self.tokenizer(list(targets), padding="longest", return_tensors="pt")
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        # teacher forcing: each token is predicted from the true ones before it
        before = torch.cat([labels.new_full((len(labels), 1), self.start), labels[:, :-1].clamp(min=0)], dim=1)
        labels, before = upload(labels, self.device), upload(before, self.device)
        states = self.run_decoder(self.run_encoder(embeds, mask), mask, before)
        return nn.functional.cross_entropy(self.logits(states).flatten(0, 1), labels.flatten(), ignore_index=-100)


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
    tower, head = tower or Blip2Tower(blip2.vision_model), zeroshot_head(blip2, attention)
    return Backbone(tower, blip2.language_model, tokenizer, head, source, text_tokens, tokens)


def zeroshot_head(blip2: Blip2ForConditionalGeneration, attention: str = "sdpa") -> Head:
    """BLIP-2's own layer norm, Q-Former, queries and projection, copied to float32 at least, on the model's device."""
    config: Any = blip2.config
    sizes = HeadConfig.of(config.qformer_config, config.num_query_tokens, config.text_config.d_model)
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


@torch.no_grad()
def halve(tower: Tower) -> None:
    """Hold a float32 tower as LAVIS does (`vit_precision: fp16`): products in float16, norms and sums in float32.

    Pixels and patches are float32 then.
    """
    for part in tower.modules():
        if isinstance(part, nn.Linear):
            part.half()
        elif isinstance(part, nn.Conv2d):  # rounded, but not held so: transformers would make sums of its dtype
            for parameter in part.parameters():
                parameter.copy_(parameter.half())
    tower.forward = partial(_in_half, tower.forward)  # type: ignore[method-assign]


def _in_half(forward: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """[N, 3, S, S] -> [N, P, Dv], float16 where autocast would have it."""
    with torch.autocast(pixels.device.type, torch.float16):
        return forward(pixels)


def checkpoint_blocks(model: nn.Module) -> None:
    """Activation checkpointing: less memory for a training step, at the price of a second forward pass.

    Every transformer block of `model` keeps its inputs only, and runs again in the backward pass.
    Results and gradients stay the same, dropout included. Without gradients nothing changes. transformers' own switch
    acts in training mode alone, but gradients flow through a frozen language model that is in evaluation mode.
    """
    for block in model.modules():
        if isinstance(block, GradientCheckpointingLayer):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
