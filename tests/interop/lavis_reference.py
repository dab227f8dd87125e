"""Run LAVIS's own BLIP-2 T5 at small sizes, and store its random weights and what it makes of random pictures.

    .venv-interop/bin/python tests/interop/lavis_reference.py OUT

This runs in an environment of its own (`make test-interop` sets it up), where this library cannot be imported.
OUT/CASE/ gets: case.json (what the tensors do not tell), tokenizer.json, weights.safetensors under LAVIS's names,
lavis.safetensors with inputs and outputs, dropout off. All in float64, in which rounding hides nothing; where LAVIS
casts to float32, the cast is left out.

Two flows: `caption.*` is LAVIS's own `Blip2T5.forward`, looked into by hooks, and its gradients; `video.*` is
SeViLA's order of frames and text, put together from the same model's parts.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case
from foreign import declare_torchvision_ops, enter_lavis
from safetensors.torch import save_file
from torch import Tensor, nn
from toy_tokenizer import save_tokenizer
from transformers import T5Config

declare_torchvision_ops()
enter_lavis()
warnings.filterwarnings("ignore", category=FutureWarning)  # fairscale's use of an older torch

from lavis.models.blip2_models.blip2 import LayerNorm  # noqa: E402
from lavis.models.blip2_models.blip2_t5 import Blip2T5  # noqa: E402
from lavis.models.blip2_models.modeling_t5 import T5ForConditionalGeneration, T5LayerNorm  # noqa: E402
from lavis.models.blip2_models.Qformer import BertConfig, BertLMHeadModel  # noqa: E402
from lavis.models.eva_vit import VisionTransformer, interpolate_pos_embed  # noqa: E402

LayerNorm.forward = nn.LayerNorm.forward
T5LayerNorm.forward = lambda norm, states: nn.functional.rms_norm(
    states, norm.weight.shape, norm.weight, norm.variance_epsilon
)
Tensor.float = Tensor.double  # T5's attention casts its scores

QUESTIONS = ("Question: what?", "Question: what did the red one do with the other?", "Question: who fell?")
OPTIONS = "ABC"
NEVER = -1  # the id of no token, so that no generated sequence ends early


def build(case: Case, folder: Path) -> Blip2T5:
    """LAVIS's Blip2T5; only the places where it downloads, or takes its real sizes, are replaced."""

    class Small(Blip2T5):
        @classmethod
        def init_tokenizer(cls) -> None:
            """The Q-Former reads no text."""

        @classmethod
        def init_vision_encoder(cls, *_: Any) -> tuple[nn.Module, nn.Module]:
            norm = partial(nn.LayerNorm, eps=1e-6)
            tower = VisionTransformer(**case.vision, qkv_bias=True, use_mean_pooling=False, norm_layer=norm)
            return tower, LayerNorm(tower.num_features)

        @classmethod
        def init_Qformer(cls, queries: int, vision_width: int) -> tuple[nn.Module, nn.Parameter]:
            config = BertConfig(**case.bert, vocab_size=3, max_position_embeddings=3, add_cross_attention=True)
            config.encoder_width, config.cross_attention_freq = vision_width, case.cross_every
            config.query_length = queries
            return BertLMHeadModel(config), nn.Parameter(torch.zeros(1, queries, config.hidden_size))

    save_tokenizer(folder)
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    plain = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}  # Flan-T5's
    T5ForConditionalGeneration(T5Config(**case.t5, **plain, vocab_size=vocabulary)).save_pretrained(folder)
    model = Small(
        t5_model=str(folder),
        num_query_token=case.queries,
        vit_precision="fp32",
        max_txt_len=case.text_tokens,
    )
    (folder / "pytorch_model.bin").unlink()
    return model.double().eval()


@torch.no_grad()
def randomize(model: nn.Module, random: torch.Generator) -> None:
    """Nothing is left at zero or one, where an error could hide.

    A block adds less than it gets: where it adds more, all queries are alike in a few blocks, and then the
    gradients of what tells them apart are hardly more than rounding.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            if isinstance(module, nn.Linear | nn.Conv2d) and name == "weight":
                parameter.copy_(noise / 2 / parameter[0].numel() ** 0.5)
            elif "Norm" in type(module).__name__ and name == "weight":
                parameter.copy_(1 + noise / 5)
            else:
                parameter.copy_(noise / (10 if parameter.ndim == 1 else 2))  # biases; tokens, positions, words


def weights_of(model: Blip2T5, case: Case, random: torch.Generator) -> dict[str, Tensor]:
    """The state dict, with position embeddings for `stored_image`; the model itself gets them interpolated."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grid = case.stored_image // case.vision["patch_size"]
    stored = torch.randn(1, 1 + grid**2, case.vision["embed_dim"], generator=random, dtype=torch.float64) / 2
    weights["visual_encoder.pos_embed"] = stored
    interpolated = {"pos_embed": stored}
    interpolate_pos_embed(model.visual_encoder, interpolated)
    with torch.no_grad():
        model.visual_encoder.pos_embed.copy_(interpolated["pos_embed"])
    return weights


def caption(model: Blip2T5, pixels: Tensor, texts: Sequence[str], targets: Sequence[str]) -> dict[str, Tensor]:
    """LAVIS's training forward on one picture a text: what passes through its parts, the loss, the gradients."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, *picked: str) -> Any:
        def hook(_: nn.Module, __: Any, kwargs: dict[str, Tensor], output: Any) -> None:
            if isinstance(output, Tensor):
                seen[name] = output
                return
            for key in picked:
                seen[f"{name}.{key}"] = kwargs[key] if key in kwargs else output[key]

        return hook

    hooks = [
        module.register_forward_hook(hook, with_kwargs=True)
        for module, hook in (
            (model.visual_encoder, keep("vision")),
            (model.ln_vision, keep("ln_vision")),
            (model.Qformer.bert, keep("Qformer", "last_hidden_state")),
            (model.t5_proj, keep("t5_proj")),
            (model.t5_model.encoder, keep("encoder", "inputs_embeds", "attention_mask", "last_hidden_state")),
            (model.t5_model, keep("t5", "labels", "logits")),
        )
    ]
    loss = model({"image": pixels, "text_input": list(texts), "text_output": list(targets)})["loss"]
    for hook in hooks:
        hook.remove()
    loss.backward()
    gradients = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return seen | {"loss": loss} | gradients


@torch.no_grad()
def soft_tokens(model: Blip2T5, pixels: Tensor) -> Tensor:
    """[N, 3, S, S] -> [N, Q, Dl], by LAVIS's parts."""
    patches = model.ln_vision(model.visual_encoder(pixels))
    read = model.Qformer.bert(
        query_embeds=model.query_tokens.expand(len(pixels), -1, -1),
        encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:-1], dtype=torch.long),
        return_dict=True,
    )
    return model.t5_proj(read.last_hidden_state)


@torch.no_grad()
def frames(model: Blip2T5, soft: Tensor, names: Sequence[str], texts: Sequence[str], target: str) -> dict[str, Tensor]:
    """LAVIS's T5 behind frames [N, K, Q, Dl], each after its name, and a text: input, states, logits, loss.

    `step0` and `step1` are the logits [N, V] of the first two tokens that the model itself generates.
    """
    tokenizer, t5 = model.t5_tokenizer, model.t5_model
    ids = tokenizer(list(texts), padding="longest", truncation=True, max_length=model.max_txt_len, return_tensors="pt")
    parts = []
    for i, name in enumerate(names):
        prefix = torch.tensor(tokenizer(name, add_special_tokens=False).input_ids)
        parts += [t5.shared(prefix).expand(len(soft), -1, -1), soft[:, i]]
    embeds = torch.cat([*parts, t5.shared(ids.input_ids)], dim=1)
    before = ids.attention_mask.new_ones(len(soft), embeds.shape[1] - ids.input_ids.shape[1])
    mask = torch.cat([before, ids.attention_mask], dim=1)
    labels = tokenizer([target] * len(soft), return_tensors="pt").input_ids
    out = t5(inputs_embeds=embeds, attention_mask=mask, labels=labels)
    steps = t5.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        max_new_tokens=2,
        eos_token_id=NEVER,
        output_scores=True,
        return_dict_in_generate=True,
    ).scores
    found = {"embeds": embeds, "mask": mask, "encoder": out.encoder_last_hidden_state, "loss": out.loss}
    return found | {f"step{i}": logits for i, logits in enumerate(steps)}


def video(model: Blip2T5, pixels: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
    """SeViLA's two readings of [B, T, 3, S, S]: each frame alone, and all of them, numbered."""
    soft = soft_tokens(model, pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
    repeated = [text for text in texts for _ in range(pixels.shape[1])]
    alone = frames(model, soft.flatten(0, 1)[:, None], ["Frame: "], repeated, "yes")
    named = [f"Frame {i + 1}: " for i in range(pixels.shape[1])]
    together = frames(model, soft, named, texts, f"Option {OPTIONS[1]}")
    return {f"alone.{k}": v for k, v in alone.items()} | {f"together.{k}": v for k, v in together.items()}


def make(case: Case, folder: Path) -> None:
    """One case's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(case.seed)
    torch.manual_seed(case.seed)
    model = build(case, folder)
    randomize(model, random)
    weights = weights_of(model, case, random)
    side = case.vision["img_size"]
    pixels = torch.randn(case.videos, case.frames, 3, side, side, generator=random, dtype=torch.float64)
    texts = [QUESTIONS[i % len(QUESTIONS)] for i in range(case.videos)]
    targets = [("yes", "Option B", "no")[i % 3] for i in range(case.videos)]
    tensors = {f"caption.{k}": v for k, v in caption(model, pixels[:, 0], texts, targets).items()}
    tensors |= {f"video.{k}": v for k, v in video(model, pixels, texts).items()} | {"pixels": pixels}
    tensors["positions"] = model.visual_encoder.pos_embed
    save_file(weights, folder / "weights.safetensors")
    save_file({name: t.detach().contiguous().clone() for name, t in tensors.items()}, folder / "lavis.safetensors")
    notes = {
        "vision": case.vision,
        "vision_heads": case.vision["num_heads"],
        "qformer_heads": case.bert["num_attention_heads"],
        "text_tokens": case.text_tokens,
        "texts": texts,
        "targets": targets,
        "options": list(OPTIONS),
        "right": 1,
    }
    (folder / "case.json").write_text(json.dumps(notes, indent=2))


def main() -> None:
    out = Path(sys.argv[1])
    for case in CASES:
        make(case, out / case.name)
    print(f"LAVIS: {len(CASES)} small models in {out}")


if __name__ == "__main__":
    main()
