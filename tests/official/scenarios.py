"""All scenarios that a golden folder can decide, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from official import inference, training
from official.difference import Difference
from official.facts import FACTS
from official.golden import Golden

Scenario = Callable[[Golden], Iterator[Difference]]


def scenarios(golden: Golden) -> dict[str, Scenario]:
    """Name -> scenario. Left out are those whose golden tensors, or whose aux files, the folder lacks."""
    known: dict[str, tuple[str, Scenario]] = {
        "localizer": ("a_loc.yes", inference.localizer),
        "best_frame": ("b_chain_frame.pred", inference.best_frame),
        "uniform_video": ("c_uniform_vid.pred", inference.uniform_video),
        "uniform_frames": ("c_uniform_frame.pred", inference.uniform_frames),
        "pseudo_labels": ("e_refine.pred_ans", inference.pseudo_labels),
        "moment_scores": ("f_fmr.gen.yes_score", inference.moment_scores),
    }
    for k in sorted(int(m[1]) for n in golden.tensors if (m := re.fullmatch(r"b_chain_k(\d+)\.pred", n))):
        known[f"chain_k{k}"] = (f"b_chain_k{k}.pred", lambda golden, k=k: inference.forward_chain(golden, k))
    for name, made in training.TRAININGS.items():
        known[name] = (made.loss_name, lambda golden, name=name: training.training(golden, name))
        known[f"{name}_steps"] = (made.loss_name, lambda golden, name=name: training.steps(golden, name))
    for name in ("d2_train_qa_uniform_vid", "d2_train_qa_uniform_frame"):
        ours = "forward_uniform_" + name.rpartition("_")[2]
        known[ours] = (f"{name}.loss", lambda golden, name=name: training.uniform(golden, name))
    found = {name: scenario for name, (needed, scenario) in known.items() if needed in golden.tensors}
    return found | (FACTS if golden.aux is not None else {})


def run(golden: Golden, scenario: str) -> list[Difference]:
    """One scenario's differences, named `scenario.what`."""
    return [replace(d, what=f"{scenario}.{d.what}") for d in scenarios(golden)[scenario](golden)]
