"""The same weights and inputs through this library: each function yields its differences to LAVIS or timm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from interop.reference import Reference
from official.difference import EXACT, NOISE, Difference, Tolerances, compared, equal, largest
from official.inference import watched
from official.records import repeated
from sevila.checkpoints.lavis import head_name
from sevila.model.language import Official
from sevila.model.sevila import Answerer, Localizer

TOLERANCES = Tolerances.of(torch.float64)
PART = {"ln_vision": "ln_vision", "Qformer": "Qformer.last_hidden_state", "t5_proj": "t5_proj"}  # here, there


def compare(reference: Reference) -> list[Difference]:
    """All there is to compare in one case."""
    return list(chain(tower(reference), caption(reference), alone(reference), together(reference)))


def tower(reference: Reference) -> Iterator[Difference]:
    """timm's EVA tower."""
    yield compared("timm: vision", reference.patches.flatten(0, 1), reference.timm["vision"], TOLERANCES.logits)


def caption(reference: Reference) -> Iterator[Difference]:
    """LAVIS's `Blip2T5.forward`: one picture, then the text, no "Frame: " between them."""
    theirs, backbone, head = reference.flow("caption"), reference.backbone, reference.head
    pictures = backbone.encode(reference.pixels[:, 0])
    yield compared("Blip2T5: vision", pictures, theirs["vision"], TOLERANCES.logits)
    with watched(head) as seen:
        soft = head(pictures)
    for here, there in PART.items():
        yield compared(f"Blip2T5: {here}", seen[here].detach(), theirs[there], TOLERANCES.states)

    ids, mask = backbone.text(reference.notes["texts"])
    embeds = torch.cat([soft, backbone.language.shared(ids)], dim=1)
    mask = torch.cat([mask.new_ones(soft.shape[:2]), mask], dim=1)
    yield compared("Blip2T5: inputs_embeds", embeds.detach(), theirs["encoder.inputs_embeds"], TOLERANCES.states)
    yield compared("Blip2T5: attention_mask", mask, theirs["encoder.attention_mask"], EXACT)
    with torch.no_grad():
        hidden = backbone.run_encoder(embeds, mask)
        labels = theirs["t5.labels"]
        tokens = torch.cat([torch.full_like(labels[:, :1], backbone.start), labels[:, :-1].clamp(min=0)], dim=1)
        logits = backbone.logits(backbone.run_decoder(hidden, mask, tokens))
    yield compared("Blip2T5: encoder", hidden, theirs["encoder.last_hidden_state"], TOLERANCES.states)
    real = labels >= 0  # what stands at padding is nobody's business
    yield compared("Blip2T5: logits", logits[real], theirs["t5.logits"][real], TOLERANCES.logits)

    loss = backbone.answer_loss(embeds, mask, reference.notes["targets"])
    yield compared("Blip2T5: loss", loss.detach(), theirs["loss"], TOLERANCES.logits)
    loss.backward()
    ours = {head_name(name, "answerer"): p.grad for name, p in head.named_parameters()}
    yield from gradients(ours, {n.removeprefix("grad."): t for n, t in theirs.items() if n.startswith("grad.")})


def gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Iterator[Difference]:
    """Of every parameter, relative to its largest. Of a key's bias the gradient is zero but for rounding."""
    yield equal("Blip2T5: gradient names", sorted(ours), sorted(theirs))
    total = sum(float(gradient.norm()) ** 2 for gradient in theirs.values()) ** 0.5
    whole, vanishing = [], []
    for name in ours.keys() & theirs.keys():
        if theirs[name].norm() < NOISE * total:
            vanishing.append(float(ours[name].norm()) / total)
        else:
            whole.append(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()))
    yield Difference("Blip2T5: gradients", largest(whole), TOLERANCES.gradients, relative=True)
    yield Difference("Blip2T5: vanishing gradients", largest(vanishing), TOLERANCES.vanishing, relative=True)


@torch.no_grad()
def alone(reference: Reference) -> Iterator[Difference]:
    """Each frame behind "Frame: ": the Localizer's reading."""
    theirs, backbone, texts = reference.flow("video.alone"), reference.backbone, reference.notes["texts"]
    soft, frames = reference.head(reference.patches).flatten(0, 1), repeated(texts, reference.pixels.shape[1])
    localizer = Localizer(backbone, reference.head)
    yield from _read("frame", reference, soft[:, None], frames, theirs, numbered=False)
    yes = theirs["step0"][:, backbone.token("yes")]
    yield compared("frame: yes", localizer.word_logits(soft[:, None], frames)[:, 0], yes, TOLERANCES.logits)
    loss = localizer.loss(reference.patches.flatten(0, 1), frames, [True] * len(frames))
    yield compared("frame: loss", loss, theirs["loss"], TOLERANCES.logits)


@torch.no_grad()
def together(reference: Reference) -> Iterator[Difference]:
    """All frames, numbered: the Answerer's reading, and its letters after the model's own first token."""
    theirs, backbone, texts = reference.flow("video.together"), reference.backbone, reference.notes["texts"]
    options, right = reference.notes["options"], reference.notes["right"]
    soft, answerer = reference.head(reference.patches), Answerer(backbone, reference.head, Official())
    yield from _read("keyframes", reference, soft, texts, theirs, numbered=True)
    letters = theirs["step1"][:, [backbone.token(letter) for letter in options]]
    yield compared("keyframes: letters", answerer.option_logits(soft, texts, len(options)), letters, TOLERANCES.logits)
    loss = answerer.loss(reference.patches, texts, [right] * len(texts))
    yield compared("keyframes: loss", loss, theirs["loss"], TOLERANCES.logits)


def _read(
    name: str, reference: Reference, soft: Tensor, texts: list[str], theirs: dict[str, Tensor], numbered: bool
) -> Iterator[Difference]:
    """The assembled input and the encoder's states."""
    embeds, mask = reference.backbone.assemble(soft, texts, numbered)
    hidden = reference.backbone.run_encoder(embeds, mask)
    for what, ours, tolerance in (
        ("embeds", embeds, TOLERANCES.states),
        ("mask", torch.ones_like(theirs["mask"]) if mask is None else mask, EXACT),  # none: no row has padding
        ("encoder", hidden, TOLERANCES.states),
    ):
        yield replace(compared(what, ours, theirs[what], tolerance), what=f"{name}: {what}")
