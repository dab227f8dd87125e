"""A training run: what `train` and `refine` share, from a checked configuration to the head in its folder."""

from __future__ import annotations

import importlib
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from torch import nn

from sevila import build, schema
from sevila.benchmarks.base import Benchmark
from sevila.checkpoints.heads import save_head
from sevila.data.dataset import Batch, FrameDataset, Record
from sevila.data.loading import Loader
from sevila.data.records import Question
from sevila.data.sampling import EvaluationFrames, FrameKey, RecurringFrames, TrainingFrames, epoch_keys
from sevila.data.store_files import row_key
from sevila.errors import UserError, reason, suggest
from sevila.files import read_json, read_jsonl, read_text, sealed, unsealed, write_jsonl, write_text
from sevila.model.sevila import SeViLA
from sevila.processes import check_same, from_main
from sevila.report.run_page import print_metrics, run_page
from sevila.run_folder import ENVIRONMENT, KEYFRAMES, LABELS, LOG, RunFolder
from sevila.schema import Wandb
from sevila.tasks.chain import ForwardChain
from sevila.tasks.evaluation import by_processes
from sevila.tasks.refine import PseudoLabels, make_pseudo_labels
from sevila.training import checkpoint
from sevila.training.loop import Log, train
from sevila.training.optim import TrainOptions, build_schedule
from sevila.training.task import Task

T = TypeVar("T")


class Batches:
    """The micro-batches of an epoch for one of several processes; every process has as many as the others.

    Its workers stay over all epochs, until `loader` is closed: what is random about an item follows from its key.
    """

    def __init__(self, dataset: FrameDataset, config: schema.Train | schema.Refine, accelerator: Accelerator) -> None:
        self.dataset, self.seed = dataset, config.seed
        self.loader = Loader(dataset, config.frames.workers, pin=accelerator.device.type == "cuda")
        self.size = config.trainer.batch_size
        self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        whole = self.size * self.processes
        # one process takes a last, smaller batch too; several drop it, so that none waits for the others
        self.count = math.ceil(len(dataset) / whole) if self.processes == 1 else len(dataset) // whole

    def __call__(self, epoch: int, skip: int) -> Iterable[Batch]:
        whole = self.size * self.processes
        keys = epoch_keys(len(self.dataset), self.seed, epoch)
        mine: list[list[FrameKey]] = []
        for step in range(skip, self.count):
            start = step * whole + self.rank * self.size
            mine.append(keys[start : start + self.size])
        return self.loader(mine)


@dataclass(frozen=True)
class TrainingRun:
    """All that a training needs, checked before anything is written: `start` makes the run folder.

    folder   where it writes; its own until the end of `training_run`'s block
    data     the benchmark
    chain    the forward chain of `model` over the benchmark's videos, with the configured selector
    """

    config: schema.Train | schema.Refine
    folder: RunFolder
    accelerator: Accelerator
    model: SeViLA
    data: Benchmark
    chain: ForwardChain

    # --- before the start ---

    @staticmethod
    def check_frames(frames: int) -> None:
        """UserError for a number of training frames that cannot be drawn."""
        if frames < 1:
            raise UserError(f"task.frames={frames}: must be at least 1")

    def metric(self, known: Sequence[str]) -> str:
        """What the best head is chosen by: `trainer.best`, by default the first of what the validation gives.

        UserError for what it does not give.
        """
        best = self.config.trainer.best
        if best is not None and best not in known:
            raise UserError(
                f"trainer.best={best}: unknown{suggest(best, known)}; this validation gives: {', '.join(known)}"
            )
        return best or known[0]

    def dataset(
        self,
        records: Sequence[Record],
        rule: EvaluationFrames | TrainingFrames,
        fixed_indices: Mapping[str, Sequence[int]] | None = None,
    ) -> FrameDataset:
        """Records with the frames that a rule takes; what is random about them comes again after store.views epochs."""
        views = self.config.store.views
        if views is not None and isinstance(rule, TrainingFrames):
            return self.chain.source.dataset(records, RecurringFrames(rule, views), fixed_indices)
        return self.chain.source.dataset(records, rule, fixed_indices)

    def start(self) -> None:
        build.start_run(self.config, self.folder, self.data, self.accelerator)

    # --- what frozen parts give for all training questions: made once, kept in the run folder ---

    def keyframes(self, questions: Sequence[Question]) -> dict[str, tuple[int, ...]]:
        """Frame numbers of the keyframes that the frozen selection takes, qid by qid; kept in keyframes.jsonl."""

        def make(own: Sequence[Question]) -> list[dict[str, Any]]:
            chosen = self.chain.choose(own, label="keyframes")
            return [{"qid": c.question.qid, "indices": [c.frames[i].index for i in c.keyframes]} for c in chosen]

        chosen = self._made_once(self.folder.path / KEYFRAMES, questions, make, _frame_numbers)
        return {question.qid: indices for question, indices in zip(questions, chosen, strict=True)}

    def pseudo_labels(self, questions: Sequence[Question], orders: int) -> list[PseudoLabels]:
        """The frozen Answerer's labels, in the questions' order; made once and kept in pseudo_labels.jsonl."""

        def make(own: Sequence[Question]) -> list[dict[str, Any]]:
            return [label.to_json() for label in make_pseudo_labels(self.model, self.chain.source, own, orders)]

        return self._made_once(self.folder.path / LABELS, questions, make, PseudoLabels.from_json)

    def _made_once(
        self,
        path: Path,
        questions: Sequence[Question],
        make: Callable[[Sequence[Question]], list[dict[str, Any]]],
        parse: Callable[[dict[str, Any]], T],
    ) -> list[T]:
        """A file's rows, one a question, in their order; each of several processes makes those of its videos.

        Every row has a checksum. UserError for a file that an earlier start made and that is not as it was.
        """
        if not from_main(path.exists):
            rows = by_processes(questions, make)
            from_main(lambda: write_jsonl(path, map(sealed, rows)))
        again = "remove the file, and resume=true makes it again"

        def read() -> list[dict[str, Any]]:
            try:
                return read_jsonl(path)
            except UserError as error:
                raise UserError(f"{error}; {again}") from None

        rows = from_main(read)
        if [row.get("qid") for row in rows] != [question.qid for question in questions]:
            raise UserError(f"{path}: its {len(rows)} rows are not those of the {len(questions)} questions; {again}")
        parsed = []
        for row in rows:
            try:
                parsed.append(parse(unsealed(row)))
            except (KeyError, TypeError, ValueError):
                raise UserError(f"{path}: the row of question {row['qid']} is damaged; {again}") from None
        return parsed

    # --- the training itself ---

    def fit(
        self, task: Task, dataset: FrameDataset, metric: str, role: str, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Train `task.head` on `dataset`; leave the best head in ROLE.safetensors, its metrics in metrics.json.

        `extra` are further numbers for metrics.json. Returns what metrics.json holds.
        """
        config, folder, accelerator = self.config, self.folder, self.accelerator
        # all of BLIP-2 is frozen, and so is the other head
        self.model.requires_grad_(False)
        task.head.requires_grad_(True)
        batches = Batches(dataset, config, accelerator)
        if batches.count < 1:
            raise UserError(f"{len(dataset)} training items make no batch of {config.trainer.batch_size} a process")
        known = row_key([record.qid for record in dataset.records])[:12]
        check_same({"the training items": f"{len(dataset)}, {known}"})
        options = TrainOptions.of(config.trainer, batches.count, metric, config.seed, config.exp)
        if folder.resumed:
            from_main(self._rewind)
        with batches.loader, tracking(accelerator, folder.path, config.wandb, asdict(config)) as track:

            def log(record: dict[str, Any]) -> None:
                folder.log(record)
                track(record)

            state = train(
                task, batches, batches.count, options, folder.checkpoints, log,
                accelerator=accelerator, resume=folder.resumed,
            )  # fmt: skip
        metrics = {**state.best_metrics, **(extra or {}), "step": state.best_step}
        from_main(lambda: self._write(task.head, role, metrics))
        return metrics

    def _rewind(self) -> None:
        """Bring metrics.jsonl back to the checkpoint that the run goes on from."""
        known = self.folder.checkpoints
        self.folder.rewind(checkpoint.last_step(known), checkpoint.last_evaluated(known))

    def _write(self, head: nn.Module, role: str, metrics: Mapping[str, Any]) -> None:
        """Put the best weights into the head, and write what a run folder holds at its end."""
        config, folder = self.config, self.folder
        best = checkpoint.find(folder.checkpoints, "best")
        if best is None:
            raise UserError(f"{folder.checkpoints}: its best checkpoint is gone; start a new run")
        checkpoint.load_head(best, head)
        print_metrics(metrics)  # first: these numbers are true, whether anything can be written or not
        print(f"run folder: {folder.path}")
        origin = {name: getattr(config, name) for name in ("exp", "seed", "localizer", "answerer", "data", "selector")}
        origin["step"] = metrics["step"]
        save_head(folder.path / f"{role}.safetensors", head, self.model.backbone, role, origin)
        folder.write_metrics(metrics)
        environment, records = read_json(folder.path / ENVIRONMENT), read_jsonl(folder.path / LOG)
        run_page(folder.path, asdict(config), environment, metrics, records)
        build.warn_of_truncation(self.model)


def _frame_numbers(row: Mapping[str, Any]) -> tuple[int, ...]:
    """A row's keyframes. ValueError where they are none."""
    indices = row["indices"]
    if not isinstance(indices, list) or not indices or not all(type(index) is int and index >= 0 for index in indices):
        raise ValueError("no frame numbers")
    return tuple(indices)


@contextmanager
def training_run(config: schema.Train | schema.Refine) -> Iterator[TrainingRun]:
    """Check and build everything; nothing is written yet (but the synthetic world is drawn if it is not there)."""
    accelerator = build.accelerator(config)
    with build.computing(config), build.run_folder(config) as folder:
        # what is wrong is said before the model is loaded
        build.selector(config.selector, config.frames.n)
        build.check_choices(config)
        build_schedule(config.trainer, total_steps=1)
        check_wandb(config.wandb)
        model = build.model(config, accelerator.device)
        data = build.benchmark(config)
        yield TrainingRun(config, folder, accelerator, model, data, build.chain(config, model, data))


# -- Weights & Biases, through accelerate's tracker: it gets what the run's own metrics.jsonl gets ---


def check_wandb(options: Wandb) -> None:
    """UserError, before a run folder is made, for what wandb would refuse: its absence, a name, a missing key."""
    if options.mode == "disabled":
        return
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(f"wandb.mode={options.mode}: wandb is not installed; pip install wandb") from error
    wrong = sorted(set(options.project) & set("/\\#?%:"))
    if wrong or not 1 <= len(options.project) <= 128:
        raise UserError(f"wandb.project={options.project}: 1 to 128 characters, none of them / \\ # ? % :")
    if options.mode == "online" and not _one_line(options.mode, lambda: wandb.api.api_key):
        raise UserError("wandb.mode=online: nobody is logged in; run `wandb login`, or give wandb.mode=offline")


@contextmanager
def tracking(accelerator: Accelerator, folder: Path, options: Wandb, config: Mapping[str, Any]) -> Iterator[Log]:
    """Yield what takes log records, on the main process; where wandb is disabled, nobody gets them.

    A resumed run goes on under its id, which is kept in `folder/wandb_id`. UserError for what wandb refuses.
    """

    def begin() -> None:
        settings: dict[str, Any] = {"mode": options.mode, "name": options.name or folder.name, "dir": str(folder)}
        settings |= {"id": _id(folder / "wandb_id"), "resume": "allow", "config": dict(config)}
        accelerator.log_with = ["wandb"]
        _one_line(options.mode, lambda: accelerator.init_trackers(options.project, init_kwargs={"wandb": settings}))

    if options.mode != "disabled":
        from_main(begin)

    def log(record: dict[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if key != "step"}
        _one_line(options.mode, lambda: accelerator.log(numbers, step=record["step"]))

    try:
        yield log
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _id(file: Path) -> str:
    if not file.is_file():
        write_text(file, uuid.uuid4().hex[:8] + "\n")
    id = read_text(file).strip()
    if not re.fullmatch("[0-9a-f]{8}", id):
        raise UserError(f"{file}: is empty or damaged; remove it, and the run goes on as another one of wandb's")
    return id


def _one_line(mode: str, ask: Callable[[], T]) -> T:
    """What wandb answers; a UserError of one line where it raises something of its own."""
    try:
        return ask()
    except OSError:  # the machine's, not wandb's
        raise
    except Exception as error:
        raise UserError(f"wandb.mode={mode}: {reason(error)}; wandb.mode=disabled goes without it") from error
