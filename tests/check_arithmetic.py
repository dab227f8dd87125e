"""Do the tests pass on other processors? Runs them once under each way that this one can compute.

    python tests/check_arithmetic.py [PYTEST ARGUMENTS]

Processors add in different orders, with vectors of different lengths, and so do other settings of the same libraries on
one processor: no vector instructions, AVX2, AVX-512, MKL's mode for all processors, one thread and two. Without
arguments the tests that compare numbers run, those of the golden outputs among them. Prints a line a setting; the exit
code is 1 where a test failed under any of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
NUMERIC = ("data/test_transforms.py", "metrics", "model", "selection", "tasks", "training", "checkpoints", "synthetic")
LEVELS = ("default", "avx2", "avx512")  # torch's names, from the fewest instructions to the most
SETTINGS = {
    "no vector instructions": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "AVX-512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "MKL's mode for all": {"MKL_CBWR": "COMPATIBLE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
}


def main() -> int:
    tests = sys.argv[1:] or [str(REPOSITORY / "tests" / name) for name in NUMERIC]
    best = torch.backends.cpu.get_cpu_capability().lower()
    print(f"this processor: {best}", flush=True)
    failed = False
    for name, variables in SETTINGS.items():
        if LEVELS.index(variables.get("ATEN_CPU_CAPABILITY", LEVELS[0])) > LEVELS.index(best):
            print(f"{name:24} not tried: this processor has no such instructions", flush=True)
            continue
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-rfE", *tests]
        done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True)
        lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
        print(f"{name:24} {lines[-1]}", flush=True)
        if done.returncode:
            failed = True
            print("\n".join(line for line in lines if line.startswith(("FAILED", "ERROR"))), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
