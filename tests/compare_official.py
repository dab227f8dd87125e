"""Compare this library with stored outputs of the official SeViLA code.

    python tests/compare_official.py --golden ../shared/golden/model64 [--dtype float64|float32] [--fused]

A golden folder holds small random weights under the official names, inputs, and every output of the official code in
float64. All scenarios run through the library's own public path, on the CPU, without dropout. In float64 (the default)
every difference must be below 1e-9, with plain attention and with the library's own (`--fused`): that decides, and does
not depend on the processor. In float32 processors differ by rounding; the tolerances are wide, and tell gross mistakes.

Prints a table of the largest differences, and as its last line one JSON object (a size that is no number is
null there). Exit code 1 above a tolerance, 2 for a folder that cannot be read.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from math import isfinite
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from official.difference import Difference
from official.golden import Golden
from official.scenarios import run, scenarios
from sevila.errors import UserError
from sevila.files import home_path

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def compare(golden: Golden) -> list[Difference]:
    """Every scenario that the folder can decide."""
    return [d for name in scenarios(golden) for d in run(golden, name)]


def show(differences: list[Difference]) -> None:
    """The table, one row a difference."""
    table = Table("scenario", "difference", "tolerance", "")
    for d in differences:
        unit = " rel." if d.relative else ""
        verdict = "" if d.passed else "[red]above[/red]"
        table.add_row(d.what, f"{d.size:.2g}{unit}", f"{d.tolerance:.0e}{unit}" if d.tolerance else "exact", verdict)
    Console(width=110).print(table)


def summary(differences: list[Difference]) -> dict[str, object]:
    rows = {
        d.what: {
            "max_abs": d.size if isfinite(d.size) else None,
            "tolerance": d.tolerance,
            "relative": d.relative,
        }
        for d in differences
    }
    return {"passed": bool(rows) and all(d.passed for d in differences), "scenarios": rows}


def tokenizer_beside(golden: Path) -> Path:
    """The folder `t5_tokenizer` in the golden folder, beside it or above it, else in SEVILA_SHARED."""
    shared = Path(os.environ.get("SEVILA_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    places = [golden.resolve(), *golden.resolve().parents, shared]
    found = [place / "t5_tokenizer" for place in places if (place / "t5_tokenizer").is_dir()]
    return found[0] if found else Path("t5_tokenizer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=home_path, required=True, help="folder with golden.json and its tensors")
    tokenizer = "folder with T5's tokenizer.json (default: found beside it)"
    parser.add_argument("--tokenizer", type=home_path, help=tokenizer)
    parser.add_argument("--dtype", choices=DTYPES, default="float64", help="default: float64, which decides")
    parser.add_argument(
        "--fused", action="store_true", help="the library's default attention (SDPA), not the plain one"
    )
    args = parser.parse_args()
    logging.disable(logging.INFO)
    try:
        tokenizer = args.tokenizer or tokenizer_beside(args.golden)
        golden = Golden(args.golden, tokenizer, DTYPES[args.dtype], args.fused)
        differences = compare(golden)
    except UserError as error:
        print(f"sevila: error: {error}", file=sys.stderr)
        return 2
    show(differences)
    result = summary(differences)
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
