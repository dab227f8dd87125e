"""From LAVIS's tensor names to this project's: the official SeViLA and BLIP-2 checkpoints, as pure functions.

A LAVIS state dict holds `visual_encoder.*`, `t5_model.*` and one or two heads: `ln_vision.*`, `Qformer.bert.*`,
`query_tokens`, `t5_proj.*` are the Answerer's (and BLIP-2's own), the same with `_loc` on the first component the
Localizer's. Everything is checked before anything is used. What may be there and is not needed is known by name
(`SPARE`).

    state = read_checkpoint(Path("sevila_pretrained.pth")).state
    heads = heads_from(state, "sevila_pretrained.pth", backbone.zeroshot.config)    # by role
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import Blip2Config, Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from sevila.checkpoints.architecture import T5, TIED, fill_outline, outline
from sevila.checkpoints.heads import ROLES
from sevila.checkpoints.state_dict import Checkpoint, check_tensors, listed
from sevila.errors import UserError
from sevila.model.backbone import TEXT_TOKENS, Backbone, assemble_backbone
from sevila.model.head import Head, HeadConfig

State = Mapping[str, Tensor]  # of any shapes
Names = tuple[tuple[str, str], ...]

SUFFIXES = {"localizer": "_loc", "answerer": ""}
VISION_LAYERS = 39  # BLIP-2 reads EVA-CLIP ViT-g before its last block
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
_VERDICT = "not loaded"

# -- names: ours, or transformers', and LAVIS's for the same tensor ---

_HEAD_NAMES: Names = (
    ("queries", "query_tokens"),
    ("norm.", "ln_vision."),
    ("qformer.layernorm.", "Qformer.bert.embeddings.LayerNorm."),
    ("qformer.", "Qformer.bert."),
    ("projection.", "t5_proj."),
)
_VISION_NAMES: Names = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding", "pos_embed"),
    ("embeddings.patch_embedding.", "patch_embed.proj."),
    ("encoder.layers.", "blocks."),
)
_BLOCK_NAMES: Names = (("self_attn.projection.", "attn.proj."), ("self_attn.", "attn."), ("layer_norm", "norm"))


def head_name(name: str, role: str) -> str:
    """The official name of a head's tensor: `projection.weight` of the localizer is `t5_proj_loc.weight`."""
    official = _renamed(name, _HEAD_NAMES).replace("attention.attention.", "attention.self.")
    part, dot, rest = official.partition(".")
    return f"{part}{SUFFIXES[role]}{dot}{rest}"


def vision_name(name: str) -> str:
    """The official name of a tensor of transformers' Blip2VisionModel (but for its joined `qkv.bias`)."""
    if name.startswith("post_layernorm."):
        return name.replace("post_layernorm", "ln_vision")  # which LAVIS counts to the head
    official = _renamed(name, _VISION_NAMES)
    block = re.match(r"blocks\.\d+\.", official)
    if block:
        official = block[0] + _renamed(official[block.end() :], _BLOCK_NAMES)
    return f"visual_encoder.{official}"


def transformers_name(official: str) -> str:
    """The name in transformers' Blip2VisionModel of a tensor of LAVIS's tower: `vision_name` the other way round."""
    name = _renamed(official.removeprefix("visual_encoder."), _reversed(_VISION_NAMES))
    block = re.match(r"encoder\.layers\.\d+\.", name)
    return block[0] + _renamed(name[block.end() :], _reversed(_BLOCK_NAMES)) if block else name


def official_names(name: str) -> tuple[str, ...]:
    """The official tensors that make a tensor of transformers' BLIP-2: biases of queries and of values, or one."""
    part, _, rest = name.partition(".")
    if part == "vision_model":
        official = vision_name(rest)
        if official.endswith("attn.qkv.bias"):  # joined by transformers, with zeros for the keys, which have no bias
            return official.replace("qkv.bias", "q_bias"), official.replace("qkv.bias", "v_bias")
        return (official,)
    if part == "language_model":
        return (f"t5_model.{rest}",)
    ours = {"query_tokens": "queries", "language_projection": "projection", "qformer": "qformer"}[part]
    return (head_name(f"{ours}.{rest}" if rest else ours, "answerer"),)


def _renamed(name: str, rules: Names) -> str:
    return next((new + name[len(old) :] for old, new in rules if name.startswith(old)), name)


def _reversed(rules: Names) -> Names:
    return tuple((new, old) for old, new in rules)


# -- several files ---


def merge(checkpoints: Iterable[Checkpoint]) -> dict[str, Tensor]:
    """Several files as one LAVIS state dict: EVA's ViT and a plain T5 get their LAVIS prefixes.

    Raises UserError where two files hold a tensor of the same name.
    """
    joined: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        state = {_prefixed(name): tensor for name, tensor in checkpoint.state.items()}
        twice = sorted(joined.keys() & state.keys())
        if twice:
            raise UserError(
                f"{checkpoint.path}: {len(twice)} tensors stand in an earlier file too: {listed(twice, 4)}; "
                "only files that complete each other go together"
            )
        joined |= state
    return joined


def _prefixed(name: str) -> str:
    """The name inside the whole model, of a tensor in EVA's or T5's own file."""
    if re.match(r"(cls_token|pos_embed|patch_embed|blocks|norm|fc_norm|head)(\.|$)", name):
        return f"visual_encoder.{name}"
    return f"t5_model.{name}" if re.match(r"(shared|encoder|decoder|lm_head)\.", name) else name


def used_blocks(state: State, layers: int = VISION_LAYERS) -> dict[str, Tensor]:
    """The state without the blocks of the vision tower from number `layers` on, which BLIP-2 does not use."""

    def used(name: str) -> bool:
        block = re.match(r"visual_encoder\.blocks\.(\d+)\.", name)
        return block is None or int(block[1]) < layers

    return {name: tensor for name, tensor in state.items() if used(name)}


# -- heads ---


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
    return rf"(t5_proj|ln_vision){SUFFIXES[role]}\..+"


def head_sizes(state: State, role: str, attention_heads: int | None = None) -> HeadConfig:
    """A head's sizes as most of its tensors have them. Raises UserError where they do not tell."""
    prefix = f"Qformer{SUFFIXES[role]}.bert.encoder.layer"
    layers = _count(state, prefix)
    crossing = [i for i in range(layers) if any(n.startswith(f"{prefix}.{i}.crossattention.") for n in state)]
    every = crossing[1] - crossing[0] if len(crossing) > 1 else max(layers, 1)
    # a head of small primes shows which axis of which tensor is which size: each tensor votes for the size it has there
    primes = {"vision_width": 2, "language_width": 3, "queries": 5, "width": 7, "inner_width": 11}
    with torch.device("meta"):
        model = Head(HeadConfig(layers=layers, attention_heads=1, cross_every=every, **primes))
    votes: dict[int, Counter[int]] = {prime: Counter() for prime in primes.values()}
    for name, tensor in model.state_dict().items():
        found = state.get(head_name(name, role))
        if found is not None and found.ndim == tensor.ndim:
            for prime, size in zip(tensor.shape, found.shape, strict=True):
                votes.get(prime, Counter())[size] += 1
    silent = [name for name, prime in primes.items() if not votes[prime]]
    if silent or not layers:
        names = ", ".join(head_name(n, role) for n in model.state_dict() if head_name(n, role) not in state)
        raise UserError(f"the {role}'s sizes cannot be told ({', '.join(silent) or 'layers'}); missing: {names}")
    sizes = {name: votes[prime].most_common(1)[0][0] for name, prime in primes.items()}
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

    The released SeViLA checkpoint holds both. BLIP-2's hold one, under the Answerer's names, which is also the start of
    a Localizer (paper, section 3.2: both begin as BLIP-2).

    sizes             those of the backbone's own head; None: as the tensors tell them
    attention_heads   which tensors do not tell; None: they have 64 channels

    Raises UserError that lists every missing, unexpected, misshaped and not finite tensor of all heads.
    """
    roles = roles_in(state)
    if not roles:
        raise UserError(f"{source}: holds no head (no query_tokens, no Qformer.bert.*)")
    heads: dict[str, Head] = {}
    for role in roles:
        with _naming(source):
            config = sizes or head_sizes(state, role, attention_heads)
        with torch.device("meta"):
            heads[role] = Head(config, attention)
    tensors = {role: head.state_dict() for role, head in heads.items()}
    wanted = {head_name(name, role): t.shape for role, own in tensors.items() for name, t in own.items()}
    others = [remains_of(role) for role in ROLES if role not in roles]
    spare = re.compile("|".join([_SPARE.pattern, r"(visual_encoder|t5_model)\..+", *others]))
    check_tensors(source, _VERDICT, wanted, state, spare)
    for role, head in heads.items():
        own = {name: state[head_name(name, role)].to(dtype, copy=True) for name in tensors[role]}
        head.load_state_dict(own, assign=True)
        head.eval()
    return heads


# -- the whole model ---


def blip2_sizes(state: State, qformer_heads: int | None = None, vision_heads: int | None = None) -> Blip2Config:
    """The configuration of the whole model, as its tensors tell it.

    Raises KeyError with the name of a tensor that was needed, UserError where the tensors do not tell.
    """
    head = head_sizes(state, "answerer", qformer_heads)
    patch = state["visual_encoder.patch_embed.proj.weight"].shape[-1]
    width = state["visual_encoder.cls_token"].shape[-1]
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
            "patch_size": patch,
            "image_size": patch * grid,
        },
        qformer_config=head.qformer().to_dict(),
        text_config=T5
        | {
            "vocab_size": vocabulary,
            "d_model": d_model,
            "d_kv": state[f"{attention}.q.weight"].shape[0] // heads,
            "d_ff": state["t5_model.encoder.block.0.layer.1.DenseReluDense.wo.weight"].shape[1],
            "num_layers": _count(state, "t5_model.encoder.block"),
            "num_decoder_layers": _count(state, "t5_model.decoder.block"),
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
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

    Its `save_pretrained` writes a folder that `sevila.checkpoints.backbone.load` reads. Tensors that have the dtype
    already are not copied. Raises UserError that lists every missing, unexpected, misshaped and not finite tensor.
    """
    with _naming(source):
        blip2 = outline(blip2_sizes(state, qformer_heads, vision_heads))
    shapes = {name: t.shape for name, t in blip2.state_dict().items() if name not in TIED}
    wanted: dict[str, Sequence[int]] = {}
    for name, shape in shapes.items():
        halves = official_names(name)
        wanted |= dict.fromkeys(halves, shape if len(halves) == 1 else (shape[0] // 3,))
    spare = re.compile(rf"{_SPARE.pattern}|({'|'.join(_PARTS)})_loc(\..+)?")
    check_tensors(source, _VERDICT, wanted, state, spare)
    fill_outline(blip2, {name: _joined([state[n] for n in official_names(name)]).to(dtype) for name in shapes})
    return blip2


def _joined(tensors: list[Tensor]) -> Tensor:
    """One tensor as it is; of the biases of queries and values [Dv] all three [3 Dv], the keys' being zeros."""
    if len(tensors) == 1:
        return tensors[0]
    query, value = tensors
    return torch.cat([query, torch.zeros_like(query), value])


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
    """The frozen backbone of a whole LAVIS state dict, with BLIP-2's own head. Raises UserError as `blip2_from`."""
    blip2 = blip2_from(state, source, qformer_heads, vision_heads, dtype)
    blip2.set_attn_implementation(attention)
    return assemble_backbone(blip2, tokenizer, source, attention, text_tokens)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Have an error about sizes name the source."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{source}: no {error.args[0]}, so it is no whole LAVIS BLIP-2 with a T5") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


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
