"""The pseudo-labels of every refinement, and what the test questions gained by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sevila.files import read_json
from study.rows import Numbers, Runs
from study.tables import markdown
from study.values import MEASURES, Values

REFINEMENTS = {  # selection: the one it was refined from, and what this is called
    "sr": ("zero_shot", "SR"),
    "pt_sr": ("pt", "PT + SR"),
    "pt_sr_x2": ("pt_sr", "second round"),
    "pt_sr_published": ("pt", "PT + SR, published labels"),
    "true_windows": ("zero_shot", "true windows"),
}
REFINEMENT_HEADINGS = (
    "refinement",
    "world",
    "seed",
    "label precision",
    "label recall",
    "yes",
    "recall gain",
    "accuracy gain",
)


def refinements(values: Values, default: Numbers) -> list[dict[str, Any]]:
    """Every refinement: the precision and recall of its labels, and what the test questions gained by it."""
    runs, out = Runs(default), []
    for selection, (before, name) in REFINEMENTS.items():
        if not (values.has(selection) and values.has(before)):
            continue
        run = runs.localizer(selection)
        for world in values.questions:
            for i, seed in enumerate(values.seeds):
                metrics = read_json(values.worlds.folder(world, run, seed) / "metrics.json")
                row: dict[str, Any] = {"refinement": name, "world": world, "seed": seed}
                row |= {key: metrics[f"pseudo_label_{key}"] for key in ("precision", "recall", "yes")}
                for measure in MEASURES:
                    means = [values.seed_means(key, measure, world) for key in (before, selection)]
                    start, end = (mean[i] if len(mean) > 1 else mean[0] for mean in means)
                    row[f"{measure}_gain"] = round(end - start, 4)
                out.append(row)
    return out


def refinement_cells(row: Mapping[str, Any]) -> tuple[str | int | float, ...]:
    keys = ("refinement", "world", "seed", "precision", "recall", "yes", "recall_gain", "accuracy_gain")
    cells = [row[key] for key in keys]
    return tuple(str(cell) if key in ("world", "seed") else cell for key, cell in zip(keys, cells, strict=True))


def refinements_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    head = ["# Pseudo-labels and what refinement gained", ""]
    head += ["Of the labels of the training questions, in percent; gains on the test questions, in points.", ""]
    return "\n".join(head + markdown(REFINEMENT_HEADINGS, [refinement_cells(row) for row in found])) + "\n"
