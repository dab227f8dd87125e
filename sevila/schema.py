"""The keys a configuration may hold: one dataclass a group, one an entry point.

A field says its type, its default, what it is for and which values make sense; `sevila.config` checks a
composed configuration against it, and `--help` prints it. Nodes whose `name` picks a class (data, selector,
scoring, the task, the schedule) are plain dicts here: what such a class takes is checked by `named`.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import MISSING

from sevila.errors import UserError, suggest
from sevila.files import HALF_CHARACTER, HALF_CHARACTER_FAULT, home

T = TypeVar("T")
IN_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
PATHS = {  # the fields that hold a path, and the dicts whose texts are paths: `~` is the home folder in them
    "source", "tokenizer", "vision", "folder", "localizer", "answerer", "run_dir", "data", "selector", "scorer",
    "submission", "export",
}  # fmt: skip
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}


def option(
    help: str,
    default: Any = MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    pattern: str | None = None,
    named: bool = False,
) -> Any:
    """A field: what it is for, its default (required without one), the numbers or strings it takes.

    `named` marks a dict that must hold a `name`.
    """
    metadata = {"help": help, "least": least, "above": above, "pattern": pattern, "named": named}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Model:
    source: str = option("tiny, a Hub id, or a folder in transformers' BLIP-2 format")
    image_size: int | None = option("side of a frame in pixels; null: the backbone's own", None, least=1)
    max_text_tokens: int = option("a prompt's text is cut after this many tokens", 77, least=1)
    weights: str = option("pretrained or random (noise, to measure)", "pretrained", pattern="pretrained|random")
    tokenizer: str | None = option("folder or Hub id of its tokenizer; null: that of source", None)
    tokens: int = option("memory: rows x tokens in one pass of the tower or language model", 16384, least=1)
    compiled: bool = option("torch.compile for the vision tower: faster after a first slow pass", False)
    checkpointing: bool = option("activation checkpointing: trainings need less memory and more time", False)


@dataclass
class Frames:
    n: int = option("frames sampled from each video", 32, least=1)
    workers: int = option("processes that decode videos; 0: the main one", 0, least=0)
    decoder: str = option("pyav, decord or torchcodec", "pyav", pattern="pyav|decord|torchcodec")
    cache_mb: int = option("memory for decoded frames, in MiB; 0: none", 512, least=0)


@dataclass
class Store:
    folder: str | None = option("keeps patches, keyframes and pseudo-labels, for all runs; null: nothing is kept", None)
    max_gb: float | None = option("stop adding patches when the folder has so many GB; null: no limit", None, above=0)
    dtype: str | None = option("bf16: half the size, patches rounded; null: as computed", None, pattern="bf16")
    views: int | None = option(
        "training frames and crops recur after so many epochs, stored or not; null: no", None, least=1
    )

    def __post_init__(self) -> None:
        if self.folder is None and self.dtype is not None:
            raise UserError(f"store.dtype={self.dtype}: nothing is stored; give store.folder=FOLDER")


@dataclass
class Trainer:
    batch_size: int = option("videos in a batch of one process", 16, least=1)
    accumulate: int = option("batches in an optimiser step", 1, least=1)
    carry_over: bool = option("batches left at an epoch's end go into the next one's first step, as published", False)
    epochs: int = option("passes over the training set", 10, least=1)
    lr: float = option("learning rate at its peak", 3e-5, above=0)
    min_lr: float = option("learning rate at the end", 0.0, least=0)
    warmup_lr: float = option("learning rate at the start", 1e-8, least=0)
    warmup_steps: int = option("of linear warm-up, in optimiser steps (published: batches)", 1000, least=0)
    schedule: dict[str, Any] = option("course of the learning rate", {"name": "published"}, named=True)
    weight_decay: float = option("of matrices; norms and biases have none", 0.05, least=0)
    betas: list[float] = option("AdamW's", [0.9, 0.999])
    loss_divisor: float | None = option(
        "each batch's loss is divided by it; null: by the batches in the step, 1: their sum as published", None, above=0
    )
    max_steps: int | None = option("stop after so many optimiser steps, if earlier; null: epochs", None, least=1)
    clip_grad_norm: float | None = option("largest gradient norm; null: no clipping", None, above=0)
    eval_every: int | None = option("optimiser steps between evaluations; null: each epoch", None, least=1)
    save_every: int | None = option("optimiser steps between checkpoints; null: those of evaluations", None, least=1)
    log_every: int = option("optimiser steps between lines of metrics.jsonl", 10, least=1)
    best: str | None = option("validation metric that picks the best head; null: the benchmark's official one", None)

    def __post_init__(self) -> None:
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"trainer.betas={self.betas}: expected two numbers from 0 to below 1")


@dataclass
class Wandb:
    mode: str = option("disabled, offline or online", "disabled", pattern="disabled|offline|online")
    project: str = option("project on Weights & Biases", "sevila")
    name: str | None = option("name of the run there; null: the run folder's", None)


@dataclass
class Base:
    """What every entry point takes."""

    entry: str = option("the entry point that this configuration is for")
    device: str = option("auto, cpu, cuda or cuda:N", "auto", pattern=r"auto|cpu|cuda(:\d+)?")
    precision: str = option(
        "auto (bf16 where the device is fast in it, else fp32), fp32, bf16, published (tower fp16, T5 bf16) or fp64",
        "auto",
        pattern="auto|fp32|bf16|fp64|published",
    )
    tf32: bool = option("float32 products on CUDA from 10 bits of mantissa: faster, no longer float32's numbers", False)
    deterministic: bool = option("on CUDA the same bits in every run, or an error: slower", False)
    localizer: str = option("head of the Localizer: a run folder, head file, Hub id, or zeroshot", "zeroshot")
    answerer: str = option("head of the Answerer: a run folder, head file, Hub id, or zeroshot", "zeroshot")
    model: Model = option("the frozen backbone", Model)
    vision: dict[str, Any] = option("its vision tower: blip2 (the model's own) or timm", {"name": "blip2"}, named=True)
    scoring: dict[str, Any] = option("how option logits are read from the language model", {}, named=True)
    store: Store = option("what need not be computed again", Store)


@dataclass
class Experiment(Base):
    """What every entry point takes that works on a data set and leaves a run folder."""

    exp: str = option("name of the experiment; set by its file")
    seed: int = option("seed of a training; what else is random has its own, as selector.seed", 0, least=0)
    run_dir: str | None = option("the run's folder; null: runs/EXP/TIME", None)
    resume: bool = option("go on with the run that run_dir holds (its labels and keyframes: with store.folder)", False)
    data: dict[str, Any] = option("the data set", {}, named=True)
    selector: dict[str, Any] = option("which frames the Answerer sees", {}, named=True)
    scorer: dict[str, Any] = option("who scores the frames, for selectors that go by scores", {}, named=True)
    prompts: dict[str, Any] = option("what the Answerer and the Localizer are asked", {}, named=True)
    frames: Frames = option("sampling and decoding", Frames)
    wandb: Wandb = option("Weights & Biases", Wandb)


@dataclass
class Train(Experiment):
    """Train one head on a data set: the Localizer on moments, or the Answerer on chosen keyframes."""

    task: dict[str, Any] = option("what is trained: pretrain, answer, vote or select", {}, named=True)
    trainer: Trainer = option("optimisation", Trainer)


@dataclass
class Refine(Experiment):
    """Refine the Localizer on the frames that the frozen Answerer answers from rightly."""

    task: dict[str, Any] = option(
        "what is trained on: refine (the Answerer's labels), windows (true ones)", {}, named=True
    )
    trainer: Trainer = option("optimisation", Trainer)


@dataclass
class Eval(Experiment):
    """Answer every question of a split and measure accuracy and keyframes."""

    split: str = option("split of the data set", "test")
    task: dict[str, Any] = option("what is done: answer, vote (a frame at a time), moments", {}, named=True)
    compare_scoring: bool = option("count how often scoring=direct and scoring=official choose the same letter", False)
    submission: str | None = option("also write the predictions in the benchmark's own form, to this file", None)
    export: str | None = option("also write the keyframes for another model's evaluation, to this json", None)


ENTRIES: dict[str, type[Experiment]] = {"train": Train, "refine": Refine, "eval": Eval}


def nested(kind: Any) -> bool:
    """Whether a field of this type is a group of fields."""
    return isinstance(kind, type) and is_dataclass(kind)


def types(schema: type) -> dict[str, Any]:
    """Names of a schema's fields and their types, in order."""
    return get_type_hints(schema)


def check(config: Any, prefix: str = "") -> None:
    """UserError for the first value of a configuration that its field does not allow."""
    for item in fields(config):
        key, value, rule = prefix + item.name, getattr(config, item.name), item.metadata
        if is_dataclass(value):
            check(value, f"{key}.")
            continue
        _check_values(key, value)
        if value is None:
            continue
        if value == "":
            raise UserError(f"{key} is empty: give {key}=VALUE or leave it out")
        elif rule["named"] and not isinstance(value.get("name"), str):
            raise UserError(f"{key}.name has no value: say what {key} is to be")
        elif rule["pattern"] and not re.fullmatch(rule["pattern"], value):
            raise UserError(f"{key}={value}: expected {rule['help']}")
        elif rule["least"] is not None and not value >= rule["least"]:  # `not`: NaN fails too
            raise UserError(f"{key}={value}: must be at least {rule['least']}")
        elif rule["above"] is not None and not value > rule["above"]:
            raise UserError(f"{key}={value}: must be more than {rule['above']}")


def _check_values(key: str, value: Any) -> None:
    """UserError for what no key can mean, in lists and dicts too: NaN, infinity, giant numbers, half characters."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_values(f"{key}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            _check_values(key, inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"{key}={str(value)[:20]}...: must be a number below 2^63")
    elif isinstance(value, str) and HALF_CHARACTER.search(value):
        raise UserError(f"{key}={value}: {HALF_CHARACTER_FAULT}")


def expand_homes(config: Any) -> None:
    """Put the home folder in the place of `~` in all paths of a checked configuration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            expand_homes(value)
        elif item.name in PATHS and isinstance(value, str):
            setattr(config, item.name, home(value))
        elif item.name in PATHS and isinstance(value, dict):
            paths = {key: home(text) if isinstance(text, str) else text for key, text in value.items()}
            setattr(config, item.name, paths)


def to_yaml(config: Any) -> str:
    """A checked configuration as yaml, keys in the schema's order."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def named(group: str, node: Mapping[str, Any], classes: Mapping[str, Callable[..., T]], **given: Any) -> T:
    """Build what `node["name"]` names: its class, or function, called with the node's other keys and `given`.

    The one builder's step that all groups share: UserError for an unknown name, a key that the class does not
    take (as listed by its signature), a required one that is missing, or a value of a wrong type. `given` are
    arguments that the caller supplies; no configuration can set them.
    """
    check_named(group, node, classes, *given)
    return classes[node["name"]](**{key: value for key, value in node.items() if key != "name"}, **given)


def check_named(group: str, node: Mapping[str, Any], classes: Mapping[str, Callable[..., T]], *given: str) -> None:
    """What `named` refuses, before what is `given` is there."""
    params = {key: value for key, value in node.items() if key != "name"}
    name = str(node.get("name"))
    if name not in classes:
        choices = ", ".join(sorted(classes))
        raise UserError(f"{group}.name={name}: unknown{suggest(name, classes)}; choose from: {choices}")
    takes = {key: parameter for key, parameter in _parameters(classes[name]) if key not in given}
    for key, value in params.items():
        if key not in takes:
            listed = ", ".join(["name", *takes])
            raise UserError(f"unknown key '{group}.{key}'{suggest(key, takes)}; {group} {name} has: {listed}")
        _check_kind(f"{group}.{key}", value, takes[key].annotation)
    for key, parameter in takes.items():
        if key not in params and parameter.default is inspect.Parameter.empty:
            raise UserError(f"{group}.{key} has no value: {group} {name} needs it")


def _parameters(make: Callable[..., Any]) -> Iterator[tuple[str, inspect.Parameter]]:
    for name, parameter in inspect.signature(make).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            yield name, parameter


def _check_kind(key: str, value: Any, annotation: Any) -> None:
    """UserError where a value is none of the plain types that an annotation names; other annotations say nothing."""
    words = (annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")).split(" | ")
    kinds = [_PLAIN[word] for word in words if word in _PLAIN]
    if len(kinds) < len(words) or type(value) in kinds or (float in kinds and type(value) is int):
        return
    expected = " or ".join(IN_WORDS[kind] for kind in kinds)
    raise UserError(f"{key}={'null' if value is None else value}: expected {expected}")
