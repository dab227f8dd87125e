"""Small LAVIS state dicts, their names written out as the official checkpoints have them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

WIDTH, VISION, LANGUAGE, INNER, QUERIES, LAYERS = 128, 88, 24, 40, 3, 3
PATCH, GRID, BLOCKS, MLP = 2, 3, 2, 20
WORDS, D_KV, T5_HEADS, D_FF, T5_LAYERS = 40, 6, 2, 28, 2

State = dict[str, Tensor]


def head_shapes(suffix: str) -> dict[str, tuple[int, ...]]:
    bert = f"Qformer{suffix}.bert"
    shapes: dict[str, tuple[int, ...]] = {
        f"query_tokens{suffix}": (1, QUERIES, WIDTH),
        f"ln_vision{suffix}.weight": (VISION,),
        f"ln_vision{suffix}.bias": (VISION,),
        f"{bert}.embeddings.LayerNorm.weight": (WIDTH,),
        f"{bert}.embeddings.LayerNorm.bias": (WIDTH,),
        f"t5_proj{suffix}.weight": (LANGUAGE, WIDTH),
        f"t5_proj{suffix}.bias": (LANGUAGE,),
    }
    for layer in range(LAYERS):
        linear = {"intermediate_query.dense": (INNER, WIDTH), "output_query.dense": (WIDTH, INNER)}
        norms = ["output_query.LayerNorm"]
        for part in ("attention", "crossattention") if layer % 2 == 0 else ("attention",):
            seen = VISION if part == "crossattention" else WIDTH
            linear |= {f"{part}.self.query": (WIDTH, WIDTH), f"{part}.output.dense": (WIDTH, WIDTH)}
            linear |= {f"{part}.self.key": (WIDTH, seen), f"{part}.self.value": (WIDTH, seen)}
            norms.append(f"{part}.output.LayerNorm")
        for name, shape in linear.items():
            shapes[f"{bert}.encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"{bert}.encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for name in norms:
            shapes[f"{bert}.encoder.layer.{layer}.{name}.weight"] = (WIDTH,)
            shapes[f"{bert}.encoder.layer.{layer}.{name}.bias"] = (WIDTH,)
    return shapes


def vision_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, VISION),
        "pos_embed": (1, 1 + GRID**2, VISION),
        "patch_embed.proj.weight": (VISION, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (VISION,),
    }
    for block in range(BLOCKS):
        for name in (
            "norm1.weight",
            "norm1.bias",
            "norm2.weight",
            "norm2.bias",
            "attn.q_bias",
            "attn.v_bias",
        ):
            shapes[f"blocks.{block}.{name}"] = (VISION,)
        linear = {"attn.proj": (VISION, VISION), "mlp.fc1": (MLP, VISION), "mlp.fc2": (VISION, MLP)}
        for name, shape in linear.items():
            shapes[f"blocks.{block}.{name}.weight"] = shape
            shapes[f"blocks.{block}.{name}.bias"] = shape[:1]
        shapes[f"blocks.{block}.attn.qkv.weight"] = (3 * VISION, VISION)
    return shapes


def t5_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (WORDS, LANGUAGE),
        "lm_head.weight": (WORDS, LANGUAGE),
    }
    inner = D_KV * T5_HEADS
    for stack, parts in (("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"])):
        shapes[f"{stack}.final_layer_norm.weight"] = (LANGUAGE,)
        shapes[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, T5_HEADS)
        for block in range(T5_LAYERS):
            for place, part in enumerate([*parts, "DenseReluDense"]):
                layer = f"{stack}.block.{block}.layer.{place}"
                shapes[f"{layer}.layer_norm.weight"] = (LANGUAGE,)
                if part == "DenseReluDense":
                    shapes |= {f"{layer}.{part}.{wi}.weight": (D_FF, LANGUAGE) for wi in ("wi_0", "wi_1")}
                    shapes[f"{layer}.{part}.wo.weight"] = (LANGUAGE, D_FF)
                else:
                    shapes |= {f"{layer}.{part}.{p}.weight": (inner, LANGUAGE) for p in "qkv"}
                    shapes[f"{layer}.{part}.o.weight"] = (LANGUAGE, inner)
    return shapes


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Every tensor different from every other."""
    seeds = count()
    return {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(next(seeds))) / 8
        for name, shape in shapes.items()
    }


@pytest.fixture
def released() -> State:
    """As sevila_pretrained.pth: two heads and two buffers."""
    state = drawn(head_shapes("") | head_shapes("_loc"))
    for suffix in ("", "_loc"):
        state[f"Qformer{suffix}.bert.embeddings.position_ids"] = torch.arange(512)[None]
    return state


@pytest.fixture
def whole(released: State) -> State:
    """As the model in memory: vision tower and T5 too, with T5's two aliases."""
    state = released | drawn({f"visual_encoder.{name}": shape for name, shape in vision_shapes().items()})
    state |= drawn({f"t5_model.{name}": shape for name, shape in t5_shapes().items()})
    for stack in ("encoder", "decoder"):
        state[f"t5_model.{stack}.embed_tokens.weight"] = state["t5_model.shared.weight"]
    return state


@pytest.fixture
def files() -> Callable[[State], tuple[State, State, State]]:
    """A whole state dict as the three files it is published in: EVA's ViT, a plain T5, BLIP-2's own head."""

    def split(state: State) -> tuple[State, State, State]:
        def under(prefix: str) -> State:
            return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

        head = {
            name: t
            for name, t in state.items()
            if not name.startswith(("visual_encoder.", "t5_model.")) and "_loc" not in name
        }
        return under("visual_encoder."), under("t5_model."), head

    return split


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer.json of a T5 of few words."""
    folder = tmp_path_factory.mktemp("words")
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "yes": 3, "A": 4}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
