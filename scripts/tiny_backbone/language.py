"""The tiny language model: a T5 taught from text alone, with words where a frame's soft tokens will be.

Two things make it learn in minutes what plain initialisation learns in hours. The word vectors are random and stay
fixed, so that the vision side can be aligned to them at the same time. And the attention heads start as what
look-ups are made of: some attend to the neighbours, the others to positions that hold the same word.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from sevila.synthetic.stories import ACTIONS, COLOURS, GROUNDS, SHAPES, SIDES, SLOTS, THINGS, vocabulary
from tiny_backbone.lessons import Lesson

WIDTH, HEADS, HEAD_WIDTH, INNER, ENCODER, DECODER = 128, 10, 32, 256, 5, 3
# Where the first heads look to begin with: an option's letter stands two before it; of a scene's six words the thing
# stands three behind the colour, the shape one behind it, the ground four and five behind shape and colour.
NEIGHBOURS = (-1, -2, -3, -4, -5, 1, 3)
SHARPNESS = 8.0  # logit of a head's first preference


def config(tokenizer: T5Tokenizer) -> T5Config:
    return T5Config(
        vocab_size=math.ceil(len(tokenizer) / 8) * 8,
        d_model=WIDTH,
        d_kv=HEAD_WIDTH,
        d_ff=INNER,
        num_layers=ENCODER,
        num_decoder_layers=DECODER,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
        dense_act_fn="gelu",
        dropout_rate=0.0,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )


def word_vectors(tokenizer: T5Tokenizer, seed: int) -> Tensor:
    """The fixed random word vectors, [V, Dl]; "cup" is a near twin of "▁cup"."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(config(tokenizer).vocab_size, WIDTH, generator=generator)
    vocabulary = tokenizer.get_vocab()
    for piece, index in sorted(vocabulary.items(), key=lambda item: item[1]):
        spaced = vocabulary.get(f"▁{piece}")
        if len(piece) > 1 and spaced is not None:
            near = vectors[spaced] + 0.3 * torch.randn(WIDTH, generator=generator)
            vectors[index] = near / math.sqrt(1.09)
    return vectors


@torch.no_grad()
def make(tokenizer: T5Tokenizer, seed: int) -> T5ForConditionalGeneration:
    """A new model: fixed random word vectors, an output table of its own, heads that start as look-ups."""
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(config(tokenizer))
    words = model.shared.weight
    words.copy_(word_vectors(tokenizer, seed))
    words.requires_grad_(False)
    model.lm_head.weight = nn.Parameter(words / math.sqrt(WIDTH))  # what is copied can be said at once

    for stack in (model.encoder, model.decoder):
        stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_(std=0.1)
    first = model.encoder.block[0].layer[0].SelfAttention
    bias = first.relative_attention_bias.weight
    for head, offset in enumerate(NEIGHBOURS):
        bias[first._relative_position_bucket(torch.tensor([offset]), True, 32, 128), head] = SHARPNESS
    bias[0, len(NEIGHBOURS) :] = -SHARPNESS  # the same word elsewhere, not itself
    for block in model.encoder.block:
        _match_words(block.layer[0].SelfAttention)
    for depth, block in enumerate(model.decoder.block):
        cross = block.layer[1].EncDecAttention
        if depth > 0:  # the first layer finds the answer's word, the others the option that has it
            _match_words(cross)
        copied = torch.linalg.qr(torch.randn(HEADS * HEAD_WIDTH, WIDTH))[0]  # orthonormal columns
        cross.v.weight.copy_(copied)
        cross.o.weight.copy_(copied.T)
    return model


def _match_words(attention: nn.Module) -> None:
    """Let the heads behind the first ones attend to positions that hold what the asking position holds."""
    for head in range(HEADS):
        rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        if head < len(NEIGHBOURS):
            attention.q.weight[rows] *= 0.3
            continue
        basis = torch.linalg.qr(torch.randn(WIDTH, HEAD_WIDTH))[0].T * math.sqrt(SHARPNESS / HEAD_WIDTH)
        attention.q.weight[rows] = basis
        attention.k.weight[rows] = basis


class Reader:
    """Turns lessons into tensors: ids with the scene words in place, which positions those are, and targets."""

    def __init__(self, tokenizer: T5Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.blank = tokenizer.convert_tokens_to_ids("▁")
        self.plain = self._prefix("Frame:")
        self.cache: dict[int, list[int]] = {}

    def _prefix(self, text: str) -> list[int]:
        """Ids of "Frame: " with its trailing space, which the tokenizer class drops."""
        return [*self.tokenizer(text, add_special_tokens=False).input_ids, self.blank]

    def _numbered(self, i: int) -> list[int]:
        if i not in self.cache:
            self.cache[i] = self._prefix(f"Frame {i}:")
        return self.cache[i]

    def __call__(self, lessons: Sequence[Lesson]) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, L] (0 = padding), slots [B, L] bool, labels [B, M] (-100 = padding)."""
        texts = self.tokenizer([lesson.text for lesson in lessons]).input_ids
        answers = self.tokenizer([lesson.answer for lesson in lessons]).input_ids
        rows, slots = [], []
        for lesson, text in zip(lessons, texts, strict=True):
            ids: list[int] = []
            marks: list[bool] = []
            for i, scene in enumerate(lesson.scenes, start=1):
                prefix = self._numbered(i) if lesson.numbered else self.plain
                ids += prefix + self.tokenizer.convert_tokens_to_ids([f"▁{word}" for word in scene.words])
                marks += [False] * len(prefix) + [True] * SLOTS
            rows.append(torch.tensor(ids + text))
            slots.append(torch.tensor(marks + [False] * len(text)))
        pad = nn.utils.rnn.pad_sequence
        labels = pad([torch.tensor(a) for a in answers], batch_first=True, padding_value=-100)
        return pad(rows, batch_first=True), pad(slots, batch_first=True), labels


def blur(embeds: Tensor, slots: Tensor, generator: torch.Generator) -> Tensor:
    """Make the scene words as uncertain as a frame's soft tokens will be: noise, and bits of another position."""
    noise = torch.randn(embeds.shape, generator=generator)
    strength = 0.5 * torch.rand(len(embeds), 1, 1, generator=generator)
    other = embeds[torch.randperm(len(embeds), generator=generator)]
    share = 0.4 * torch.rand(*slots.shape, 1, generator=generator) ** 2
    return torch.where(slots[..., None], (1 - share) * embeds + share * other + strength * noise, embeds)


def loss(model: T5ForConditionalGeneration, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator) -> Tensor:
    ids, slots, labels = batch
    embeds = blur(model.shared(ids), slots, generator)
    return model(inputs_embeds=embeds, attention_mask=(ids != 0).long(), labels=labels).loss


@torch.no_grad()
def correct(model: T5ForConditionalGeneration, reader: Reader, lessons: Sequence[Lesson]) -> list[bool]:
    """Of each lesson, whether its answer is right to the last token (teacher-forced)."""
    right: list[bool] = []
    for start in range(0, len(lessons), 128):
        ids, _, labels = reader(lessons[start : start + 128])
        logits = model(inputs_embeds=model.shared(ids), attention_mask=(ids != 0).long(), labels=labels).logits
        right += ((logits.argmax(-1) == labels) | (labels < 0)).all(1).tolist()
    return right


def score(model: T5ForConditionalGeneration, reader: Reader, lessons: Sequence[Lesson]) -> dict[str, float]:
    """Percent of lessons whose answer is right to the last token, by kind and number of frames."""
    right: dict[str, list[bool]] = {}
    for lesson, ok in zip(lessons, correct(model, reader, lessons), strict=True):
        right.setdefault(f"{lesson.kind} x{len(lesson.scenes)}", []).append(ok)
    return {kind: 100 * sum(oks) / len(oks) for kind, oks in sorted(right.items())}


def lesson_seed(seed: int, step: int) -> Random:
    """Every step's lessons depend on its number alone, so that a resumed training sees the same ones."""
    return Random(seed * 1_000_003 + step)


# -- a small tokenizer of the T5 class: whole words of the drawn world, characters for everything else ---

WHOLE, CHARACTER = -2.0, -12.0  # unigram scores: a known word always beats its spelling


def make_tokenizer() -> T5Tokenizer:
    """Build it. Words stand with the leading-space mark; options also without, as they follow a bracket."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", WHOLE) for word in vocabulary()]
    bare = [word for word in (*COLOURS, *SHAPES, *THINGS, *GROUNDS, *SIDES, *ACTIONS, "yes", "no", "the", "a")]
    pieces += [(word, WHOLE) for word in bare if len(word) > 1]
    known = {piece for piece, _ in pieces}
    characters = [c for c in string.ascii_letters + string.digits + string.punctuation if c not in known]
    pieces += [(c, CHARACTER) for c in characters]
    pieces += [(f"▁{c}", CHARACTER) for c in string.ascii_letters + string.digits if f"▁{c}" not in known]
    pieces += [("▁(", WHOLE)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
