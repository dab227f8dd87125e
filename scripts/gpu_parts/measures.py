"""What the device takes: the tests that need it, waits of the host, memory, the chain's speed, attention's kernels."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import gpu
from benchmarks.cost import Sizes
from benchmarks.subject import SMALL, subject
from gpu_parts.base import Check, Found, Grid, Setting
from model_size import WORK, Bench
from sevila import build
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.config import load
from sevila.model.precision import arithmetic

REPOSITORY = Path(__file__).resolve().parents[2]
GB = 10**9
ANSWER_GB, TRAINING_GB = 10, 24  # the targets, at batch 1
TINY_SIZES = Sizes(17, 588, 64, 256, 2, 4, 64, 2, 64, 64, 1, 128, 2, 424)  # of benchmarks.subject.SMALL
WAITS = {"answer": 2, "pretrain": 2, "refine": 2, "forward_n": 3}  # of the host for the device, at most


def tests(setting: Setting) -> Found:
    """The tests that are marked gpu; on a CPU they say that they skip."""
    report = setting.work / "tests.xml"
    words = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}", "tests/gpu"]
    code = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=REPOSITORY).returncode
    rows: list[list[Any]] = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        ends = [part.tag for part in case if part.tag in ("failure", "error", "skipped")]
        why = next((str(part.get("message")).splitlines()[0] for part in case if part.tag in ends), "")
        rows.append([case.get("name"), ends[0] if ends else "passed", float(case.get("time", 0)), why])
    states = Counter(row[1] for row in rows)
    found = ", ".join(f"{number} {state}" for state, number in states.items()) or f"none ran (exit code {code})"
    wanted = "passed" if setting.gpu else "skipped"
    judged = Check("tests marked gpu", found, f"all {wanted}", code == 0 and set(states) == {wanted})
    return Found([judged], [Grid("", ["test", "outcome", "seconds", "why"], rows)])


# -- the host's waits for the device ---


def waits(setting: Setting) -> Found:
    """How often the host waits in an answer and in a step of each training, and where: CUDA's own warnings."""
    words = [f"device={setting.device}", "precision=bf16", f"frames.n={4 if setting.small else 32}"]
    config = load("eval", [*words, "selector.k=2", "model.weights=random"])
    accelerator = build.accelerator(config)
    checks, rows = [], []
    for name, most in WAITS.items():
        work = getattr(Bench(config, accelerator), name)()
        work()
        places = waited(work) if setting.gpu else Counter()
        count = sum(places.values())
        what = WORK[name].format(n=config.frames.n, k=config.selector["k"])
        found = str(count) if setting.gpu else "no GPU"
        checks.append(Check(what, found, f"at most {most}", count <= most if setting.gpu else None))
        rows += [[name, place, number] for place, number in places.most_common()]
    return Found(checks, [Grid("Where the host waited.", ["work", "line", "times"], rows)])


def waited(work: Callable[[], object]) -> Counter[str]:
    """The lines at which `work` waits for the GPU, and how often."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Counter(
        f"{'/'.join(Path(warning.filename).parts[-3:])}:{warning.lineno}"
        for warning in seen
        if "synchroniz" in str(warning.message)
    )


# -- memory and speed at the published size ---


def memory(setting: Setting) -> Found:
    """An answer and a step of each training at batch 1, each in its own process, beside the targets."""
    out = setting.work / "model_report.json"
    model = ["model=tiny"] if setting.small else ["model=blip2_flan_t5_xl", f"model.tokenizer={TINY_FOLDER}"]
    names = ["answer", "pretrain"] if setting.small else ["answer", "pretrain", "refine", "forward_n"]
    words = [*model, "precision=bf16", f"device={setting.device}", f"measure={','.join(names)}", f"out={out}"]
    code = subprocess.run([sys.executable, str(REPOSITORY / "scripts" / "model_report.py"), *words]).returncode
    report = json.loads(out.read_text())
    checks, rows = [Check("exit code", str(code), "0", code == 0)], []
    for name, row in report["measurements"].items():
        what, most = WORK[name].format(n=32, k=4), ANSWER_GB if name == "answer" else TRAINING_GB
        if "error" in row:
            checks.append(Check(what, row["error"], f"at most {most} GB", False))
            continue
        peak = row["peak_bytes"] / GB
        judged = peak <= most if setting.gpu else None
        checks.append(Check(what, f"{peak:.2f} GB {row['memory']}", f"at most {most} GB", judged))
        rows.append([what, row["seconds"], peak, row["build_seconds"], row["build_peak_bytes"] / GB])
    header = ["work", "seconds", "peak GB", "seconds to build", "peak GB while building"]
    return Found(checks, [Grid(f"{report['model']}, {report['precision']}, random weights.", header, rows)])


def bench(setting: Setting) -> Found:
    """The chain with nine questions a video, stage by stage, beside the rate of a large matrix product.

    With heads in float32, as by default, and what TF32 and bfloat16 would save.
    """
    device = torch.device(setting.device)
    if setting.small:
        model, sizes, dtype, runs, side = subject(SMALL).sevila.to(device), TINY_SIZES, torch.float32, 1, 256
    else:
        model, sizes, dtype, runs, side = gpu.published(device, torch.float32), Sizes(), torch.bfloat16, 5, gpu.SQUARE
    reports = {}
    for heads, tf32 in (("float32", False), ("float32 as TF32", True), ("bfloat16", False)):
        if heads == "bfloat16":
            model.localizer.head.bfloat16()
            model.answerer.head.bfloat16()
        with arithmetic(tf32):
            reports[heads] = gpu.measure(model, sizes, dtype, runs, side)
    rows = [
        [heads, row["name"], 1000 * row["seconds"], row["tflops"], row["percent_of_peak"]]
        for heads, report in reports.items()
        for row in report["stages"]
    ]
    default = reports["float32"]
    checks = [
        Check("matrix product", f"{default['peak_tflops']:.4g} TFLOP/s"),
        Check("forward chain", f"{default['percent_of_peak']:.1f} % of it"),
        Check("questions", f"{default['questions_a_second']:.1f} a second"),
        Check("memory allocated", f"{default['peak_memory_gib']:.2f} GiB"),
    ]
    return Found(checks, [Grid("", ["heads in", "stage", "ms", "TFLOP/s", "percent of the matrix product"], rows)])


# -- which kernel attention gets ---

SHAPES = {  # rows, heads, queries, keys, width, dtype, rows of the mask (0: none)
    "vision tower": (32, 16, 257, 257, 88, torch.bfloat16, 0),
    "head, training": (32, 12, 32, 257, 64, torch.bfloat16, 0),
    "head, evaluation": (32, 12, 32, 257, 64, torch.float32, 0),
    "T5's encoder": (156, 32, 105, 105, 64, torch.bfloat16, 1),
    "T5's encoder, padding": (156, 32, 105, 105, 64, torch.bfloat16, 156),
    "T5's decoder": (156, 1, 32, 105, 2048, torch.bfloat16, 0),
}
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)


def attention(setting: Setting) -> Found:
    """Milliseconds of each shape of the published size by default and by each kernel that takes it."""
    rows: list[list[Any]] = []
    for name, (rows_of, heads, queries, keys, width, dtype, masked) in SHAPES.items():
        n = 2 if setting.small else rows_of

        def made(length: int, *, n: int = n, heads: int = heads, width: int = width, dtype: Any = dtype) -> Any:
            return torch.randn(n, length, heads, width, device=setting.device).to(dtype).transpose(1, 2)

        given = [made(queries), made(keys), made(keys)]
        if masked:
            given.append(torch.randn(min(n, masked), heads, queries, keys, device=setting.device).to(dtype))
        times = [_milliseconds(given)]
        for backend in BACKENDS if setting.gpu else BACKENDS[-1:]:
            times.append(_milliseconds(given, backend))
        rows.append([name, *times, *[None] * (1 + len(BACKENDS) - len(times))])
    header = ["attention in", "by default, ms", *(backend.name.partition("_")[0].lower() for backend in BACKENDS)]
    return Found((), [Grid("A dash: that kernel does not take the shape.", header, rows)])


def _milliseconds(given: list[Any], backend: SDPBackend | None = None, runs: int = 10) -> float | None:
    """The median; None where the kernel refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with sdpa_kernel(list(BACKENDS) if backend is None else backend):
                return 1000 * statistics.median(
                    gpu.times(lambda: functional.scaled_dot_product_attention(*given), runs)
                )
    except RuntimeError:
        return None
