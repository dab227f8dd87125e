"""What the processor is, and what it has for bfloat16."""

from __future__ import annotations

import platform

from sevila.model import precision


def machine() -> str:
    """A line: the processor's name, its bfloat16 units, and what `precision=auto` takes on it."""
    units = ", ".join(precision.bf16_units()) or "none"
    taken = str(precision.fast_dtype("cpu")).removeprefix("torch.")
    return f"{_name()}: bfloat16 units: {units}; precision=auto takes {taken}"


def _name() -> str:
    try:
        lines = precision.CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
    return next(names, platform.processor() or platform.machine())
