"""python -m sevila.eval +exp=NAME: answer every question of a split, measure accuracy and keyframes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sevila import schema
from sevila.cli import main


def run(config: schema.Eval) -> dict[str, Any]:
    """Evaluate; returns what metrics.json holds."""
    from sevila import build
    from sevila.examples import examples
    from sevila.report.metrics_table import print_metrics, run_page
    from sevila.run import RunFolder
    from sevila.tasks.chain import chain_metrics

    folder = RunFolder.create(config.run_dir, config.exp, config.resume)
    accelerator = build.accelerator(config)
    build.selector(config.selector, config.frames.n)
    model = build.model(config, accelerator.device)
    data = build.benchmark(config)
    questions = data.questions(config.split)
    chain = build.chain(config, model, data)
    folder.start(config, str(accelerator.device))
    predictions = chain.predict(questions, label="questions by video")
    metrics = chain_metrics(predictions)
    rows = [prediction.to_json() for prediction in predictions]
    folder.write_predictions(rows)
    folder.write_metrics(metrics)
    run_page(folder.path / "report.html", config.exp, metrics, [], examples(questions, rows, data.videos()))
    print_metrics(metrics)
    build.warn_of_truncation(model)
    print(f"run folder: {folder.path}")
    return metrics


def cli(argv: Sequence[str] | None = None) -> int:
    return main("eval", run, argv)


if __name__ == "__main__":
    raise SystemExit(cli())
