"""The Localizer: how much does each frame matter for a question?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sevila.model.backbone import Backbone
from sevila.model.head import Head


class Localizer(nn.Module):
    """A head over the frozen backbone. A frame's relevance is the language model's raw logit of "yes"."""

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def relevance(self, soft: Tensor, texts: Sequence[str]) -> Tensor:
        """soft [N, Q, Dl], one row a frame, and the row's prompt -> the "yes" logits [N], in float32 at least."""
        return self.first_word(soft, texts, ["yes"])[:, 0]

    def first_word(self, soft: Tensor, texts: Sequence[str], words: Sequence[str]) -> Tensor:
        """The same rows -> the logits of these words as the first one that is said, [N, len(words)]."""
        return self._first_word(*self.backbone.assemble(soft[:, None], texts, numbered=False), words)

    def joint_relevance(self, soft: Tensor, texts: Sequence[str]) -> Tensor:
        """The same for K frames that are read together, behind "Frame 1: ", "Frame 2: ", ...: [N, K, Q, Dl] -> [N]."""
        return self._first_word(*self.backbone.assemble(soft, texts, numbered=True), ["yes"])[:, 0]

    def _first_word(self, embeds: Tensor, mask: Tensor, words: Sequence[str]) -> Tensor:
        hidden = self.backbone.read(embeds, mask)
        start = torch.full((len(hidden), 1), self.backbone.start, device=hidden.device)
        states = self.backbone.decode(hidden, mask, start)[:, 0]
        return self.backbone.logits(states, [self.backbone.token(word) for word in words])

    def loss(self, patches: Tensor, texts: Sequence[str], labels: Sequence[bool]) -> Tensor:
        """Cross-entropy on "yes </s>" or "no </s>", one row a frame (paper, section 3.3).

        patches [N, P, Dv]; texts and labels one a frame. Scalar; gradients reach this head alone.
        """
        embeds, mask = self.backbone.assemble(self.head(patches)[:, None], texts, numbered=False)
        return self.backbone.answer_loss(embeds, mask, ["yes" if label else "no" for label in labels])
