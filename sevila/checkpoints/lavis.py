"""From LAVIS's tensor names to this project's: the official SeViLA and BLIP-2 checkpoints, as pure functions.

A LAVIS state dict holds `visual_encoder.*`, `t5_model.*` and one or two heads: `ln_vision.*`,
`Qformer.bert.*`, `query_tokens`, `t5_proj.*` are the Answerer's (and BLIP-2's own), the same with `_loc` on
the first component the Localizer's. Everything is checked before anything is used: what is missing,
unexpected or of another shape is listed in one UserError. What may be there and is not needed is known by
name (`SPARE`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from sevila.checkpoints.heads import ROLES
from sevila.errors import UserError
from sevila.model.backbone import TEXT_TOKENS, Backbone, assemble_backbone
from sevila.model.head import Head, HeadConfig
from sevila.model.precision import finite

State = Mapping[str, Tensor]

SUFFIXES = {"localizer": "_loc", "answerer": ""}
QFORMER_HEAD_WIDTH = 64  # a state dict does not say how many attention heads there are: BERT's have 64 channels,
VISION_HEAD_WIDTH = 88  # EVA-CLIP ViT-g's 1408 / 16

_PARTS = ("query_tokens", "ln_vision", "Qformer", "t5_proj")  # of a head
SPARE = {  # what may be there and is not needed
    "counters of BERT's positions": r"Qformer(_loc)?\.bert\.embeddings\.position_ids",
    "the text branch of a Q-Former that reads no text": r"Qformer(_loc)?\.(cls\..+"
    r"|bert\.embeddings\.(word|position)_embeddings\.weight"
    r"|bert\.encoder\.layer\.\d+\.(intermediate\.dense|output\.dense|output\.LayerNorm)\.(weight|bias))",
    "second names of T5's word vectors": r"t5_model\.(encoder|decoder)\.embed_tokens\.weight",
    "a table of old T5 files that no T5 reads": r"t5_model\.decoder\.block\.0\.layer\.1\.EncDecAttention"
    r"\.relative_attention_bias\.weight",
    "what follows a ViT's last block in a classifier": r"visual_encoder\.(norm|fc_norm|head)\.(weight|bias)",
}
_SPARE = re.compile("|".join(SPARE.values()))
_QFORMER_NAMES = (
    ("queries", "query_tokens"),
    ("norm.", "ln_vision."),
    ("qformer.layernorm.", "Qformer.bert.embeddings.LayerNorm."),
    ("qformer.", "Qformer.bert."),
    ("projection.", "t5_proj."),
)
_VISION_NAMES = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding", "pos_embed"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("encoder.layers.", "blocks."),
)
_BLOCK_NAMES = (("self_attn.projection.", "attn.proj."), ("self_attn.", "attn."), ("layer_norm", "norm"))


def head_name(name: str, role: str) -> str:
    """The official name of a head's tensor: `projection.weight` of the localizer is `t5_proj_loc.weight`."""
    official = _renamed(name, _QFORMER_NAMES).replace("attention.attention.", "attention.self.")
    part, dot, rest = official.partition(".")
    return f"{part}{SUFFIXES[role]}{dot}{rest}"


def vision_name(name: str) -> str:
    """The official name of a tensor of transformers' Blip2VisionModel (but for its joined `qkv.bias`)."""
    if name.startswith("post_layernorm."):
        return name.replace("post_layernorm", "ln_vision")
    official = _renamed(name, _VISION_NAMES)
    block = re.match(r"blocks\.\d+\.", official)
    if block:
        official = block[0] + _renamed(official[block.end() :], _BLOCK_NAMES)
    return f"visual_encoder.{official}"


def transformers_name(official: str) -> str:
    """The name in transformers' Blip2VisionModel of a tensor of LAVIS's tower: `vision_name` the other way round."""
    back = tuple((new, old) for old, new in _VISION_NAMES)
    name = _renamed(official.removeprefix("visual_encoder."), back)
    block = re.match(r"encoder\.layers\.\d+\.", name)
    if block:
        name = block[0] + _renamed(name[block.end() :], tuple((new, old) for old, new in _BLOCK_NAMES))
    return name


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    return next((new + name[len(old) :] for old, new in rules if name.startswith(old)), name)


class Taking:
    """Takes tensors out of a state dict by name and shape, and remembers whatever is wrong."""

    def __init__(self, state: State, source: str) -> None:
        self.state, self.source = state, source
        self.taken: set[str] = set()
        self.problems: list[str] = []

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of that name; without one of that shape, zeros and a remembered problem."""
        self.taken.add(name)
        tensor = self.state.get(name)
        if tensor is not None and tuple(tensor.shape) == tuple(shape):
            if not finite(tensor):
                self.problems.append(f"{name} holds NaN or infinite values")
            return tensor
        found = "missing" if tensor is None else f"is {list(tensor.shape)}, not"
        self.problems.append(f"{name} {found} {list(shape)}")
        return torch.zeros(shape)

    def finish(self, not_ours: re.Pattern[str]) -> None:
        """UserError if anything was wrong, or if a name is left that is neither spare nor of `not_ours`."""
        left = [name for name in self.state if name not in self.taken]
        self.problems += [f"{n} unexpected" for n in left if not _SPARE.fullmatch(n) and not not_ours.match(n)]
        if self.problems:
            raise UserError(f"{self.source}: not loaded, {len(self.problems)} tensors: {'; '.join(self.problems)}")


def roles_in(state: State) -> tuple[str, ...]:
    """The heads that a state dict holds: those with queries or Q-Former weights.

    A run of the official code leaves of its frozen head only the projection and the norm, which are no head.
    """
    held = []
    for role in ROLES:
        query, _, qformer, _ = (f"{part}{SUFFIXES[role]}" for part in _PARTS)
        if query in state or any(n.startswith(f"{qformer}.") and not _SPARE.fullmatch(n) for n in state):
            held.append(role)
    return tuple(held)


def remains_of(role: str) -> str:
    """A pattern of the names that a run of the official code keeps of its frozen head."""
    return rf"(t5_proj|ln_vision){SUFFIXES[role]}\."


def head_sizes(state: State, role: str, attention_heads: int | None = None) -> HeadConfig:
    """A head's sizes as most of its tensors have them; UserError where they do not tell."""
    part = f"Qformer{SUFFIXES[role]}.bert.encoder.layer"
    layers = _count(state, part)
    crossing = [i for i in range(layers) if any(n.startswith(f"{part}.{i}.crossattention.") for n in state)]
    every = crossing[1] - crossing[0] if len(crossing) > 1 else max(layers, 1)
    unknown = {
        "vision_width": 2,
        "language_width": 3,
        "queries": 5,
        "width": 7,
        "inner_width": 11,
    }  # stand-ins
    with torch.device("meta"):
        model = Head(HeadConfig(layers=layers, attention_heads=1, cross_every=every, **unknown))
    votes: dict[int, Counter[int]] = {stand_in: Counter() for stand_in in unknown.values()}
    for name, tensor in model.state_dict().items():
        found = state.get(head_name(name, role))
        if found is not None and found.ndim == tensor.ndim:
            for stand_in, size in zip(tensor.shape, found.shape, strict=True):
                votes.get(stand_in, Counter())[size] += 1
    silent = [name for name, stand_in in unknown.items() if not votes[stand_in]]
    if silent or not layers:
        names = ", ".join(head_name(n, role) for n in model.state_dict() if head_name(n, role) not in state)
        raise UserError(f"the {role}'s sizes cannot be told ({', '.join(silent) or 'layers'}); missing: {names}")
    sizes = {name: votes[stand_in].most_common(1)[0][0] for name, stand_in in unknown.items()}
    heads = attention_heads or _heads(sizes["width"], QFORMER_HEAD_WIDTH, "Q-Former")
    return HeadConfig(layers=layers, attention_heads=heads, cross_every=every, **sizes)


def heads_from(
    state: State,
    source: str,
    sizes: HeadConfig | None = None,
    attention: str = "sdpa",
    attention_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Head]:
    """The heads in a LAVIS state dict by role, with copies of its tensors, in float32 or float64.

    The released SeViLA checkpoint holds both; BLIP-2's hold one under the Answerer's names, which is also the
    start of a Localizer. `sizes` are those of the backbone's own head; without them the tensors tell them, but for
    `attention_heads` (None: they have 64 channels).
    Raises UserError listing every missing, unexpected and misshaped tensor of all heads.
    """
    roles = roles_in(state)
    if not roles:
        raise UserError(f"{source}: holds no head (no query_tokens, no Qformer.bert.*)")
    taking = Taking(state, source)
    heads = {}
    for role in roles:
        try:
            config = sizes or head_sizes(state, role, attention_heads)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        heads[role] = _head(taking, role, config, attention, dtype)
    remains = "".join(f"|{remains_of(role)}" for role in ROLES if role not in roles)
    taking.finish(re.compile(rf"visual_encoder\.|t5_model\.{remains}"))
    return heads


def _head(taking: Taking, role: str, config: HeadConfig, attention: str, dtype: torch.dtype) -> Head:
    with torch.device("meta"):
        head = Head(config, attention)
    tensors = {
        name: taking.take(head_name(name, role), tuple(t.shape)).to(dtype, copy=True)
        for name, t in head.state_dict().items()
    }
    head.load_state_dict(tensors, assign=True)
    return head.eval()


def blip2_sizes(state: State, qformer_heads: int | None = None, vision_heads: int | None = None) -> Blip2Config:
    """The configuration of the whole model, as its tensors tell it. KeyError names one that was needed."""
    head = head_sizes(state, "answerer", qformer_heads)
    patch, width = (
        state["visual_encoder.patch_embed.proj.weight"],
        state["visual_encoder.cls_token"].shape[-1],
    )
    grid = int((state["visual_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    vocabulary, d_model = state["t5_model.shared.weight"].shape
    attention = "t5_model.encoder.block.0.layer.0.SelfAttention"
    buckets, heads = state[f"{attention}.relative_attention_bias.weight"].shape
    return Blip2Config(
        vision_config={
            "hidden_size": width,
            "intermediate_size": state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _count(state, "visual_encoder.blocks"),
            "num_attention_heads": vision_heads or _heads(width, VISION_HEAD_WIDTH, "vision tower"),
            "patch_size": patch.shape[-1],
            "image_size": patch.shape[-1] * grid,
        },
        qformer_config=head.qformer().to_dict(),
        text_config={
            "model_type": "t5",
            "vocab_size": vocabulary,
            "d_model": d_model,
            "d_kv": state[f"{attention}.q.weight"].shape[0] // heads,
            "d_ff": state["t5_model.encoder.block.0.layer.1.DenseReluDense.wo.weight"].shape[1],
            "num_layers": _count(state, "t5_model.encoder.block"),
            "num_decoder_layers": _count(state, "t5_model.decoder.block"),
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu",  # the exact GELU, which LAVIS puts in the place of Flan-T5's gelu_new
            "decoder_start_token_id": 0,
            "pad_token_id": 0,
            "eos_token_id": 1,
        },
        num_query_tokens=head.queries,
    )


def blip2_from(
    state: State,
    source: str,
    qformer_heads: int | None = None,
    vision_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Blip2ForConditionalGeneration:
    """transformers' BLIP-2 of a whole LAVIS state dict (ViT, T5, BLIP-2's own head); `_loc` stays aside.

    Its `save_pretrained` writes a folder that `sevila.checkpoints.backbone.load` reads. Raises UserError that lists
    every missing, unexpected and misshaped tensor. Tensors that have the dtype already are not copied.
    """
    try:
        config = blip2_sizes(state, qformer_heads, vision_heads)
    except KeyError as error:
        raise UserError(f"{source}: no {error.args[0]}, so it is no whole LAVIS BLIP-2 with a T5") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    with torch.device("meta"):
        blip2 = Blip2ForConditionalGeneration(config)
    taking = Taking(state, source)
    tensors = {}
    for name, wanted in blip2.state_dict().items():
        tensors[name] = _take_blip2(taking, name, tuple(wanted.shape)).to(dtype)
    taking.finish(re.compile(rf"({'|'.join(_PARTS)})_loc(\.|$)"))
    # `assign` gives every name a parameter of its own, so lm_head is not tied (transformers 5 ties it) ...
    blip2.load_state_dict(tensors, assign=True)
    language = blip2.language_model
    for stack in (language.encoder, language.decoder):  # ... and the word vectors are tied by hand
        stack.embed_tokens.weight = language.shared.weight
    return blip2.eval()


def _take_blip2(taking: Taking, name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor for a name of transformers' BLIP-2."""
    part, _, rest = name.partition(".")
    if part == "vision_model":
        official = vision_name(rest)
        if official.endswith("attn.qkv.bias"):  # the keys have no bias
            width = (shape[0] // 3,)
            query, value = (taking.take(official.replace("qkv.bias", b), width) for b in ("q_bias", "v_bias"))
            return torch.cat([query, torch.zeros_like(query), value])
        return taking.take(official, shape)
    if part == "language_model":
        alias = rest in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
        return taking.take("t5_model.shared.weight" if alias else f"t5_model.{rest}", shape)
    ours = {"query_tokens": "queries", "language_projection": "projection", "qformer": "qformer"}[part]
    return taking.take(head_name(f"{ours}.{rest}" if rest else ours, "answerer"), shape)


def backbone_from(
    state: State,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    qformer_heads: int | None = None,
    vision_heads: int | None = None,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    text_tokens: int = TEXT_TOKENS,
) -> Backbone:
    """The frozen backbone of a whole LAVIS state dict, with BLIP-2's own head. Errors as `blip2_from`."""
    blip2 = blip2_from(state, source, qformer_heads, vision_heads, dtype)
    blip2.set_attn_implementation(attention)
    return assemble_backbone(blip2, tokenizer, source, attention, text_tokens)


def _count(state: State, prefix: str) -> int:
    """How many numbered blocks stand under a prefix."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    return max((int(match[1]) + 1 for name in state if (match := pattern.match(name))), default=0)


def _heads(width: int, head_width: int, part: str) -> int:
    if width % head_width:
        raise UserError(
            f"the {part}'s width {width} is no multiple of {head_width}: say how many attention heads it has"
        )
    return width // head_width
