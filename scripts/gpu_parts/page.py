"""The page of a check: how each part ended, then what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gpu_parts.base import MISSED, NOT_REACHED, PASSED, TIMED_OUT, Check, Lines, Outcome
from sevila.report.figures import BLUE, GREY, INK, ORANGE, SMALL, new_figure
from sevila.report.page import Block, Facts, Heading, Picture, Table, Text, write_page
from study.intervals import svg_text

VERDICTS = {True: "yes", False: "NO", None: "–"}
STYLES = ((GREY, "-"), (BLUE, "o-"), (ORANGE, "s-"))


def write(path: Path, facts: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """Write the page, whole after every part."""
    write_page(path, "SeViLA on a device", list(blocks(facts, outcomes)))


def blocks(facts: Mapping[str, str], outcomes: Sequence[Outcome]) -> Iterator[Block]:
    yield Facts(dict(facts))
    rows = [(each.title, each.state, each.seconds, each.limit, trouble(each)) for each in outcomes]
    yield Table(("part", "ended", "seconds", "limit", "what is wrong"), rows)
    for each in outcomes:
        yield Heading(each.title)
        if each.found is None:
            yield Text(ending(each))
            if each.tail:
                yield Table(("what it said last",), [(line,) for line in each.tail.splitlines()])
            continue
        if each.found.checks:
            yield Table(("looked at", "found", "wanted", "met"), [_row(check) for check in each.found.checks])
        for chart in each.found.charts:
            yield Picture(svg_text(figure(chart)), chart.title, chart.title)
        for grid in each.found.grids:
            if grid.rows:
                yield Table(grid.header, grid.rows, grid.caption)


def _row(check: Check) -> tuple[str, str, str, str]:
    return check.what, check.found, check.wanted, VERDICTS[check.passed]


def trouble(outcome: Outcome) -> str:
    """In a few words, what did not go as wanted."""
    if outcome.state == PASSED:
        return ""
    if outcome.state == MISSED and outcome.found is not None:
        missed = [check for check in outcome.found.checks if check.passed is False]
        return "; ".join(f"{check.what}: {check.found} (wanted: {check.wanted})" for check in missed)
    if outcome.state in (TIMED_OUT, NOT_REACHED):
        return ending(outcome)
    return outcome.tail.splitlines()[-1] if outcome.tail else "no message"


def ending(outcome: Outcome) -> str:
    """How a part ended that left nothing."""
    if outcome.state == NOT_REACHED:
        return "Not begun: the time of the whole was used up."
    if outcome.state == TIMED_OUT:
        return f"Ended after {outcome.seconds:.0f} s: its limit."
    return "It failed."


def figure(chart: Lines) -> object:
    """A line a name, over the steps."""
    drawn = new_figure(2.9)
    axes = drawn.add_axes((0.07, 0.16, 0.91, 0.72))
    for (colour, marker), (name, points) in zip(STYLES, chart.lines.items(), strict=False):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, marker, color=colour, linewidth=2, markersize=4, label=name)
    axes.set_xlabel("step", fontsize=SMALL, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=SMALL, color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, ncols=3, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return drawn
