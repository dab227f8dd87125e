"""Ten minutes on a GPU: what CPUs cannot tell of this library, in one json and one page.

    python scripts/gpu_check.py [--device cuda] [--out gpu_check] [--seconds N] [--parts NAME ...]
    python scripts/gpu_check.py --device cpu --small            # a dry run, minutes on two cores

--device    cuda, cuda:N, or cpu
--small     a tiny model in the place of ViT-g and Flan-T5 XL, and few steps
--out       folder for gpu_check.json, gpu_check.html and gpu_check.log, all written anew after every part
--seconds   of the whole: 480, on a CPU four times that, as of every part's limit; what is not begun by then is told
--parts     some of tests, numerics, waits, pretrain, forward, refine, memory, bench, resume, attention
--limit     NAME=SECONDS: another limit of a part, as on a slower machine

Each part is a process of its own within a limit: whether it fails, hangs or is killed, the others are run. Nothing is
downloaded: weights are random or the tiny model's, and the drawn world is drawn. Exit code 1 unless all parts passed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

from gpu_parts.base import NOT_REACHED, PASSED, Found, Outcome, Part, Setting, conduct
from sevila.errors import UserError
from sevila.files import home_path, write_json, write_text

NAME = "gpu_check"
SECONDS = 480.0  # of the whole, on an H100


def _later(module: str, name: str, *more: str) -> partial[Found]:
    return partial(_find, module, name, more)


def _find(module: str, name: str, more: Sequence[str], setting: Setting) -> Found:
    """Import what a part needs in its own process alone: torch takes seconds."""
    from importlib import import_module

    return getattr(import_module(f"gpu_parts.{module}"), name)(setting, *more)


# in the order of what is most wanted; the limits are those of an H100 and sum to more than the whole may take
PARTS = {
    part.name: part
    for part in (
        Part("tests", "Tests that need a GPU", 80, _later("measures", "tests")),
        Part("numerics", "Numbers beside the CPU's", 100, _later("numerics", "find")),
        Part("waits", "Waits of the host", 45, _later("measures", "waits")),
        Part("pretrain", "A short pre-training", 50, _later("trainings", "curves", "pretrain")),
        Part("forward", "A short fine-tuning of the Answerer", 60, _later("trainings", "curves", "forward")),
        Part("refine", "A short refinement of the Localizer", 60, _later("trainings", "curves", "refine")),
        Part("memory", "Memory at the published size", 150, _later("measures", "memory")),
        Part("bench", "Speed at the published size", 80, _later("measures", "bench")),
        Part("resume", "A training that is stopped and goes on", 70, _later("trainings", "resumed")),
        Part("attention", "Attention's kernels", 30, _later("measures", "attention")),
    )
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=home_path, default=Path(NAME))
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--limit", nargs="+", default=[], metavar="NAME=SECONDS")
    parser.add_argument("--own", choices=PARTS, help=argparse.SUPPRESS)  # a part's own process
    parser.add_argument("--work", type=home_path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.own:
        found = PARTS[given.own].find(Setting(given.device, given.small, given.work))
        write_json(given.work / f"{given.own}.json", found.to_json())
        return 0
    parts = [PARTS[name] for name in given.parts]
    limits, patience = _limits(given.limit), 1 if given.device.startswith("cuda") else 4
    facts = _facts(given.device, given.small)
    with tempfile.TemporaryDirectory(prefix=f"{NAME}_") as work:
        own = [sys.executable, __file__, "--device", given.device, "--work", work, *["--small"] * given.small]
        commands = [
            (replace(part, limit=limits.get(part.name, patience * part.limit)), [*own, "--own", part.name])
            for part in parts
        ]
        outcomes = check(commands, Path(work), given.out, facts, given.seconds or patience * SECONDS)
    print(f"written: {given.out / f'{NAME}.html'}")
    return 0 if all(outcome.state == PASSED for outcome in outcomes) else 1


def check(
    commands: Sequence[tuple[Part, Sequence[str]]], work: Path, out: Path, facts: dict[str, str], seconds: float
) -> list[Outcome]:
    """Run parts one after the other and write what is known after each; those to come are listed as not reached."""
    ends = time.monotonic() + seconds
    outcomes = [Outcome(part.name, part.title, NOT_REACHED, 0.0, part.limit) for part, _ in commands]
    said = ""
    for number, (part, command) in enumerate(commands):
        outcomes[number] = outcome = conduct(part, command, work, ends - time.monotonic())
        log = work / f"{part.name}.log"
        said += f"== {part.name}: {outcome.state}, {outcome.seconds} s\n"
        said += log.read_text(errors="replace") if log.exists() else ""
        write_all(out, facts, outcomes, said)
        print(f"{part.name}: {outcome.state}, {outcome.seconds:.0f} s", flush=True)
    return outcomes


def write_all(out: Path, facts: dict[str, str], outcomes: Sequence[Outcome], log: str) -> None:
    """The three files of a check."""
    from gpu_parts import page

    write_json(out / f"{NAME}.json", {"facts": facts, "parts": [outcome.to_json() for outcome in outcomes]})
    write_text(out / f"{NAME}.log", log)
    page.write(out / f"{NAME}.html", facts, outcomes)


def _limits(words: Sequence[str]) -> dict[str, float]:
    limits = {}
    for word in words:
        name, _, seconds = word.partition("=")
        if name not in PARTS or not seconds.replace(".", "", 1).isdecimal():
            raise UserError(f"--limit {word}: expected NAME=SECONDS, NAME one of {', '.join(PARTS)}")
        limits[name] = float(seconds)
    return limits


def _facts(device: str, small: bool) -> dict[str, str]:
    """Where the check runs. UserError for a device that is not there."""
    import torch

    from sevila.model.precision import find_device
    from sevila.run_folder import environment

    found = find_device(device)
    about = environment(str(found), "bf16", "tiny" if small else "Salesforce/blip2-flan-t5-xl, random weights")
    gpu = f"{torch.cuda.get_device_name(found)}, CUDA {torch.version.cuda}" if found.type == "cuda" else "none"
    versions = {"sevila": about["sevila"], "python": about["python"], **about["packages"]}
    return {
        "Device": f"{device}; GPU: {gpu}",
        "Model": f"{about['model']}{', a dry run' if small else ''}",
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Machine": f"{about['platform']}, {about['cpus']} cores",
        "Commit": about["commit"] or "not known",
        "Started": about["started"].replace("T", " "),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"sevila: error: {error}", file=sys.stderr)
        sys.exit(2)
