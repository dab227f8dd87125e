"""Compare this library with LAVIS and timm, run in an environment of their own.

    make test-interop                                    # sets up both environments and does all of it
    python tests/compare_interop.py .venv-interop/outputs

The folder holds small models of several sizes: random weights under LAVIS's names, pictures, texts, and what LAVIS's
own `Blip2T5` and timm's EVA tower made of them (tests/interop). This library reads the same weights by its importer
and does the same through its own public path, on the CPU, in float64: what differs is no rounding.

Prints a table of the largest absolute differences, relative ones for gradients. Exit code 1 above a tolerance, 2 for
a folder that cannot be read.
"""

from __future__ import annotations

import argparse
import logging
import sys

from rich.console import Console
from rich.table import Table

from interop.comparison import compare
from interop.reference import Reference
from official.difference import Difference
from sevila.errors import UserError
from sevila.files import home_path


def show(cases: dict[str, list[Difference]]) -> None:
    """A row a quantity, a column a case; red above the tolerance in the last column."""
    table = Table("largest difference of", *cases, "tolerance")
    rows: dict[str, dict[str, Difference]] = {}
    for case, differences in cases.items():
        for difference in differences:
            rows.setdefault(difference.what, {})[case] = difference
    for what, found in rows.items():
        cells = [_cell(found[case]) if case in found else "-" for case in cases]
        first = next(iter(found.values()))
        unit = " rel." if first.relative else ""
        table.add_row(what, *cells, f"{first.tolerance:.0e}{unit}" if first.tolerance else "exact")
    Console(width=110).print(table)


def _cell(difference: Difference) -> str:
    size = f"{difference.size:.1e}" if difference.size else "0"
    return size if difference.passed else f"[red]{size}[/red]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=home_path, help="what lavis_reference.py and timm_reference.py wrote")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    try:
        cases = {path.parent.name: compare(Reference(path.parent)) for path in sorted(args.folder.glob("*/case.json"))}
        if not cases:
            raise UserError(f"{args.folder}: holds no case; tests/interop/lavis_reference.py makes them")
    except UserError as error:
        print(f"sevila: error: {error}", file=sys.stderr)
        return 2
    show(cases)
    above = [f"{case}: {d.what}" for case, differences in cases.items() for d in differences if not d.passed]
    number = sum(map(len, cases.values()))
    print(f"{number} comparisons, {len(above)} above tolerance" + "".join(f"\n  {line}" for line in above))
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
