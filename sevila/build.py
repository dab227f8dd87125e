"""From a checked configuration to objects: the one place, beside the entry points, that sees configurations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from sevila import schema
from sevila.benchmarks import BENCHMARKS
from sevila.benchmarks.base import Benchmark
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import warn_of_tiny
from sevila.checkpoints.heads import ZEROSHOT, find_head, load_head
from sevila.checkpoints.timm import VISION
from sevila.cli import loading
from sevila.data.dataset import VideoSource
from sevila.data.decoders import decoder_for
from sevila.data.store import Store
from sevila.data.transforms import transform_digest
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.model.digest import digest
from sevila.model.language import ANSWER_DECODINGS, Compared, Direct, Official
from sevila.model.pixels import normalize
from sevila.model.precision import DTYPES, PRECISIONS, arithmetic, fast_dtype, warn_if_slow
from sevila.model.prompts import PROMPTS, Prompts
from sevila.model.sevila import SeViLA
from sevila.processes import check_same, from_main, together
from sevila.run_folder import RunFolder, settings
from sevila.selection import SCORERS, SELECTORS, build_scorer
from sevila.selection.scorers import Scorer
from sevila.tasks.chain import Answering, ForwardChain, Joint
from sevila.training.device import make_accelerator, on_processors

MIB = 2**20

Config = TypeVar("Config", bound=schema.Base)


def resolved(config: Config) -> Config:
    """The configuration with the precision that `auto` takes on its device.

    A run's folder holds this one: it says what was computed in, and to go on in another precision is refused.
    """
    if config.precision != "auto":
        return config
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and not on_processors() else "cpu"
    dtype = fast_dtype(device)
    return replace(config, precision=next(name for name, known in DTYPES.items() if known == dtype))


def accelerator(config: schema.Base) -> Accelerator:
    """Device and precision of the run."""
    return make_accelerator(config.device, resolved(config).precision)


def computing(config: schema.Base) -> AbstractContextManager[None]:
    """Around a run: torch's settings of the process as the configuration says; afterwards they are as before."""
    return arithmetic(config.tf32, config.deterministic)


def tell_precision(config: schema.Base) -> None:
    """Say on stderr what `precision=auto` takes; once all is checked, so that a refusal stays one line."""
    if config.precision == "auto":
        print(f"sevila: precision=auto takes {resolved(config).precision} here", file=sys.stderr)


@contextmanager
def run_folder(config: schema.Experiment) -> Iterator[RunFolder]:
    """The run's folder, which the first of several processes chooses and checks, and the end of a run for all of them.

    UserError where these were not asked for the same.
    """

    def find() -> tuple[str, bool, bool]:
        found = RunFolder.create(config.run_dir, config.exp, config.resume)
        return str(found.path), found.resumed, found.free

    with together():
        check_same({"run_dir": config.run_dir, **settings(asdict(resolved(config)))})
        path, resumed, free = from_main(find)
        with RunFolder(Path(path), resumed, free) as folder:
            yield folder


def start_run(config: schema.Experiment, folder: RunFolder, data: Benchmark, accelerator: Accelerator) -> None:
    """Make the run folder, once for all processes: without run_dir its name is the time, and the first to make it.

    UserError where another process does not see it.
    """

    def start() -> tuple[str, str]:
        folder.start(resolved(config), str(accelerator.device))
        tell_precision(config)
        if data.name != "synthetic":
            warn_of_tiny(config.model.source, "model=blip2_flan_t5_xl")
        folder.write_dropped(data.dropped)
        if not folder.resumed:
            print(f"sevila: the run folder is {folder.path}", file=sys.stderr)
        return str(folder.path), folder.mark()

    path, mark = from_main(start)
    folder.path = Path(path)
    folder.check_shared(mark, accelerator.process_index)


def check_choices(config: schema.Experiment) -> None:
    """UserError for a choice's key or value that its class does not take, before anything slow begins.

    The selector is not among them (`selector`): moment retrieval has none.
    """
    schema.check_named("data", config.data, BENCHMARKS)
    schema.check_named("vision", config.vision, VISION)
    schema.check_named("scorer", config.scorer, SCORERS, "sevila")
    schema.check_named("scoring", config.scoring, ANSWER_DECODINGS)
    if config.prompts["name"] != "benchmark":  # whose wording is the data set's
        schema.check_named("prompts", config.prompts, PROMPTS)


def check_heads(config: schema.Base) -> None:
    """UserError for a head that is not there, before anything slow begins."""
    for role in ("localizer", "answerer"):
        place = getattr(config, role)
        if place != ZEROSHOT:
            find_head(place, role)


def model(config: schema.Base, device: torch.device) -> SeViLA:
    """The frozen backbone and the two heads that `localizer` and `answerer` name."""
    check_heads(config)
    precision = PRECISIONS[resolved(config).precision]
    warn_if_slow(precision.language, device)
    if config.model.weights == "random":
        print("sevila: warning: model.weights=random: good for measuring; its answers mean nothing", file=sys.stderr)
    with loading(f"the model {config.model.source}"):
        backbone = backbones.load(
            config.model.source,
            device,
            precision.language,
            text_tokens=config.model.max_text_tokens,
            weights=backbones.WEIGHTS[config.model.weights](),
            tokenizer=config.model.tokenizer,
            vision=schema.named("vision", config.vision, VISION),
            checkpointing=config.model.checkpointing,
            tokens=config.model.tokens,
            half_tower=precision.half_tower,
        )
    size = config.model.image_size
    if size is not None and size < backbone.tower.patch:
        raise UserError(
            f"model.image_size={size}: smaller than a patch, which has {backbone.tower.patch} pixels a side"
        )
    if config.model.compiled:
        backbone.compile_tower()
    return SeViLA(
        backbone,
        load_head(config.localizer, "localizer", backbone),
        load_head(config.answerer, "answerer", backbone),
        schema.named("scoring", config.scoring, ANSWER_DECODINGS),
    )


def benchmark(config: schema.Experiment) -> Benchmark:
    """The data set; the synthetic world is drawn now if it is not there yet."""
    return schema.named("data", config.data, BENCHMARKS)


def selector(node: dict[str, Any], frames: int) -> Any:
    """The selector, once it is known that its k fits the number of sampled frames."""
    made = schema.named("selector", node, SELECTORS)
    if made.k > frames:
        raise UserError(f"selector.k={made.k}: only frames.n={frames} frames are sampled; choose k at most that")
    return made


def videos(config: schema.Experiment, sevila: SeViLA) -> CachedVideos:
    """The decoder at the model's picture size."""
    size = config.model.image_size or sevila.backbone.image_size
    decoder = decoder_for(config.frames.decoder, config.frames.workers)
    return CachedVideos(size, config.frames.cache_mb * MIB, decoder)


def source(config: schema.Experiment, sevila: SeViLA, data: Benchmark, scorer: Scorer | None = None) -> VideoSource:
    """The data set's videos, frames.n frames of each, for whoever scores them."""
    decoded = videos(config, sevila)
    kept = store(config.store, sevila.backbone, decoded)
    pictures = scorer is not None and scorer.needs_pictures
    pin = sevila.backbone.device.type == "cuda"
    return VideoSource(decoded, data.folder(), config.frames.n, config.frames.workers, kept, pictures, pin)


def store(config: schema.Store, backbone: backbones.Backbone, decoded: CachedVideos) -> Store | None:
    """Where patches are kept: only those that this backbone would make of these decoder's pictures are found there."""
    if config.folder is None:
        return None
    maker = {
        "tower": digest(backbone.vision),
        "compiled": str(backbone.compiled),  # rounds differently
        "device": backbone.device.type,  # rounds differently
        "size": str(decoded.size),
        "decoder": type(decoded.decoder).__name__,
        "transform": transform_digest(decoded.size, normalize),
    }
    rest = None if config.dtype is None else DTYPES[config.dtype]
    limit = None if config.max_gb is None else int(config.max_gb * 10**9)
    return Store(Path(config.folder), maker, backbone.patches_dtype, rest, limit, {"backbone": backbone.source})


def prompts(config: schema.Experiment, data: Benchmark) -> Prompts:
    """The wording that the configuration names; `benchmark` is the data set's own."""
    node = config.prompts
    if node["name"] == "benchmark":
        node = {**node, "name": data.prompts}
    return schema.named("prompts", node, PROMPTS)


def chain(
    config: schema.Experiment, sevila: SeViLA, data: Benchmark, answering: Answering | None = None
) -> ForwardChain:
    """The forward chain over the data set's videos, in the wording that the configuration names."""
    sevila.prompts = prompts(config, data)
    chosen = selector(config.selector, config.frames.n)
    scorer = build_scorer(config.scorer, sevila) if chosen.needs_scores else None
    return ForwardChain(sevila, chosen, source(config, sevila, data, scorer), scorer, answering or Joint())


def compare_scoring(sevila: SeViLA) -> Compared:
    """Let the model's Answerer count how often the other of `direct` and `official` prefers the same letter."""
    decoding = sevila.answerer.decoding
    compared = Compared(decoding, Official() if isinstance(decoding, Direct) else Direct())
    sevila.answerer.decoding = compared
    return compared


def warn_of_truncation(sevila: SeViLA) -> None:
    """Say on stderr how many prompts were too long: what they lose is their end, where the instruction stands."""
    cut = len(sevila.backbone.truncated)
    if cut:
        limit = sevila.backbone.text_tokens
        print(
            f"sevila: warning: {cut} prompts were cut after {limit} tokens and lost their instruction; "
            f"model.max_text_tokens={2 * limit} would keep more",
            file=sys.stderr,
        )
