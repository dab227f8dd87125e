"""Numbers of the device beside the CPU's: every golden scenario, and an answer of the tiny model."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.subject import pictures
from gpu_parts.base import Check, Found, Grid, Setting
from sevila import api
from sevila.model.precision import arithmetic

if TYPE_CHECKING:
    from official.difference import Difference

REPOSITORY = Path(__file__).resolve().parents[2]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
COARSE = 4.0  # bfloat16 may be so many times as far from the official numbers on the device as on the CPU
QUESTIONS = ["what does the red star hold?", "what does the green square hold after it glows?"]
FAR = {"fp32": 1e-4, "bf16": 0.1, "published": 0.1}  # of scores and logits, relative to the CPU's in float32

Rows = Mapping[str, "Difference"]


def find(setting: Setting) -> Found:
    """Both comparisons; without the golden folder the second alone."""
    answers = tiny(setting)
    shared = shared_folder()
    if shared is None:
        told = Check("golden scenarios", "no golden/ in SEVILA_SHARED, ../shared or ./shared", "may be missing")
        return Found([told, *answers.checks], answers.grids)
    golden = scenarios(setting, shared)
    return Found([*golden.checks, *answers.checks], [*golden.grids, *answers.grids])


def shared_folder() -> Path | None:
    """The folder that holds golden/, where there is one."""
    places = [os.environ.get("SEVILA_SHARED"), REPOSITORY.parent / "shared", REPOSITORY / "shared"]
    return next((Path(place) for place in places if place and (Path(place) / "golden").is_dir()), None)


# -- the official code's numbers ---


def scenarios(setting: Setting, shared: Path) -> Found:
    """Each scenario that computes with the model, in float32 and bfloat16, on the CPU and on the device."""
    places = ("cpu", setting.device)
    found = {(name, place): run_all(shared, dtype, place) for name, dtype in DTYPES.items() for place in places}
    here = {name: found[name, setting.device] for name in DTYPES}
    wide = [d.what for d in here["fp32"].values() if not d.passed]
    # where bfloat16 chose another frame or letter than the official code, on either, numbers are of other things
    other = {
        scenario(what) for place in places for what, d in found["bf16", place].items() if not d.tolerance and d.size
    }
    alike = {what: d for what, d in here["bf16"].items() if d.tolerance and scenario(what) not in other}
    true = found["bf16", "cpu"]
    coarse = [
        f"{what} ({d.size:.2g}, on the CPU {true[what].size:.2g})"
        for what, d in alike.items()
        if not d.size <= max(COARSE * true[what].size, d.tolerance)
    ]
    checks = [
        Check("golden, fp32", _of(len(here["fp32"]), wide), "within float32's tolerances", not wide),
        Check("golden, bf16", _of(len(alike), coarse), f"at most {COARSE:g} x as far as the CPU's", not coarse),
        Check("scenarios in which bf16 chose otherwise", ", ".join(sorted(other)) or "none"),
    ]
    header = [
        "difference to the official code",
        "tolerance, fp32",
        *(f"{n}, {place}" for n in DTYPES for place in places),
    ]
    rows = []
    for what, d in here["fp32"].items():
        sizes = [f"{found[name, place][what].size:.2g}" for name in DTYPES for place in places]
        rows.append([what, f"{d.tolerance:.0e}" if d.tolerance else "equal", *sizes])
    return Found(checks, [Grid("Golden scenarios: largest differences; of choices 1 where any differs.", header, rows)])


def scenario(what: str) -> str:
    """The scenario of a difference, as in `forward.loss`."""
    return what.partition(".")[0]


def run_all(shared: Path, dtype: torch.dtype, device: str) -> Rows:
    """Every scenario that computes with the model: its differences by name."""
    sys.path.insert(0, str(REPOSITORY / "tests"))  # where the comparison with the official code lives
    from official.facts import FACTS
    from official.golden import Golden
    from official.scenarios import run, scenarios

    golden = Golden(shared / "golden" / "model64", shared / "t5_tokenizer", dtype, fused=True, device=device)
    names = [name for name in scenarios(golden) if name not in FACTS]
    with arithmetic():  # float32 is float32
        return {d.what: d for name in names for d in run(golden, name)}


def _of(count: int, wrong: list[str]) -> str:
    return f"{count - len(wrong)} of {count}" + (f"; not {', '.join(wrong[:3])}" if wrong else "")


# -- the tiny model, with its trained weights ---


def tiny(setting: Setting) -> Found:
    """Patches, scores and letters in every precision on the device, beside float32's on the CPU."""
    want = answered(api.SeViLA.load("tiny", dtype="fp32"))
    checks, rows = [], []
    for name, far in FAR.items():
        sevila = api.SeViLA.load("tiny", device=setting.device, dtype=name)
        with arithmetic():
            got, again = answered(sevila), answered(sevila)
        off = [distance(a, b) for a, b in zip(got, want, strict=True)]
        same = all(torch.equal(a, b) for a, b in zip(got, again, strict=True))
        letters = torch.equal(got[2].argmax(-1).cpu(), want[2].argmax(-1))
        rows.append([name, *(f"{size:.2g}" for size in off), "yes" if letters else "no", "yes" if same else "no"])
        largest = max(off[1:])
        checks.append(Check(f"tiny model, {name}", f"{largest:.2g}", f"at most {far:g}, relative", largest <= far))
    header = ["precision", "patches", "scores", "logits", "same letters", "same bits again"]
    caption = f"The tiny model on {setting.device}: relative distance to float32 on the CPU."
    return Found(checks, [Grid(caption, header, rows)])


@torch.no_grad()
def answered(sevila: api.SeViLA) -> tuple[Tensor, Tensor, Tensor]:
    """Patches [T, P, Dv], scores [M, T] and letters' logits [M, A] of M questions about random pictures."""
    model = sevila.model
    patches = model.backbone.encode(pictures(16, model.backbone.image_size))
    options = ["bell", "fork", "cup", "flag", "book"]
    asked = [model.prompts.answer(question, options) for question in QUESTIONS]
    scores = model.relevance(patches, [model.prompts.localize(question, options) for question in QUESTIONS])
    places = [[0, 5, 9, 14], [1, 2, 3, 4]]
    return patches, scores, torch.stack(model.option_logits(patches, places, asked, [len(options)] * len(asked)))


def distance(found: Tensor, true: Tensor) -> float:
    """Norm of the difference, relative to the true tensor's; of any shape, on any device."""
    found, true = found.detach().double().cpu(), true.detach().double().cpu()
    return float((found - true).norm() / true.norm().clamp(min=1e-300))
