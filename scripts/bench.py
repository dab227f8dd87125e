"""How much faster this library is than the plain way, in one run, with the outputs compared.

    python scripts/bench.py [--suite all|gpu|NAME ...] [--json OUT] [--quick] [--threads N]

--suite   all (default); gpu: the published size on a GPU; or some of answers, training, evaluation, decoding
--json    also write the rows there: {name, baseline_s, ours_s, ratio, equal, runs, ...}
--quick   fewer runs and questions, a tiny model and short videos: whether it works, not how fast it is
--threads of a CPU; default: torch's own choice

The fastest setting is that of `precision=auto`: bfloat16 on a processor with units for it, else float32, of which no
more is asked than of the float32 rows.

The baseline answers question by question, runs the tower for every question, has eager attention, and generates three
tokens with transformers' `generate`. Both have the same random weights. Exit code 1 if a row's outputs differ.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sevila.files import home_path

SUITES = ("answers", "training", "evaluation", "decoding")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", default=["all"], choices=["all", "gpu", *SUITES], metavar="NAME")
    parser.add_argument("--json", type=home_path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args(argv)

    import torch

    from benchmarks.timing import machine
    from sevila.files import write_json

    if given.threads is not None:
        torch.set_num_threads(given.threads)
    if "gpu" in given.suite:
        from benchmarks import gpu

        return gpu.main(given.json)
    names = SUITES if "all" in given.suite else given.suite
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {'quick' if given.quick else 'full'}")
    print(machine())
    print(f"{'':30}{'baseline s':>12}{'ours s':>10}{'ratio':>8}{'target':>8}  equal")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measured(names, given.quick, Path(folder)):
            rows.append(row.to_json())
            missed = "" if given.quick or row.ratio >= row.target else "  below target"
            print(
                f"{row.name:30}{row.baseline_s:12.3f}{row.ours_s:10.3f}{row.ratio:8.2f}{row.target:8.2f}  "
                f"{'yes' if row.equal else 'NO'}{missed}",
                flush=True,
            )
            for key, value in row.notes.items():
                print(f"    {key} {value}", flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    bare, whole = import_seconds("sevila"), import_seconds("sevila.model.sevila")
    print(f"import of sevila {bare:.2f} s, with its model {whole:.2f} s")
    if given.json is not None:
        write_json(given.json, rows)
        print(f"written: {given.json}")
    # of a tiny model bfloat16 is too coarse
    counted = [row for row in rows if not (given.quick and row["name"].endswith("_fastest"))]
    return 0 if all(row["equal"] for row in counted) else 1


def measured(names: list[str] | tuple[str, ...], quick: bool, folder: Path) -> Iterator:
    """The rows of the table, one after the other."""
    from benchmarks import answers, decoding, training
    from benchmarks.baseline import Plain
    from benchmarks.subject import MIDDLE, SMALL, subject
    from benchmarks.timing import Row
    from sevila.model.precision import bf16_units, fast_dtype

    films: Callable[[], list[Path]] = lambda: decoding.made_videos(  # noqa: E731
        folder / "films", 60 if quick else 900, ((160, 120),) if quick else decoding.SIZES
    )
    if "decoding" in names:
        rounds = 1 if quick else 5
        found = decoding.measure(films(), runs=rounds)
        middle = statistics.median(row["ratio"] for row in found)
        times = [(row["seconds"][row["fastest"]], row["seconds"]["ours"]) for row in found]
        baseline = statistics.median(a for a, _ in times)
        notes = {
            "ratio_median_of_files": round(middle, 3),
            "files": {row["video"]: round(row["ratio"], 3) for row in found},
        }
        equal = all(row["equal"] for row in found)
        yield Row("decode_sparse", baseline, baseline / middle, equal, rounds, 1.4, notes)
    if not set(names) & {"answers", "training", "evaluation"}:
        return
    made = subject(SMALL if quick else MIDDLE)
    model, fast = made.sevila, made.fastest(fast_dtype("cpu"))
    plain = Plain.of(made.blip2, model)
    runs = 1 if quick else 3
    if "answers" in names:
        fused = Plain.of(made.blip2, model, "sdpa")
        agreed = answers.agreement(model, fast, 20 if quick else 200)
        same = (made, plain, fused, fast)
        yield from answers.measure("single_question", *same, 1, runs, (1.15, 1.8 if bf16_units() else 1.15), agreed)
        yield from answers.measure("nine_questions", *same, 9, 1, (3.5, 6.0 if bf16_units() else 3.5), agreed)
    short = films()[:2]
    if "training" in names:
        yield from training.forward(plain, model, short, folder / "store", 2, 1, 8 if quick else training.FRAMES)
        yield from training.refine(plain, model, short, folder / "store", 4, runs)
    if "evaluation" in names:
        yield from training.evaluation(fast, short, 9, 1 if quick else 2)


def import_seconds(module: str) -> float:
    """Median of three fresh interpreters."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
