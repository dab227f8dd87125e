"""sevila score BENCHMARK --annotations FILE --predictions FILE: score predictions that are there already."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from sevila.cli import Parser, guarded
from sevila.errors import UserError
from sevila.files import check_other, check_place, home_path, write_json
from sevila.report.terminal import plain_table, printable

TEXT = """\
Score a file of predictions as the benchmark's own script does. FILE of predictions is predictions.jsonl of a run, a
result list of the official SeViLA code, or the benchmark's own submission.
"""
EXAMPLES = """\
examples:
  sevila score nextqa --annotations val.csv --predictions RUN/predictions.jsonl --out score.json
  sevila score nextgqa --annotations val.csv --segments gsub_val.json --spans spans.json --answers answers.json
"""
FILES = {
    "annotations": "the benchmark's annotation file",
    "predictions": "predictions.jsonl of a run, or the benchmark's own submission",
    "segments": "nextgqa: its gsub json",
    "spans": "nextgqa: json of spans; with --answers instead of --predictions",
    "answers": "nextgqa: json of answers; with --spans instead of --predictions",
}


def parser(names: Sequence[str]) -> Parser:
    options = Parser(
        prog="sevila score",
        usage="%(prog)s BENCHMARK --annotations FILE --predictions FILE [options]",
        description=TEXT,
        epilog=EXAMPLES,
    )
    options.add_argument("benchmark", metavar="BENCHMARK", choices=names, help=", ".join(names))
    for key, text in FILES.items():
        options.add_argument(f"--{key}", metavar="FILE", type=home_path, required=key == "annotations", help=text)
    options.add_argument("--normalised", action="store_true", help="nextgqa: spans lie in 0..1, parts of the duration")
    options.add_argument(
        "--missing", choices=("refuse", "skip"), default="refuse", help="questions without a prediction (refuse)"
    )
    options.add_argument("--split", help="how2qa, tvqa, vlep: key of the number in --out (val; for vlep dev)")
    options.add_argument("--out", metavar="FILE", type=home_path, help="json to write, under the script's own keys")
    return options


def run(argv: Sequence[str] | None = None) -> None:
    """Score, print, and write `--out` where it is given. UserError for what does not belong together."""
    from sevila.benchmarks import BENCHMARKS
    from sevila.benchmarks.base import FileBenchmark

    scored = {name: made for name, made in BENCHMARKS.items() if issubclass(made, FileBenchmark)}
    given = vars(parser(list(scored)).parse_args(argv))
    benchmark, out = scored[given.pop("benchmark")], given.pop("out")
    takes = inspect.signature(benchmark.score).parameters
    for key, value in given.items():
        if value and key not in takes:
            raise UserError(f"--{key}={value}: {benchmark.name} has no use for it; leave it out")
    if out is not None:
        check_place("--out", out)
        check_other("--out", out, {f"--{key}": given[key] for key in FILES})
    score = benchmark.score(**{key: value for key, value in given.items() if key in takes})
    show(benchmark.name, score.table, score.notes)
    if out is not None:
        write_json(out, score.official)
        print(f"written: {out}")


def show(title: str, rows: Sequence[tuple[str, str]], notes: Sequence[str]) -> None:
    """Print names and values, then what else their reader must know."""
    from rich.console import Console
    from rich.text import Text

    table = plain_table()
    table.add_column(title)
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(Text(printable(name)), Text(value))
    Console().print(table)
    for note in notes:
        print(printable(f"note: {note}"))


def cli(argv: Sequence[str] | None = None) -> int:
    return guarded(lambda: run(argv))


if __name__ == "__main__":
    raise SystemExit(cli())
