"""Losses, gradients and optimiser steps: each scenario yields its differences to the golden tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from official.difference import NOISE, Difference, compared, equal, largest
from official.golden import Golden
from official.records import GoldenFrames, batch, chain, moments, questions, repeated
from sevila.checkpoints.lavis import head_name
from sevila.data.dataset import Batch
from sevila.model.head import Head
from sevila.model.language import Direct
from sevila.selection.rules import LocalizerTopK
from sevila.tasks.answer import AnswerTask, SelectEachStep
from sevila.tasks.pretrain import PretrainTask
from sevila.tasks.refine import LabelEachStep, RefineTask
from sevila.training.optim import adamw


def answer_task(golden: Golden, k: int) -> tuple[AnswerTask, Batch]:
    model, asked = golden.model(), questions(golden)
    keyframes = SelectEachStep(model, LocalizerTopK(k))
    return AnswerTask(chain(golden, model, k), asked, keyframes), batch(golden, asked)


def refine_task(golden: Golden) -> tuple[RefineTask, Batch]:
    model, asked = golden.model(Direct()), questions(golden)
    return RefineTask(chain(golden, model, 1), asked, LabelEachStep(model)), batch(golden, asked)


def pretrain_task(golden: Golden) -> tuple[PretrainTask, Batch]:
    asked = moments(golden)
    return PretrainTask(golden.model(), GoldenFrames(golden), asked), batch(golden, asked)


def trained_frames(golden: Golden) -> int:
    """How many keyframes the official forward training used, as the length of its input tells."""
    _, mask = golden.backbone.text(golden.prompts.answers)
    length, k = golden.tensors["d_train_qa.inputs_embeds"].shape[1] - mask.shape[1], 0
    while length > 0:
        k += 1
        length -= len(golden.backbone.prefix(k)) + golden.sizes.queries
    return k


@dataclass(frozen=True)
class Training:
    """A training that the official code did: its task here, its names there, the role of the trained head."""

    golden_name: str
    steps_name: str
    role: str
    task: Callable[[Golden], tuple[Any, Batch]]
    loss_name: str


TRAININGS = {
    "forward": Training(
        "d_train_qa",
        "h_steps_d",
        "answerer",
        lambda golden: answer_task(golden, trained_frames(golden)),
        "d_train_qa.loss",
    ),
    "refinement": Training("e_refine", "h_steps_e", "localizer", refine_task, "e_refine.loc.loss"),
    "pretraining": Training("f_fmr", "h_steps_f", "localizer", pretrain_task, "f_fmr.loss"),
}


def gradients(golden: Golden, name: str, head: Head, role: str) -> Iterator[Difference]:
    """Stored gradients, whole and as norms, of every parameter of the trained head.

    Of a key's bias the true gradient is zero (softmax does not feel it): only rounding is stored, and
    only its being next to nothing can be compared.
    """
    norms = golden.meta["grad_norms"][name]
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    ours = {head_name(n, role): p.grad for n, p in head.named_parameters()}
    yield equal("gradient names", sorted(ours), sorted(norms))
    whole, norm, vanishing = [], [], []
    for key, gradient in ours.items():
        theirs = golden.tensors.get(f"{name}.grad.{key}")
        if norms[key] < NOISE * total:
            vanishing.append(float(gradient.norm()) / total)
            continue
        norm.append(abs(float(gradient.norm()) / norms[key] - 1))
        if theirs is not None:
            whole.append(float((gradient.cpu() - theirs).abs().max() / theirs.abs().max()))
    yield Difference("gradients", largest(whole), golden.tolerances.gradients, relative=True)
    yield Difference("gradient norms", largest(norm), golden.tolerances.gradients, relative=True)
    yield Difference("vanishing gradients", largest(vanishing), golden.tolerances.vanishing, relative=True)


def training(golden: Golden, name: str) -> Iterator[Difference]:
    """The task's loss and all its gradients; nothing but the trained head gets any."""
    made = TRAININGS[name]
    task, data = made.task(golden)
    loss, _ = task.loss(data)
    loss.backward()
    yield compared("loss", loss.detach(), golden.tensors[made.loss_name], golden.tolerances.losses)
    trained = {id(p) for p in task.head.parameters()}
    others = sum(p.grad is not None for p in task.model.parameters() if id(p) not in trained)
    yield equal("gradients elsewhere", others, 0)
    yield from gradients(golden, made.golden_name, task.head, made.role)


def steps(golden: Golden, name: str) -> Iterator[Difference]:
    """Three AdamW steps on one batch: the losses, and how far every parameter went."""
    made = TRAININGS[name]
    theirs = golden.meta["summary"][made.steps_name]
    task, data = made.task(golden)
    optimizer = adamw(task.head, theirs["wd"])
    for group in optimizer.param_groups:
        group["lr"] = theirs["lr"]
    before = {n: p.detach().clone() for n, p in task.head.named_parameters()}
    losses = []
    for _ in theirs["losses"]:
        loss, _ = task.loss(data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found, expected = (torch.tensor(values, dtype=torch.float64) for values in (losses, theirs["losses"]))
    yield compared("losses", found, expected, golden.tolerances.losses_of_steps)
    decay = {id(p) for p in optimizer.param_groups[0]["params"]}
    groups = golden.meta["opt_groups"][made.steps_name]
    ours = {head_name(n, made.role): id(p) in decay for n, p in task.head.named_parameters()}
    yield equal("decay", ours, {key: key in groups["wd"] for key in ours})
    norms, moved = golden.meta["param_delta_norm_after_3_steps"][made.steps_name], []
    first = golden.meta["grad_norms"][made.golden_name]
    total = sum(norm**2 for norm in first.values()) ** 0.5
    for n, p in task.head.named_parameters():
        key = head_name(n, made.role)
        if first[key] >= NOISE * total:  # elsewhere Adam makes full steps of rounding errors
            moved.append(abs(float((p.detach() - before[n]).norm()) / norms[key] - 1))
    yield Difference("parameter steps", largest(moved), golden.tolerances.steps, relative=True)


def uniform(golden: Golden, name: str) -> Iterator[Difference]:
    """Fine-tuning on all frames: concatenated, or each alone behind "Frame: " with its own target."""
    head, texts, answers = golden.model().answerer, golden.prompts.answers, golden.answers
    if name == "d2_train_qa_uniform_vid":
        loss = head.loss(golden.patches, texts, answers)
    else:
        soft = head.head(golden.patches).flatten(0, 1)[:, None]
        embeds, mask = golden.backbone.assemble(soft, repeated(texts, golden.frames), numbered=False)
        targets = repeated(golden.meta["inputs"]["qa_output"], golden.frames)
        loss = golden.backbone.answer_loss(embeds, mask, targets)
    loss.backward()
    yield compared("loss", loss.detach(), golden.tensors[f"{name}.loss"], golden.tolerances.losses)
    yield from gradients(golden, name, head.head, "answerer")
