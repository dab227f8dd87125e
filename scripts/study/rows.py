"""What is compared: the rows of the study, and the runs that make them.

A selection says which frames are chosen; a row is a selection with an Answerer, as BLIP-2 has it (zero-shot) or
fine-tuned on that very selection's frames. Around the default numbers of frames n and keyframes k one is changed at a
time. What `scorer=clip` and `selector=windows` need (a CLIP, a moment-retrieval model's spans of the questions) does
not exist for this world: they are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reproduction.runs import Options, Run
from sevila.errors import UserError
from sevila.files import read_jsonl, write_jsonl
from sevila.selection import build
from sevila.selection.rules import Candidates

DATA = "synthetic"
ZEROSHOT = "zeroshot"
KEYFRAMES = (1, 2, 4, 8)
FRAMES = (8, 16, 32, 64)
SELECTIONS = {
    "uniform": "uniform frames",
    "random": "random frames",
    "zero_shot": "Localizer, zero-shot",
    "pt": "Localizer, pre-trained on moments (PT)",
    "sr": "Localizer, refined from zero-shot (SR)",
    "pt_sr": "Localizer, PT + SR",
    "pt_sr_x2": "Localizer, PT + two rounds of SR",
    "pt_sr_published": "Localizer, PT + SR, labels as published",
    "true_windows": "Localizer, trained on true windows",
    "oracle": "frames inside the true windows",
}
REFINEMENTS = {  # selection: the one it was refined from, and what this is called
    "sr": ("zero_shot", "SR"),
    "pt_sr": ("pt", "PT + SR"),
    "pt_sr_x2": ("pt_sr", "second round"),
    "pt_sr_published": ("pt", "PT + SR, published labels"),
    "true_windows": ("zero_shot", "true windows"),
}
GROUPS = {
    "main": "Which frames, and which Answerer",
    "k": "Numbers of keyframes",
    "n": "Numbers of sampled frames",
    "train_test": "Frames at the Answerer's training / at the test (the paper's table 8)",
    "selectors": "Other selectors (zero-shot Answerer)",
}
UNSCORED = ("uniform", "random", "oracle")  # selectors that need no scores
TOP_K = "topk"
CURVES = ("uniform", "zero_shot", "pt_sr", "oracle")  # with the zero-shot Answerer
TUNED_CURVES = ("pt_sr",)  # with one that is fine-tuned on these very frames
TRAIN_TEST = "pt"  # the Localizer of the paper's table 8
SELECTORS = "pt_sr"  # the Localizer whose scores the other rules read


@dataclass(frozen=True)
class Numbers:
    """Frames sampled from a video, and keyframes chosen among them."""

    n: int
    k: int


@dataclass(frozen=True)
class Row:
    """A row of a table.

    key         its name, unique in the study
    selection   what chooses its frames: the name of its curve
    run         the evaluation that measures it; rows may share one
    """

    key: str
    group: str
    title: str
    selection: str
    answerer: str
    numbers: Numbers
    run: Run


def _run(entry: str, exp: str, alias: str, options: Options) -> Run:
    return Run.made(entry, exp, DATA, options, alias)


@dataclass(frozen=True)
class Runs:
    """The runs behind the rows, each by one name, which is its folder's; numbers are named where not the default."""

    default: Numbers

    # -- Localizers ---

    def pretrained(self) -> Run:
        return _run("train", "synthetic_pretrain", "pretrain", {})

    def refined(self, name: str, localizer: Run | None = None, answerer: Run | None = None, **more: int) -> Run:
        heads = {"localizer": localizer or ZEROSHOT, "answerer": answerer or ZEROSHOT}
        settings = {f"task.{key}": value for key, value in more.items()}
        return _run("refine", "synthetic_reverse", name, {**heads, **settings, **self._given(self.default)})

    def localizer(self, selection: str) -> Run | None:
        """The training of a selection's Localizer; None for the zero-shot one."""
        if selection == "zero_shot":
            return None
        if selection == "pt":
            return self.pretrained()
        if selection == "sr":
            return self.refined("refine")
        if selection == "pt_sr":
            return self.refined("refine_pretrained", self.pretrained())
        if selection == "pt_sr_x2":  # the fine-tuned Answerer labels anew: the paper does not say who labels
            return self.refined("refine_again", self.localizer("pt_sr"), self.forward("pt_sr", self.default))
        if selection == "pt_sr_published":
            return self.refined("refine_published", self.pretrained(), orders=1)
        return _run("refine", "synthetic_windows", "true_windows", {"localizer": ZEROSHOT, **self._given(self.default)})

    # -- Answerers ---

    def forward(self, selection: str, numbers: Numbers) -> Run:
        """The Answerer, fine-tuned on a selection's frames, chosen once."""
        name = f"forward_{selection}{self._suffix(numbers)}"
        return _run("train", "synthetic_forward", name, {**self._choice(selection), **self._given(numbers)})

    def forward_random(self) -> Run:
        """The Answerer, fine-tuned on k frames, each drawn anew from its k-th part of the video in every epoch."""
        frames = Numbers(self.default.k, self.default.k)
        options = {"selector": "uniform", "task.select_once": "false", **self._given(frames)}
        return _run("train", "synthetic_forward", "forward_random_of_parts", options)

    # -- evaluations ---

    def evaluated(self, selection: str, numbers: Numbers, answerer: Run | None = None, rule: str = TOP_K) -> Run:
        """The chain on the test questions. A Localizer scores n frames once, other rows read its scores."""
        name = f"{selection}{self._suffix(numbers)}{'' if rule == TOP_K else f'_{rule}'}"
        reader: Options = {} if answerer is None else {"answerer": answerer}
        if selection in UNSCORED or (answerer is None and rule == TOP_K and numbers.k == self.default.k):
            choice = self._choice(selection)
        else:
            scored = self.evaluated(selection, replace(numbers, k=self.default.k))
            file = Chosen.of(scored, rule, numbers.k, f"keyframes_{name}")
            choice = {"selector": "stored", "selector.file": file}
        alias = f"eval_{name}" if answerer is None else f"eval_{name}_by_{answerer.name}"
        return _run("eval", "synthetic_eval", alias, {**choice, **reader, **self._given(numbers)})

    def by_network(self, network: str) -> Run:
        """The chain with a scorer that the answers trained, `atp` or `perturbed`."""
        given = self._given(self.default)
        trained = _run("train", f"synthetic_{network}", network, given)
        options = {"selector": "topk", "scorer": network, "scorer.file": trained, **given}
        return _run("eval", "synthetic_eval", f"eval_{network}", options)

    def _choice(self, selection: str) -> Options:
        if selection in UNSCORED:
            return {"selector": selection}
        return {"localizer": self.localizer(selection) or ZEROSHOT}

    def _given(self, numbers: Numbers) -> Options:
        return {"frames.n": numbers.n, "selector.k": numbers.k}

    def _suffix(self, numbers: Numbers) -> str:
        k = "" if numbers.k == self.default.k else f"_k{numbers.k}"
        return k if numbers.n == self.default.n else f"{k}_n{numbers.n}"


def all_rows(default: Numbers) -> list[Row]:
    """Every row of the study, group by group."""
    runs = Runs(default)
    return [*_main(runs), *_curves(runs), *_train_test(runs), *_selectors(runs)]


def _row(runs: Runs, key: str, group: str, selection: str, numbers: Numbers, tuned: bool) -> Row:
    answerer = runs.forward(selection, numbers) if tuned else None
    run = runs.evaluated(selection, numbers, answerer)
    words = "fine-tuned" if tuned else "zero-shot"
    return Row(f"{key}_ft" if tuned else key, group, SELECTIONS[selection], selection, words, numbers, run)


def _main(runs: Runs) -> Iterator[Row]:
    for tuned in (False, True):
        for selection in SELECTIONS:
            yield _row(runs, selection, "main", selection, runs.default, tuned)


def _curves(runs: Runs) -> Iterator[Row]:
    default = runs.default
    changed = [("k", replace(default, k=k)) for k in sorted({*KEYFRAMES, default.k}) if k < default.n]
    changed += [("n", replace(default, n=n)) for n in sorted({*FRAMES, default.n}) if n >= default.k]
    for group, numbers in changed:
        start = f"{group}{getattr(numbers, group)}"
        for selection in CURVES:
            yield _row(runs, f"{start}_{selection}", group, selection, numbers, tuned=False)
        for selection in TUNED_CURVES:
            yield _row(runs, f"{start}_{selection}", group, selection, numbers, tuned=True)
    every = replace(default, k=default.n)  # uniform only, as in the paper's table 3, row A: nothing to choose
    yield _row(runs, f"k{every.k}_uniform", "k", "uniform", every, tuned=False)


def _train_test(runs: Runs) -> Iterator[Row]:
    trained = {"random": runs.forward_random(), "localizer": runs.forward(TRAIN_TEST, runs.default)}
    for before, answerer in trained.items():
        for test, selection in (("uniform", "uniform"), ("localizer", TRAIN_TEST)):
            run = runs.evaluated(selection, runs.default, answerer)
            title = f"{before} / {test}".replace("localizer", "Localizer (PT)")
            yield Row(f"{before}_{test}", "train_test", title, selection, "fine-tuned", runs.default, run)


def _selectors(runs: Runs) -> Iterator[Row]:
    titles = {"aks": "AKS over the scores of PT + SR", "bolt": "BOLT over the scores of PT + SR"}
    for rule, title in titles.items():
        run = runs.evaluated(SELECTORS, runs.default, rule=rule)
        yield Row(rule, "selectors", title, rule, "zero-shot", runs.default, run)
    titles = {"atp": "ATP, trained by the answers", "perturbed": "differentiable top-K, trained by the answers"}
    for network, title in titles.items():
        yield Row(network, "selectors", title, network, "zero-shot", runs.default, runs.by_network(network))


def chosen(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows of the groups, or of the names, that were asked for; all of them without any. UserError for others."""
    known = {*(row.group for row in rows), *(row.key for row in rows)}
    for word in words:
        if word not in known:
            raise UserError(f"--rows {word}: there are {', '.join(GROUPS)} and {', '.join(row.key for row in rows)}")
    return [row for row in rows if not words or row.key in words or row.group in words]


# -- keyframes by the scores that an evaluation left: another rule or number, without scoring frames again ---
#
# Scoring is nearly all that an evaluation costs. predictions.jsonl holds every frame's score to six digits, which is as
# good as in full: a row may depend on them only where two frames differ in the seventh.

CHOOSE = "choose"  # in the place of an entry point's name


@dataclass(frozen=True)
class Chosen(Run):
    """A file of keyframes for `selector=stored`, made by this module: its options are those of `choose`."""

    @classmethod
    def of(cls, scored: Run, rule: str, k: int, name: str) -> Chosen:
        """The k frames that a rule chooses by the scores of an evaluation."""
        options = (("predictions", scored), ("rule", rule), ("k", str(k)))
        return cls(CHOOSE, scored.exp, scored.data, options, f"{name}.jsonl")

    @property
    def trained(self) -> bool:
        return any(run.trained for run in self.needs)


def choose(run_dir: Path, rule: str, k: int, out: Path) -> None:
    """Write the keyframes that the rule takes, question by question, by the scores in a run's predictions.jsonl."""
    selector = build(rule, {"k": k})
    rows = []
    for row in read_jsonl(run_dir / "predictions.jsonl"):
        frames = row["frames"]
        times, indices, scores = (tuple(frame[key] for frame in frames) for key in ("time", "index", "score"))
        places = selector.select(Candidates(row["qid"], times, indices, list(scores), None))
        rows.append({"qid": row["qid"], "keyframes": [frames[place] for place in places]})
    write_jsonl(out, rows)
