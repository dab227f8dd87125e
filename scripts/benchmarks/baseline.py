"""The plain way, as the official code works: one question at a time, and for each the vision tower again.

The language model generates three tokens with its whole output table (transformers' `generate`), of which one number
a frame, or one a letter, is used. Attention is eager, or SDPA where the caller says so.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from sevila.model.head import Head
from sevila.model.prompts import letters
from sevila.model.sevila import SeViLA

TOKENS = 3  # "Option", the letter, the end


@dataclass(frozen=True)
class Plain:
    """Answers one question about frames. `localizer` and `answerer` are heads with the attention of `blip2`."""

    blip2: Blip2ForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    localizer: Head
    answerer: Head
    text_tokens: int

    @classmethod
    def of(cls, blip2: Blip2ForConditionalGeneration, sevila: SeViLA, attention: str = "eager") -> Plain:
        """The same weights as `sevila`, in `blip2`'s own modules."""
        plain = copy.copy(blip2) if attention == "eager" else copy.deepcopy(blip2)
        plain.set_attn_implementation(attention)
        plain.language_model.generation_config.eos_token_id = None  # it always says its three tokens
        heads = []
        for trained in (sevila.localizer.head, sevila.answerer.head):
            head = Head(trained.config, attention)
            head.load_state_dict(trained.state_dict())
            heads.append(head.to(blip2.device).eval())
        return cls(plain, sevila.backbone.tokenizer, heads[0], heads[1], sevila.backbone.text_tokens)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[T, 3, S, S] -> [T, P, Dv]."""
        tower = self.blip2.vision_model
        return tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state

    @torch.no_grad()
    def relevance(self, patches: Tensor, text: str) -> Tensor:
        """Each frame's logit of "yes" [T]."""
        embeds, mask = self.assemble(self.localizer(patches)[:, None], [text] * len(patches), numbered=False)
        return self.generate(embeds, mask)[0][:, self.ids("yes")[0]]

    @torch.no_grad()
    def letters(self, patches: Tensor, text: str, options: int, numbered: bool = True) -> Tensor:
        """The letters' logits after the model's own first token: patches [N, K, P, Dv] -> [N, A]."""
        soft = self.answerer(patches)
        embeds, mask = self.assemble(soft, [text] * len(soft), numbered)
        return self.generate(embeds, mask)[1][:, [self.ids(letter)[0] for letter in letters(options)]]

    def answer(
        self, pixels: Tensor, localize: str, answer: str, options: int, k: int
    ) -> tuple[Tensor, list[int], Tensor]:
        """Frames' scores [T], the k keyframes in time order, the letters' logits [A]."""
        patches = self.encode(pixels)
        scores = self.relevance(patches, localize)
        keyframes = sorted(scores.argsort(descending=True, stable=True)[:k].tolist())
        return scores, keyframes, self.letters(patches[None, keyframes], answer, options)[0]

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def assemble(self, soft: Tensor, texts: Sequence[str], numbered: bool) -> tuple[Tensor, Tensor]:
        """soft [N, K, Q, Dl] behind "Frame: " or "Frame i: ", then the text."""
        language = self.blip2.language_model
        text = self.tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self.text_tokens, return_tensors="pt"
        ).to(soft.device)
        space = self.tokenizer.convert_tokens_to_ids("▁")
        parts = []
        for i in range(soft.shape[1]):
            prefix = [*self.ids(f"Frame {i + 1}:" if numbered else "Frame:"), space]
            prefix_embeds = language.shared(torch.tensor([prefix] * len(soft), device=soft.device))
            parts += [prefix_embeds, soft[:, i].to(prefix_embeds.dtype)]
        embeds = torch.cat([*parts, language.shared(text.input_ids)], dim=1)
        seen = text.attention_mask.new_ones(len(soft), embeds.shape[1] - text.input_ids.shape[1])
        return embeds, torch.cat([seen, text.attention_mask], dim=1)

    def generate(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The logits [N, V] of each of the generated tokens."""
        return self.blip2.language_model.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        ).logits  # fmt: skip

    def loss(self, head: Head, patches: Tensor, texts: Sequence[str], targets: Sequence[str], numbered: bool) -> Tensor:
        """Cross-entropy on the targets, transformers' own. patches [N, K, P, Dv]."""
        embeds, mask = self.assemble(head(patches), texts, numbered)
        tokens = self.tokenizer(list(targets), padding="longest", return_tensors="pt").to(embeds.device)
        labels = tokens.input_ids.masked_fill(tokens.attention_mask == 0, -100)
        return self.blip2.language_model(
            inputs_embeds=embeds, attention_mask=mask, labels=labels, decoder_attention_mask=tokens.attention_mask
        ).loss
