"""The forward chain and its parts: each scenario yields its differences to the golden tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from official.difference import EXACT, Difference, compared, equal
from official.golden import Golden
from official.records import GoldenFrames, chain, moments, questions, repeated
from sevila.metrics.choice import percent
from sevila.model.head import Head
from sevila.model.language import Direct
from sevila.model.prompts import moment_prompt
from sevila.tasks.pretrain import PretrainTask
from sevila.tasks.refine import make_pseudo_labels


@contextmanager
def watched(head: Head) -> Iterator[dict[str, Tensor]]:
    """What passes through a head: after its layer norm, after its Q-Former, after its projection."""
    seen: dict[str, Tensor] = {}

    def qformer(_: nn.Module, __: Any, kwargs: dict[str, Tensor], output: Any) -> None:
        seen["ln_vision"], seen["Qformer"] = kwargs["encoder_hidden_states"], output.last_hidden_state

    def projection(_: nn.Module, __: Any, output: Tensor) -> None:
        seen["t5_proj"] = output

    hooks = [
        head.qformer.register_forward_hook(qformer, with_kwargs=True),
        head.projection.register_forward_hook(projection),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def language(golden: Golden, name: str, soft: Tensor, texts: list[str], numbered: bool) -> Iterator[Difference]:
    """The assembled input, and the encoder's output where it is stored."""
    embeds, mask = golden.backbone.assemble(soft, texts, numbered)
    yield compared("inputs_embeds", embeds, golden.tensors[f"{name}.inputs_embeds"], golden.tolerances.states)
    seen = embeds.new_ones(embeds.shape[:2], dtype=torch.long) if mask is None else mask  # none: no row has padding
    yield compared("attention_mask", seen, golden.tensors[f"{name}.attention_mask"], EXACT)
    if f"{name}.encoder_last_hidden" in golden.tensors:
        hidden = golden.backbone.run_encoder(embeds, mask)
        yield compared("encoder", hidden, golden.tensors[f"{name}.encoder_last_hidden"], golden.tolerances.states)


@torch.no_grad()
def localizer(golden: Golden) -> Iterator[Difference]:
    """Vision tower, the Localizer's head, its input, and the relevance of every frame."""
    tensors, model, texts = golden.tensors, golden.model(), golden.prompts.localizers
    with watched(model.localizer.head) as seen:
        soft = model.localizer.head(golden.patches)
    yield compared("vision", golden.patches.flatten(0, 1), tensors["a_loc.visual_encoder.0"], golden.tolerances.logits)
    for part in ("ln_vision", "Qformer", "t5_proj"):
        yield compared(part, seen[part], tensors[f"a_loc.{part}_loc.0"], golden.tolerances.states)
    rows, frames = soft.flatten(0, 1)[:, None], repeated(texts, golden.frames)
    yield from language(golden, "a_loc", rows, frames, numbered=False)
    relevance = torch.cat([model.relevance(p, [text]) for p, text in zip(golden.patches, texts, strict=True)])
    yield compared("yes", relevance, tensors["a_loc.yes"], golden.tolerances.logits)
    yield compared("no", _said(golden, rows, frames, "no"), tensors["a_loc.no"].flatten(), golden.tolerances.logits)


def _said(golden: Golden, soft: Tensor, texts: list[str], word: str) -> Tensor:
    """The logit of a word as the first one, where the library itself reads "yes" only."""
    backbone = golden.backbone
    embeds, mask = backbone.assemble(soft, texts, numbered=False)
    start = torch.full((len(soft), 1), backbone.start, device=soft.device)
    states = backbone.run_decoder(backbone.run_encoder(embeds, mask), mask, start)[:, 0]
    return backbone.logits(states, [backbone.token(word)])[:, 0]


@torch.no_grad()
def forward_chain(golden: Golden, k: int) -> Iterator[Difference]:
    """Relevance, the k best frames, the option logits of the official rule."""
    name, tensors, model = f"b_chain_k{k}", golden.tensors, golden.model()
    predictions = chain(golden, model, k).predict(questions(golden))
    chosen = torch.tensor([p.keyframes for p in predictions])
    yield compared("keyframes", chosen, tensors[f"{name}.frame_idx"], EXACT)
    logits = torch.tensor([p.option_logits for p in predictions], dtype=torch.float64)
    yield compared("option_logits", logits, tensors[f"{name}.step_logits_ids"][:, 1], golden.tolerances.logits)
    yield compared("prediction", torch.tensor([p.prediction for p in predictions]), tensors[f"{name}.pred"], EXACT)
    rows = torch.stack([patches[frames] for patches, frames in zip(golden.patches, chosen, strict=True)])
    with watched(model.answerer.head) as seen:
        soft = model.answerer.head(rows)
    for part in ("Qformer", "t5_proj"):
        if f"{name}.{part}.0" in tensors:
            theirs = tensors[f"{name}.{part}.0"]
            yield compared(part, seen[part], theirs, golden.tolerances.states)
    yield from language(golden, name, soft, golden.prompts.answers, numbered=True)


@torch.no_grad()
def best_frame(golden: Golden) -> Iterator[Difference]:
    """The single best frame, behind plain "Frame: "."""
    tensors, model = golden.tensors, golden.model()
    best = [c.keyframes[0] for c in chain(golden, model, 1).choose(questions(golden))]
    rows = torch.stack([patches[i] for patches, i in zip(golden.patches, best, strict=True)])
    logits = torch.cat(
        [
            model.single_frame_logits(row[None], [text], [golden.options])[0]
            for row, text in zip(rows, golden.prompts.answers, strict=True)
        ]
    )
    yield compared("option_logits", logits, tensors["b_chain_frame.step_logits_ids"][:, 1], golden.tolerances.logits)
    yield compared("prediction", logits.argmax(-1), tensors["b_chain_frame.pred"], EXACT)
    soft = model.answerer.head(rows[:, None])
    yield from language(golden, "b_chain_frame", soft, golden.prompts.answers, numbered=False)


@torch.no_grad()
def uniform_video(golden: Golden) -> Iterator[Difference]:
    """All frames, concatenated; and the Answerer's head."""
    tensors, model, texts = golden.tensors, golden.model(), golden.prompts.answers
    everything = list(range(golden.frames))
    logits = [
        model.option_logits(patches, [everything], [text], [golden.options])[0]
        for patches, text in zip(golden.patches, texts, strict=True)
    ]
    yield compared(
        "option_logits", torch.stack(logits), tensors["c_uniform_vid.step_logits_ids"][:, 1], golden.tolerances.logits
    )
    yield compared("prediction", torch.stack(logits).argmax(-1), tensors["c_uniform_vid.pred"], EXACT)
    with watched(model.answerer.head) as seen:
        soft = model.answerer.head(golden.patches)
    for part in ("ln_vision", "Qformer", "t5_proj"):
        theirs = tensors[f"c_uniform_vid.{part}.0"]
        yield compared(part, seen[part], theirs, golden.tolerances.states)
    yield from language(golden, "c_uniform_vid", soft, texts, numbered=True)


@torch.no_grad()
def uniform_frames(golden: Golden) -> Iterator[Difference]:
    """Each frame alone."""
    tensors, model, texts = golden.tensors, golden.model(), golden.prompts.answers
    logits = torch.cat(
        [
            model.single_frame_logits(patches, [text], [golden.options])[0]
            for patches, text in zip(golden.patches, texts, strict=True)
        ]
    )
    yield compared("option_logits", logits, tensors["c_uniform_frame.step_logits_ids"][:, 1], golden.tolerances.logits)
    yield compared("prediction", logits.argmax(-1), tensors["c_uniform_frame.pred"], EXACT)
    soft = model.answerer.head(golden.patches).flatten(0, 1)[:, None]
    yield from language(golden, "c_uniform_frame", soft, repeated(texts, golden.frames), numbered=False)


@torch.no_grad()
def pseudo_labels(golden: Golden) -> Iterator[Difference]:
    """The frozen Answerer's choice from each frame alone, said behind "Option", and whether it was right."""
    model, asked = golden.model(Direct()), questions(golden)
    theirs = golden.tensors["e_refine.qa.logits_ids"][:, 1].view(golden.videos, golden.frames, -1)
    for row, (patches, text) in enumerate(zip(golden.patches, golden.prompts.answers, strict=True)):
        logits = model.single_frame_logits(patches, [text], [golden.options])[0]
        yield compared(f"option_logits_{row}", logits, theirs[row], golden.tolerances.logits)
        yield compared(f"answers_{row}", logits.argmax(-1), golden.tensors["e_refine.pred_ans"][row], EXACT)
    labels = [label for made in make_pseudo_labels(model, GoldenFrames(golden), asked) for label in made.labels]
    wanted = [word == "yes" for word in golden.meta["summary"]["e_refine"]["pseudo_label"]]
    yield equal("labels", labels, wanted)


@torch.no_grad()
def moment_scores(golden: Golden) -> Iterator[Difference]:
    """Relevance for moment queries, the word said of each frame, and how often it is right (the choice of the best
    pre-trained head)."""
    model, texts = golden.model(), golden.meta["inputs_fmr"]["loc_input"]
    yield equal("prompts", [moment_prompt(m.query) for m in moments(golden)], texts)
    scores = torch.cat([model.relevance(p, [text]) for p, text in zip(golden.patches, texts, strict=True)])
    yield compared("yes", scores.flatten(), golden.tensors["f_fmr.gen.yes_score"], golden.tolerances.logits)
    both = torch.cat([model.yes_no(p, [text])[0] for p, text in zip(golden.patches, texts, strict=True)])
    yield compared("said", both[:, 0] > both[:, 1], golden.tensors["f_fmr.gen.pred"], EXACT)
    theirs = golden.meta["summary"]["f_fmr_generate"]
    right = [(word == "yes") == bool(pred) for word, pred in zip(theirs["answer"], theirs["pred_ans"], strict=True)]
    found = PretrainTask(model, GoldenFrames(golden), moments(golden)).evaluate()
    yield equal("frame_accuracy", found["frame_accuracy"], percent(sum(right), len(right)))
