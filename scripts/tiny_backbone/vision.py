"""The tiny eyes: a ViT, a Q-Former and a projection that turn a frame into the six words of its scene.

Each query stands for one word of the scene; its soft token is pulled towards that word's (fixed, random) vector in
the language model. The ViT sees frames in two styles, plain and wide; Q-Former and projection end with what they
learned from plain ones, as BLIP-2's learned less than its tower has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Blip2QFormerConfig, Blip2VisionConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel, Blip2VisionModel

from sevila.model.pixels import CLIP_MEAN, CLIP_STD
from sevila.synthetic import stories
from sevila.synthetic.draw import SIZE, Style, paint
from sevila.synthetic.stories import ACTORS, EMPTY, SIDES, SLOTS, THINGS, Scene
from tiny_backbone.lessons import exam_seed

CHOICES: tuple[tuple[str, ...], ...] = (
    (*stories.COLOURS, stories.NO),
    (*stories.SHAPES, stories.ONE),
    stories.ACTIONS,
    (*THINGS, stories.NOTHING),
    SIDES,
    stories.GROUNDS,
)


def vision_config() -> Blip2VisionConfig:
    return Blip2VisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        image_size=SIZE, patch_size=16, hidden_act="gelu", layer_norm_eps=1e-6, qkv_bias=True,
    )  # fmt: skip


def qformer_config() -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=384, hidden_act="gelu",
        hidden_dropout_prob=0.05, attention_probs_dropout_prob=0.05, cross_attention_frequency=2,
        encoder_hidden_size=128, vocab_size=8, max_position_embeddings=16, layer_norm_eps=1e-12,
    )  # fmt: skip


class Eyes(nn.Module):
    """Frames -> soft tokens, in the modules that a BLIP-2 has."""

    def __init__(self, word_width: int) -> None:
        super().__init__()
        self.vision_model = Blip2VisionModel(vision_config())
        self.qformer = Blip2QFormerModel(qformer_config())
        self.query_tokens = nn.Parameter(torch.randn(1, SLOTS, qformer_config().hidden_size) * 0.5)
        self.language_projection = nn.Linear(qformer_config().hidden_size, word_width)
        nn.init.normal_(self.vision_model.embeddings.position_embedding, std=0.3)
        nn.init.normal_(self.vision_model.embeddings.class_embedding, std=0.3)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] -> [N, Q, Dl]."""
        pixels = (frames.float() / 255 - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]
        patches = self.vision_model(pixels).last_hidden_state
        queries = self.query_tokens.expand(len(frames), -1, -1)
        return self.language_projection(self.qformer(query_embeds=queries, encoder_hidden_states=patches)[0])


def random_scene(rng: Random) -> Scene:
    """A scene of any kind, with every word equally likely among its kind."""
    action = rng.choices((stories.HOLDS, stories.STANDS, stories.LIES, EMPTY, "effect"), weights=(58, 8, 10, 5, 19))[0]
    action = rng.choice(list(stories.EFFECTS.values())) if action == "effect" else action
    actor = None if action in (stories.LIES, EMPTY) else rng.choice(ACTORS)
    thing = rng.choice(THINGS) if action in (stories.HOLDS, stories.LIES) else None
    return Scene(actor, action, thing, rng.choice(SIDES), rng.choice(stories.GROUNDS))


def picture_book(n: int, style: Style, rng: Random, generator: torch.Generator) -> tuple[Tensor, list[Scene]]:
    """n painted frames and their scenes."""
    scenes = [random_scene(rng) for _ in range(n)]
    parts = [
        paint(scenes[i : i + 256], style.look(len(scenes[i : i + 256]), generator), generator) for i in range(0, n, 256)
    ]
    return torch.cat(parts), scenes


def exam(n: int, style: Style, seed: int) -> tuple[Tensor, list[Scene]]:
    """Frames that no training step draws."""
    return picture_book(n, style, exam_seed(seed, 0), torch.Generator().manual_seed(2**40 + seed))


class Words:
    """The word vectors a soft token may be, slot by slot."""

    def __init__(self, vectors: Sequence[Tensor]) -> None:
        self.vectors = list(vectors)
        self.index = [{word: i for i, word in enumerate(choices)} for choices in CHOICES]

    def targets(self, scenes: Sequence[Scene]) -> Tensor:
        """[N, Q] indices among each slot's choices; -100 for the side of an empty scene, which shows none."""
        rows = [[self.index[slot][word] for slot, word in enumerate(scene.words)] for scene in scenes]
        for row, scene in zip(rows, scenes, strict=True):
            if scene.action == EMPTY:
                row[4] = -100
        return torch.tensor(rows)

    def loss(self, soft: Tensor, targets: Tensor) -> Tensor:
        """Which word (cross-entropy) and where it lies (squared distance), over all slots."""
        total = soft.new_zeros(())
        for slot, vectors in enumerate(self.vectors):
            known = targets[:, slot] >= 0
            logits = soft[:, slot] @ vectors.T / vectors.shape[1] ** 0.5
            wanted = vectors[targets[known, slot]]
            total = total + F.cross_entropy(logits, targets[:, slot]) + (soft[known, slot] - wanted).square().mean()
        return total / len(self.vectors)

    def read(self, soft: Tensor) -> Tensor:
        """The nearest word of each slot, [N, Q]."""
        return torch.stack([(soft[:, s] @ v.T).argmax(-1) for s, v in enumerate(self.vectors)], dim=1)


def words_of(tokenizer, vectors: Tensor) -> Words:
    """The slots' words looked up in a language model's table [V, Dl]."""
    ids = [tokenizer.convert_tokens_to_ids([f"▁{word}" for word in choices]) for choices in CHOICES]
    return Words([vectors[torch.tensor(row)].detach() for row in ids])


@torch.no_grad()
def score(eyes: Eyes, words: Words, frames: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Percent of words read right by slot, and of scenes read right in every slot."""
    eyes.eval()
    targets = words.targets(scenes)
    read = torch.cat([words.read(eyes(frames[i : i + 256])) for i in range(0, len(frames), 256)])
    right = (read == targets) | (targets < 0)
    names = ("colour", "shape", "action", "thing", "side", "ground")
    out = {name: 100 * right[:, slot].float().mean().item() for slot, name in enumerate(names)}
    return out | {"exact": 100 * right.all(1).float().mean().item()}
