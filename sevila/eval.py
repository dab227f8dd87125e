"""python -m sevila.eval +exp=NAME: answer every question of a split, measure accuracy and keyframes.

`task.name=answer` reads the keyframes together, `vote` lets every keyframe vote, `moments` finds the moments of a
query from what the Localizer says of each frame.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevila import schema
from sevila.cli import loading
from sevila.errors import UserError
from sevila.hydra_main import main

if TYPE_CHECKING:
    from sevila.benchmarks.base import Benchmark
    from sevila.data.records import Question
    from sevila.report.page import Block
    from sevila.run_folder import RunFolder
    from sevila.tasks.chain import Answering
    from sevila.tasks.evaluation import Judged


def run(config: schema.Eval) -> dict[str, Any]:
    """Evaluate; returns what metrics.json holds."""
    with loading("PyTorch and transformers"):
        from sevila import build
    with build.computing(config):
        return schema.named("task", config.task, {"answer": answer, "vote": vote, "moments": moments}, config=config)


def answer(config: schema.Eval) -> dict[str, Any]:
    """The forward chain, as published."""
    from sevila.tasks.chain import Joint

    return _questions(config, Joint())


def vote(config: schema.Eval) -> dict[str, Any]:
    """The baseline "voting", and how often any keyframe alone is right (`oracle_any_frame`)."""
    from sevila.tasks.chain import Voting

    return _questions(config, Voting())


def moments(config: schema.Eval, spans: dict[str, Any] | None = None) -> dict[str, Any]:
    """Moment retrieval: windows from what the Localizer says of each frame (the paper's table 4).

    spans   the rule that joins frames to windows: `binary`, the paper's, or `minmax`, and its parameters
    """
    from sevila import build
    from sevila.benchmarks.spans import SPANS
    from sevila.examples import moment_examples
    from sevila.processes import from_main
    from sevila.tasks.evaluation import Retrieval, by_processes, moment_metrics, retrieve

    # check
    rule = schema.named("task.spans", spans or {"name": "binary"}, SPANS)
    accelerator = build.accelerator(config)
    with build.run_folder(config) as folder:
        from_main(lambda: _check_outputs(config, export=False))
        # model and data
        build.check_choices(config)
        model = build.model(config, accelerator.device)
        data = build.benchmark(config)
        queries = data.moments(config.split)
        if config.submission:
            data.check_complete(())
        source = build.source(config, model, data)
        build.start_run(config, folder, data, accelerator)
        # evaluate: each process its videos, one process the numbers
        found = by_processes(queries, lambda own: retrieve(model, source, own, rule), Retrieval)
        metrics = moment_metrics(found)
        if not accelerator.is_main_process:
            return metrics
        # write
        rows = [retrieval.to_json() for retrieval in found]
        metrics = _finish(config, folder, data, metrics, rows, moment_examples(queries, rows, data.folder()))
        if config.submission:
            _say(data.write_submission(Path(config.submission), queries, rows))
        return metrics


def _questions(config: schema.Eval, answering: Answering) -> dict[str, Any]:
    from sevila import build
    from sevila.processes import from_main
    from sevila.tasks.evaluation import Judged, benchmark_metrics, by_processes, judged

    # check
    accelerator = build.accelerator(config)
    if config.compare_scoring and accelerator.num_processes > 1:
        raise UserError("compare_scoring=true: counts in one process; leave it out, or start one")
    with build.run_folder(config) as folder:
        from_main(lambda: _check_outputs(config))
        # model, data, chain
        build.selector(config.selector, config.frames.n)
        build.check_choices(config)
        model = build.model(config, accelerator.device)
        comparison = build.compare_scoring(model) if config.compare_scoring else None
        data = build.benchmark(config)
        questions = data.questions(config.split)
        if config.submission:
            data.check_complete(questions)
        chain = build.chain(config, model, data, answering)
        build.start_run(config, folder, data, accelerator)
        # evaluate: each process its videos, one process the numbers; what is predicted lies on the disk
        folder.unfinished.mkdir(exist_ok=True)
        kept = None if comparison else folder.unfinished  # a comparison counts as it goes
        found = by_processes(
            questions,
            lambda own: judged(chain.answers(own, "questions by video", keep=kept), folder.unfinished),
            Judged,
        )
        metrics = benchmark_metrics(data.name, [each.prediction for each in found])
        if not accelerator.is_main_process:
            return metrics
        if comparison is not None:
            metrics["scoring_agreement"] = comparison.agreement
        # write
        build.warn_of_truncation(model)
        return _write(config, folder, data, questions, found, metrics)


def _write(
    config: schema.Eval,
    folder: RunFolder,
    data: Benchmark,
    questions: Sequence[Question],
    found: Sequence[Judged],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """What is left of predictions: those of the run folder, a submission, keyframes; gives the metrics."""
    from sevila.benchmarks.predictions import write_keyframes
    from sevila.examples import examples
    from sevila.tasks.evaluation import Lines

    with Lines(folder.unfinished, found) as rows:
        metrics = _finish(config, folder, data, metrics, rows, examples(questions, rows, data.folder()))
        if config.submission:
            needed = [{key: row[key] for key in row if key != "frames"} for row in rows]
            _say(data.write_submission(Path(config.submission), questions, needed))
        if config.export:
            write_keyframes(config.export, rows)
            print(f"written: {config.export} (frame_time: seconds since a video's first frame)")
    # nobody reads there any more: a network's file system keeps what is removed while it is open
    shutil.rmtree(folder.unfinished, ignore_errors=True)
    return metrics


def _check_outputs(config: schema.Eval, export: bool = True) -> None:
    """UserError for a file that could not be written at the end, before anything slow begins."""
    from sevila.benchmarks import BENCHMARKS
    from sevila.files import check_other, check_place
    from sevila.run_folder import check_not_of_data, check_not_of_run

    inputs = _inputs(config)
    for key, given in (("submission", config.submission), ("export", config.export)):
        if given:
            check_place(key, given)
        for file in _written(config, key, given) if given else ():
            check_other(key, file, inputs)
            check_not_of_run(key, file, config.run_dir)
            check_not_of_data(key, file, config.data)
    if config.submission and config.export and Path(config.submission).resolve() == Path(config.export).resolve():
        raise UserError(f"export={config.export}: is the submission too; name another file")
    if config.submission and config.data["name"] in BENCHMARKS:
        BENCHMARKS[config.data["name"]].check_submission(Path(config.submission))
    if config.export and not export:
        raise UserError(f"export={config.export}: moment queries have no keyframes; leave it out")
    if config.compare_scoring and not export:
        raise UserError("compare_scoring=true: moment queries have no options; leave it out")
    if config.export and Path(config.export).suffix != ".json":
        raise UserError(f"export={config.export}: expected a name that ends in .json")


def _written(config: schema.Eval, key: str, given: str) -> list[Path]:
    """The files that will be written; some submissions are several."""
    from sevila.benchmarks import BENCHMARKS

    benchmark = BENCHMARKS.get(config.data["name"])
    return benchmark.submission_files(Path(given)) if key == "submission" and benchmark else [Path(given)]


def _inputs(config: schema.Eval) -> dict[str, str]:
    """The files that the configuration names as inputs."""
    inputs = {"localizer": config.localizer, "answerer": config.answerer}
    for group in ("data", "selector", "scorer", "vision"):
        node = getattr(config, group)
        inputs |= {f"{group}.{key}": value for key, value in node.items() if isinstance(value, str)}
    return inputs


def _finish(
    config: schema.Eval,
    folder: RunFolder,
    data: Benchmark,
    metrics: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    shown: Sequence[Block] = (),
) -> dict[str, Any]:
    """Print the numbers, and write what a run folder holds at its end; they are true where it cannot be written."""
    from sevila.files import read_json
    from sevila.report.run_page import print_metrics, run_page
    from sevila.run_folder import ENVIRONMENT

    if data.dropped:
        metrics = {**metrics, "dropped": len(data.dropped)}
    print_metrics(metrics)
    print(f"run folder: {folder.path}")
    folder.write_predictions(rows)
    folder.write_metrics(metrics)
    run_page(folder.path, asdict(config), read_json(folder.path / ENVIRONMENT), metrics, examples=shown)
    return metrics


def _say(files: Sequence[Path]) -> None:
    for file in files:
        print(f"written: {file}")


def cli(argv: Sequence[str] | None = None) -> int:
    return main("eval", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
