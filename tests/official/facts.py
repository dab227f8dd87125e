"""What a golden folder's aux files hold: prompts, token ids, frame indices, transforms, rates, positions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from official.difference import EXACT, Difference, compared, equal
from official.golden import Golden
from sevila.checkpoints.lavis import backbone_from
from sevila.data.sampling import random_indices, uniform_indices
from sevila.data.transforms import crop_and_resize, random_box, training_transform
from sevila.model.pixels import normalize
from sevila.model.prompts import EventPrompts, QuestionPrompts, moment_prompt, target
from sevila.training.optim import PublishedSchedule

PIXELS = 1e-6  # normalised pixels
RATES = 1e-12  # learning rates


def texts(row: dict[str, Any]) -> tuple[str | None, str, str | None]:
    """The Answerer's prompt, the Localizer's, and the target, of a row in the official unified form."""
    if "query" in row:
        return None, moment_prompt(row["query"]), None
    options = [row[f"a{i}"] for i in range(row["num_option"])]
    prompts = QuestionPrompts() if row["question"] else EventPrompts()
    question = row["question"]
    return prompts.answer(question, options), prompts.localize(question, options), target(row["answer"])


def prompts(golden: Golden) -> Iterator[Difference]:
    """Prompts and their ids for a row of every data set."""
    for name, case in golden.aux["prompts"].items():
        answer, localize, target_text = texts(case["annotation"])
        yield equal(f"{name}.localize", localize, case["loc_input"])
        yield equal(f"{name}.localize_ids", _ids(golden, localize), case["loc_ids"])
        if answer is not None:
            yield equal(f"{name}.answer", (answer, target_text), (case["qa_input"], case["qa_output"]))
            yield equal(f"{name}.answer_ids", _ids(golden, answer), case["qa_ids"])


def _ids(golden: Golden, text: str) -> list[int]:
    return golden.backbone.text([text])[0][0].tolist()


def tokens(golden: Golden) -> Iterator[Difference]:
    """Prefixes with their trailing space, letters, "yes" and "no", and the cut of a long text."""
    backbone = golden.backbone
    for text, theirs in golden.aux["token_ids"].items():
        if text.startswith("Frame"):
            number = text.removeprefix("Frame").rstrip(": ")
            yield equal(repr(text), backbone.prefix(int(number) if number else None), theirs)
        else:
            yield equal(repr(text), [backbone.token(word) for word in text.split()], theirs)
    cut = golden.aux["truncation"]
    yield equal("truncation", _ids(golden, cut["text"]), cut["truncated_ids"])
    yield equal("truncation is counted", cut["text"] in backbone.truncated, True)


def frames(golden: Golden) -> Iterator[Difference]:
    """Frame indices of evaluation, and of training with the official random numbers."""
    for row, case in enumerate(golden.aux["sampling"]):
        clip = tuple(case["clip"]) if case["clip"] else None
        asked = (case["vlen"], case["fps"], case["n_frms"], clip)
        yield equal(f"uniform_{row}", uniform_indices(*asked), case["uniform"])
        for seed, theirs in (
            (key.removeprefix("random_seed"), case[key]) for key in case if key.startswith("random_seed")
        ):
            yield equal(f"random_{row}", random_indices(*asked, rng=random.Random(int(seed))), theirs)


def transforms(golden: Golden) -> Iterator[Difference]:
    """Both transforms; the training one where the bicubic value lies in 0..255 (beyond it theirs wraps)."""
    stored, notes = golden.aux["tensors"], golden.aux["transform"]
    raw, evaluated, trained = (stored[f"transform.{name}"].transpose(0, 1) for name in ("raw", "eval", "train"))
    yield compared("evaluation", normalize(raw), evaluated, PIXELS)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(notes["train_torch_seed"])

    box = random_box(*raw.shape[-2:], seeded())
    yield equal("crop", list(box), notes["train_crop_ijhw"])
    size = trained.shape[-1]
    ours = normalize(training_transform(raw, size, seeded()))
    inside = _inside(raw, box, size)
    yield compared("training", ours[inside], trained[inside], PIXELS)
    yield compared("crop_and_resize", normalize(crop_and_resize(raw, box, size)), ours, EXACT)


def _inside(raw: Tensor, box: tuple[int, int, int, int], size: int) -> Tensor:
    top, left, height, width = box
    part = raw[..., top : top + height, left : left + width].float()
    resized = functional.interpolate(part, size=(size, size), mode="bicubic", align_corners=False)
    return (resized >= 0) & (resized <= 255)


def schedule(golden: Golden) -> Iterator[Difference]:
    """The learning rate at given epochs and micro-batches."""
    notes = golden.aux["lr"]
    rates = PublishedSchedule(
        peak=notes["init_lr"],
        epochs=notes["max_epoch"],
        warmup_batches=notes["warmup_steps"],
        minimum=notes["min_lr"],
        warmup_start=notes["warmup_lr"],
    )
    ours = [rates.lr(epoch, number, step=0) for epoch, number, _ in notes["rows"]]
    theirs = [rate for *_, rate in notes["rows"]]
    yield compared("rates", torch.tensor(ours).double(), torch.tensor(theirs).double(), RATES)


@torch.no_grad()
def positions(golden: Golden) -> Iterator[Difference]:
    """Position embeddings of a larger picture, as the vision tower adds them to a black one's patches."""
    stored, config = golden.aux["tensors"], golden.meta["config"]
    given = next(t for name, t in stored.items() if name.startswith("pos_embed.in"))
    theirs = next(t for name, t in stored.items() if name.startswith("pos_embed.out"))
    backbone = backbone_from(
        {**golden.weights, "visual_encoder.pos_embed": given},
        golden.tokenizer,
        str(golden.folder),
        config["bert"]["num_attention_heads"],
        config["vit"]["num_heads"],
        dtype=golden.dtype,
    )
    seen: dict[str, Tensor] = {}
    hook = backbone.vision.encoder.register_forward_pre_hook(
        lambda _, __, kwargs: seen.update(kwargs), with_kwargs=True
    )
    side = int((theirs.shape[1] - 1) ** 0.5) * backbone.vision.config.patch_size
    backbone.encode(torch.zeros(1, 3, side, side))
    hook.remove()
    black = backbone.vision.embeddings.patch_embedding.bias.expand(theirs.shape[1] - 1, -1)
    start = torch.cat([backbone.vision.embeddings.class_embedding[0], black])
    yield compared("interpolated", seen["inputs_embeds"] - start, theirs, golden.tolerances.states)


FACTS = {
    "prompts": prompts,
    "tokens": tokens,
    "frame_indices": frames,
    "transforms": transforms,
    "schedule": schedule,
    "positions": positions,
}
