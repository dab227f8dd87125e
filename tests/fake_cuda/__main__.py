"""The library's paths on the fake CUDA device.

    python tests/fake_cuda [PATH ...] [--places] [--faults] [--estimates] [--root FOLDER] [--json FILE]

--places   each place in the package where the host waits, and how often
--faults   the deliberate faults too
--estimates   operations and memory at the published sizes instead
--root     another checkout of the library
--json     the counts, for whoever reads them
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="fake_cuda")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--estimates", action="store_true")
    parser.add_argument("--root", type=Path, default=HERE.parents[1])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--guard", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    sys.path[:0] = [str(options.root.resolve()), str(HERE.parent)]
    from fake_cuda import guard

    guard.load(guard.library(options.guard))
    from fake_cuda import runs  # torch, from here on

    for name in options.paths:
        if name not in runs.NAMES:
            parser.error(f"no path is named {name!r}; there are: {', '.join(runs.NAMES)}")
    if options.estimates:
        from fake_cuda import estimates

        return estimates.show()
    work = [(name, runs.run) for name in options.paths or runs.NAMES]
    if options.faults:
        from fake_cuda.faults import FAULTS

        work += [(name, runs.run_faulty) for name in FAULTS]
    results = {}
    for name, run in work:
        started = time.monotonic()
        results[name] = run(name)
        runs.show(name, results[name], time.monotonic() - started, options.places)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
