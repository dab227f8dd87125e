"""Training a selector by the answers: which frames make the frozen Answerer right? (SeViLA's table 6)

The network scores n frames and picks k, softly or by a straight-through choice; the Answerer's soft tokens of the
picked frames go through the frozen language model, and the loss of the right answer comes back to the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sevila.data.dataset import Batch, patches_of
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.model.device import taken
from sevila.selection.trained import Network, TrainedScorer, frame_features, text_features
from sevila.tasks.chain import ForwardChain, Prediction, true_answers
from sevila.tasks.evaluation import by_processes, validation_metrics
from sevila.transfer import upload


class TrainedSelectorTask:
    """Loss: the frozen Answerer's cross-entropy on "Option X"; evaluation: the forward chain with the k best scores.

    chain     its selector says k; the network takes its scorer's place
    network   what is trained, an ATP (Buch et al. 2022) or a PerturbedTopK (Cordonnier et al. 2021)
    entropy   weight of the scores' entropy, which is taken off the loss: no frame is chosen too early (of the latter)
    """

    def __init__(
        self,
        chain: ForwardChain,
        validation: Sequence[Question],
        network: Network,
        benchmark: str = "",
        entropy: float = 0.0,
    ) -> None:
        if not chain.selector.needs_scores:
            raise UserError("the trained selector needs a selector that goes by scores: say selector=topk")
        self.model, self.validation, self.network = chain.model, validation, network
        self.benchmark, self.entropy = benchmark, entropy
        self.chain = replace(chain, scorer=TrainedScorer(network, chain.model.backbone))

    @property
    def head(self) -> nn.Module:
        return self.network

    def anneal(self, done: float) -> None:
        self.network.anneal(done)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar: the mean over the batch's B questions.

        Also logged, as scalars on the device: `weight`, the mean of the greatest weight in a row of the picks (1: a
        hard choice), and `entropy`, in nats, that of the softmax of a row's scores.
        """
        backbone = self.model.backbone
        patches = patches_of(backbone, batch)  # [B, T, P, Dv]
        mask = upload(batch.mask, patches.device)
        with torch.no_grad():
            soft = self.model.answerer.head(patches)  # [B, T, Q, Dl]
        # the network scores all T frames: [B, T]
        text = text_features(backbone, batch.questions)
        scores = self.network(frame_features(backbone, patches), text, mask)
        # it picks k of them so that gradients pass; rows that keep as many go through the language model together
        total = scores.new_zeros(())
        peaks = scores.new_zeros((), dtype=torch.float64)
        for k, rows in self._alike(batch).items():
            weights = self.network.pick(next(taken(scores, [rows])), k)
            seen = torch.einsum("bkn,bnqd->bkqd", weights, next(taken(soft, [rows])).to(weights.dtype))
            part = len(rows) / len(batch)
            total = total + part * self._answer_loss(seen, [batch.questions[row] for row in rows])
            peaks += part * weights.detach().amax(-1).mean().double()
        entropy = score_entropy(scores)
        return total - self.entropy * entropy, {"weight": peaks, "entropy": entropy.detach()}

    def evaluate(self) -> dict[str, float]:
        predictions = by_processes(self.validation, lambda own: self.chain.predict(own, "validation"), Prediction)
        return validation_metrics(self.benchmark, predictions)

    def _alike(self, batch: Batch) -> dict[int, list[int]]:
        """Numbers of keyframes, at most a row's frames, and the rows of each."""
        rows: dict[int, list[int]] = {}
        for row, indices in enumerate(batch.indices):
            rows.setdefault(min(self.chain.selector.k, len(indices)), []).append(row)
        return rows

    def _answer_loss(self, seen: Tensor, questions: Sequence[Question]) -> Tensor:
        """Soft tokens of k frames [N, k, Q, Dl] -> mean cross-entropy on "Option X </s>"."""
        texts = self.model.answerer_prompts(questions)
        return self.model.answerer.soft_loss(seen, texts, true_answers(questions))


def score_entropy(scores: Tensor) -> Tensor:
    """Of the softmax of each row's scores [B, n] (-inf at padding): the rows' mean, in nats. Scalar."""
    logs = scores.log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(scores.isneginf(), 0.0)).sum(-1).mean()
