"""How large a model is, and what it needs: parameters by part, and on request measured memory and seconds.

    python scripts/model_report.py model=blip2_flan_t5_xl precision=bf16
    python scripts/model_report.py model=blip2_flan_t5_xl precision=bf16 device=cuda measure=true out=report.json

measure=true           measures everything; measure=answer,pretrain some of answer,pretrain,refine,forward,forward_n
out=FILE.json          also writes the numbers there
frames.n=32 selector.k=4   frames and keyframes of `answer` and `forward_n`; the other steps have 4 frames; batch 1
model.checkpointing=true   measures the training steps with activation checkpointing

and every other key of `sevila eval`. Counting takes seconds and no weights. Measuring is done on random weights
(unless model.weights=pretrained) and random pixels, each piece of work in a process of its own; it needs a tokenizer,
which without a network model.tokenizer=FOLDER names. Exit code 1 if a measurement failed, 2 for a wrong word.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from rich.console import Console

from model_size import WORK, measure, parts, summary
from sevila import build, schema
from sevila.checkpoints.architecture import read_tokenizer
from sevila.checkpoints.backbone import WEIGHTS
from sevila.config import load
from sevila.errors import UserError
from sevila.files import check_place, home_path, write_json
from sevila.report.terminal import plain_table

GIB = 2**30
OWN = ("measure", "out", "only")  # words of this script; `only` is what it tells its own processes


def main(argv: list[str]) -> int:
    own, words = separate(argv)
    config = load("eval", ["model.weights=random", *words])
    if "only" in own:
        print(json.dumps(measure(config, own["only"])))
        return 0
    chosen = selected(own.get("measure", "false"))
    out = home_path(own["out"]) if "out" in own else None
    if out is not None:
        if out.suffix != ".json":
            raise UserError(f"out={out}: expected a name that ends in .json")
        check_place("out", out)
    if chosen:
        check(config)
    report = {"model": config.model.source, "precision": build.resolved(config).precision, **summary(parts(config))}
    show_parts(report)
    report["measurements"] = {}
    for name in chosen:
        report["measurements"][name] = in_own_process(name, words)
        show_measurement(config, name, report["measurements"][name])
    if out is not None:
        write_json(out, report)
        print(f"written: {out}")
    return 1 if any("error" in row for row in report["measurements"].values()) else 0


def separate(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """This script's own words by key, and those for the configuration."""
    if any(word in ("-h", "--help") for word in argv):
        print(__doc__)
        raise SystemExit(0)
    pairs = [word.partition("=") for word in argv]
    own = {key: value for key, _, value in pairs if key in OWN}
    return own, [word for word, (key, _, _) in zip(argv, pairs, strict=True) if key not in OWN]


def selected(value: str) -> list[str]:
    """The measurements that `measure=` names."""
    if value in ("true", "false"):
        return list(WORK) if value == "true" else []
    names = value.split(",")
    for name in names:
        if name not in WORK:
            raise UserError(f"measure={value}: expected true, false, or some of {','.join(WORK)}")
    return names


def check(config: schema.Eval) -> None:
    """Whatever would fail in every process fails here, once."""
    build.accelerator(config)
    build.check_heads(config)
    build.selector(config.selector, config.frames.n)
    words = WEIGHTS[config.model.weights]().architecture(config.model.source).text_config.vocab_size
    read_tokenizer(config.model.tokenizer, config.model.source, words)


def in_own_process(name: str, words: list[str]) -> dict[str, Any]:
    """One measurement; {"error": ...} where its process failed."""
    done = subprocess.run([sys.executable, __file__, *words, f"only={name}"], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    killed = f" (killed by signal {-done.returncode}; 9 is often a lack of memory)" if done.returncode < 0 else ""
    return {"error": f"{last}{killed}"}


def show_parts(report: dict[str, Any]) -> None:
    table = plain_table(f"{report['model']}, {report['precision']}")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("dtype")
    table.add_column("GiB", justify="right")
    group = ""
    for row in report["parts"]:
        if group and row["group"] != group:
            table.add_section()
        group = row["group"]
        name = row["name"] if group in ("backbone", "spare") else f"{group}: {row['name']}"
        size = f"{sum(row['bytes'].values()) / GIB:.3f}"
        table.add_row(name, f"{row['parameters']:,}", ", ".join(row["bytes"]), size)
    table.add_section()
    table.add_row("model (without the spare head, which lies on the CPU)", f"{report['parameters']:,}", "", "")
    for dtype, size in report["bytes"].items():
        table.add_row("its bytes", "", dtype, f"{size / GIB:.3f}")
    Console(width=110).print(table)
    share = f"{report['trainable']:,} of {report['parameters']:,}, {report['trainable_percent']} %"
    print(f"trainable in one run, one head: {share}")


def show_measurement(config: schema.Eval, name: str, row: dict[str, Any]) -> None:
    what = WORK[name].format(n=config.frames.n, k=config.selector["k"])
    if "error" in row:
        print(f"{what}: failed: {row['error']}", flush=True)
        return
    both = " (building included)" if row["peak_includes_building"] else ""
    print(
        f"{what}: {row['seconds']:.2f} s, peak {row['peak_bytes'] / GIB:.2f} GiB {row['memory']}{both}; "
        f"building: {row['build_seconds']:.0f} s, peak {row['build_peak_bytes'] / GIB:.2f} GiB",
        flush=True,
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"sevila: error: {error}", file=sys.stderr)
        sys.exit(2)
