"""The numbers of one run: a table on the terminal, and the run folder's report.html with the curves of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sevila.report.page import Block, Facts, Heading, Link, Table, Text, write_page
from sevila.report.terminal import Cell, cell_text, plain_table, printable
from sevila.report.timeline import Axis

if TYPE_CHECKING:
    from rich.console import Console

FIRST = ("accuracy", "accuracy_by_type", "keyframe_recall", "keyframe_hit")  # the other metrics follow, n is last
STEP = "step"  # of the best head: no percentage
PAGE = "report.html"
HIDDEN = "The answers of this split are hidden: nothing can be measured. predictions.jsonl holds what was found."


def metric_rows(metrics: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """Metrics as (name, value), in the order they are read; those of a group are named "group, member"."""
    order = [key for key in FIRST if key in metrics]
    order += [key for key in metrics if key not in FIRST and key != "n"]
    order += ["n"] * ("n" in metrics)
    rows: list[tuple[str, Cell]] = []
    for key in order:
        name, value = key.removesuffix("_by_type").replace("_", " "), metrics[key]
        if isinstance(value, Mapping):
            rows += [(f"{name}, {member}", number) for member, number in value.items()]
        else:
            rows.append((name, value))
    return rows


def print_metrics(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what metrics.json holds, on stdout where no console is given. Percent, but for n."""
    from rich.console import Console
    from rich.text import Text as Line

    table = plain_table()
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in metric_rows(metrics):
        table.add_row(Line(printable(name)), Line("-" if value is None else cell_text(value)))
    (console or Console()).print(table)


def run_page(
    folder: Path,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    metrics: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]] = (),
    examples: Sequence[Block] = (),
) -> None:
    """Write the report of the run in `folder` as one self-contained page: facts, metrics, training curves, examples.

    config, environment, metrics   what config.yaml, environment.json and metrics.json hold
    records                        the lines of metrics.jsonl, in their order
    """
    blocks: list[Block] = [Facts(run_facts(config, environment, metrics))]
    measured = {key: value for key, value in metrics.items() if key != STEP}
    if measured:
        caption = "Percent; n counts questions or queries." if "n" in measured else "Percent."
        blocks.append(Table(("metric", "value"), metric_rows(measured), caption))
    if measured.get("n") == 0:
        blocks.append(Text(HIDDEN))
    curves = curves_of(records)
    if curves:
        blocks += [Heading("Training"), Charts(curves, metrics.get(STEP))]
    write_page(folder / PAGE, f"{config['exp']}: {folder.name}", [*blocks, *examples])


def run_facts(
    config: Mapping[str, Any], environment: Mapping[str, Any], metrics: Mapping[str, Any]
) -> dict[str, str | Link]:
    """What made the numbers: experiment, model, heads, data, selection, seed, training; when, where, by which code."""
    model, data, selector = config["model"], config["data"], config["selector"]
    scorer = config.get("scorer", {}).get("name", "localizer")
    chosen = f"{selector['name']}, k = {selector['k']} of {config['frames']['n']} frames"
    seed = [f"seed {data['seed']}"] if "seed" in data else []
    split = [f"split {config['split']}"] if "split" in config else []
    facts: dict[str, str | Link] = {
        "Experiment": f"{config['entry']} +exp={config['exp']}",
        "Task": config["task"]["name"],
        "Model": f"{model_fact(model['source'])}, {config['precision']}",
        "Localizer": _made_by(config["localizer"]),
        "Answerer": _made_by(config["answerer"]),
        "Data": ", ".join([data["name"], *seed, *split]),
        "Selector": chosen if scorer == "localizer" else f"{chosen}, scores by {scorer}",
        "Seed": str(config["seed"]),
    }
    if selector.get("file"):
        facts["Keyframes from"] = _made_by(selector["file"])
    if "trainer" in config:
        trainer = config["trainer"]
        facts["Training"] = f"{trainer['epochs']} epochs, batches of {trainer['batch_size']}, lr {trainer['lr']:g}"
    if STEP in metrics:
        facts["Best step"] = str(metrics[STEP])
    packages = {"sevila": environment["sevila"], "python": environment["python"], **environment["packages"]}
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in packages.items() if version is not None)
    facts["Machine"] = f"{environment['device']}; {environment['platform']}"
    facts["Commit"] = environment["commit"] or "not known"
    facts["Started"] = environment["started"].replace("T", " ")
    return facts


def model_fact(source: str) -> str:
    """A model's name as pages give it; the tiny one with what it is good for."""
    return f"{source} (of the drawn world, good for that world alone)" if source == "tiny" else source


def _made_by(place: str) -> str | Link:
    """A head or a file as the configuration names it, with a link to the page of the run that made it."""
    path = Path(place)
    folder = path if path.is_dir() else path.parent
    return Link(place, folder / PAGE) if (folder / PAGE).is_file() and folder != Path() else place


# -- a training's curves ---


PERCENT_SPAN = 10.0  # of an axis of percent at least: a change of 0.01 is not to look like a leap


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a training.

    name     its key in metrics.jsonl: train/loss, or val/ and a metric in percent
    points   (step, value), in order
    """

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def title(self) -> str:
        kind, _, metric = self.name.partition("/")
        return f"validation: {metric.replace('_', ' ')}, percent" if kind == "val" else f"training {metric}"

    @property
    def values(self) -> Axis:
        numbers = [value for _, value in self.points]
        if self.name.startswith("val/"):
            inside = (0.0, 100.0) if all(0 <= number <= 100 for number in numbers) else None
            return Axis.around(numbers, PERCENT_SPAN, inside)
        return Axis.around([0.0, *numbers])


@dataclass(frozen=True)
class Charts:
    """A panel for each curve, side by side where there is room; `best` is the step that is marked, if any."""

    curves: Sequence[Curve]
    best: int | None = None
    template: ClassVar[str] = "charts.html.j2"

    def places(self, curve: Curve) -> list[tuple[float, float]]:
        """Where the curve's points stand, in percent from the left and from below."""
        return [(self.steps.at(step), curve.values.at(value)) for step, value in curve.points]

    @property
    def steps(self) -> Axis:
        last = max(step for curve in self.curves for step, _ in curve.points)
        return Axis(0, 1.03 * max(last, 1))


def curves_of(records: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """The curves of train/loss and then of every val/... metric by name, from the lines of metrics.jsonl."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name == "train/loss" or name.startswith("val/"):
                points.setdefault(name, []).append((record["step"], value))
    return [Curve(name, points[name]) for name in sorted(points)]
