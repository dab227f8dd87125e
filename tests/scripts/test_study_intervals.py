"""Figures of numbers with intervals: what stands where."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from parsed_page import read_page
from sevila.report.figures import new_figure, png_bytes
from sevila.report.page import Picture, write_page
from study.intervals import Estimate, Panel, curves_figure, dots_figure, points_figure, svg_text

A, B, C = Estimate(50, 40, 65), Estimate(20, 15, 22), Estimate(70, 70, 70)


def bars(container: object) -> list[list[float]]:
    """Ends of the intervals, (low, high) in drawing order."""
    (lines,) = container.lines[2]
    return [sorted(np.ptp(segment, axis=0).tolist()) for segment in lines.get_segments()]


def image(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png_bytes(figure))).convert("RGB"))


def test_dots_stand_at_their_means() -> None:
    panels = [Panel("accuracy", {"one": [A, None], "two": [B, C]}), Panel("recall", {"one": [C, B]})]
    figure = dots_figure(["first $row$", "second"], panels, line=30)
    left, right = figure.axes
    assert [axes.get_label() for axes in figure.axes] == ["accuracy", "recall"]
    assert [container.get_label() for container in left.containers] == ["one", "two"]
    assert left.containers[0].lines[0].get_xdata().tolist() == [50]
    assert left.containers[1].lines[0].get_xdata().tolist() == [20, 70]
    one, two = (container.lines[0].get_ydata() for container in left.containers)
    assert one[0] < 0 < two[0] and two[1] - two[0] == pytest.approx(1)  # beside each other, one unit a label
    assert right.containers[0].lines[0].get_ydata().tolist() == [0, 1]
    assert bars(left.containers[0]) == [[0, 25]] and bars(left.containers[1]) == [[0, 7], [0, 0]]
    assert [text.get_text() for text in left.get_yticklabels()] == ["first $row$", "second"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert [line.get_xdata()[0] for line in left.lines if line.get_linestyle() == "--"] == [30]
    low, high = left.get_ylim()
    assert low > 1 > 0 > high  # from top to bottom
    colours = [container.lines[0].get_color() for container in (*left.containers, *right.containers)]
    assert colours[0] == colours[2] != colours[1]  # a series keeps its colour


def test_one_series_of_dots_needs_no_legend() -> None:
    figure = dots_figure(["a", "b"], [Panel("effect", {"effect": [A, B]})])
    assert not figure.legends and figure.axes[0].containers[0].lines[0].get_ydata().tolist() == [0, 1]


def test_curves_go_through_their_means() -> None:
    panels = [Panel("accuracy", {"uniform": [B, A, None, C], "oracle": [None, C, C, C]})]
    figure = curves_figure([1, 2, 4, 8], panels, "keyframes")
    (axes,) = figure.axes
    uniform, oracle = axes.containers
    assert uniform.lines[0].get_ydata().tolist() == [20, 50, 70]
    assert uniform.lines[0].get_xdata().tolist() == pytest.approx([1, 2, 8], rel=0.03)
    assert oracle.lines[0].get_ydata().tolist() == [70, 70, 70]
    assert oracle.lines[0].get_xdata().tolist() == pytest.approx([2, 4, 8], rel=0.03)
    assert uniform.lines[0].get_xdata()[1] < 2 < oracle.lines[0].get_xdata()[0]  # beside each other
    assert bars(uniform) == [[0, 7], [0, 25], [0, 0]]
    assert axes.get_xscale() == "log" and axes.get_xticks().tolist() == [1, 2, 4, 8]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8"]
    assert axes.get_xlabel() == "keyframes"


def test_points() -> None:
    figure = points_figure({"SR": [(24.0, -3.0), (80.0, 5.0)], "PT": []}, "precision", "gain")
    (axes,) = figure.axes
    assert axes.get_label() == "points" and (axes.get_xlabel(), axes.get_ylabel()) == ("precision", "gain")
    assert axes.lines[0].get_xydata().tolist() == [[24, -3], [80, 5]] and len(axes.lines[1].get_xdata()) == 0
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SR", "PT"]


def test_everything_fits_and_equal_figures_are_equal() -> None:
    """Many rows with long names and six series: nothing is cut off at the picture's edges."""
    labels = [f"a rather long name of a row, number {i}" for i in range(12)]
    series = {f"series with a name {i}": [A] * 12 for i in range(6)}
    panels = [Panel("accuracy, percent", series), Panel("keyframe recall, percent", series)]
    figures = (
        lambda: dots_figure(labels, panels, line=0.0),
        lambda: curves_figure([2**i for i in range(12)], panels, "keyframes"),
        lambda: points_figure({name: [(1, 2)] for name in series}, "precision", "gain"),
    )
    for make in figures:
        picture = image(make())
        assert (picture == image(make())).all()
        rim = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
        assert (rim == 255).all() and (picture[:, :3] == 255).all() and (picture[:, -3:] == 255).all()


def test_a_mean_outside_of_its_interval_is_drawn_all_the_same() -> None:
    figure = dots_figure(["a"], [Panel("effect", {"effect": [Estimate(5, 6, 8)]})])
    assert bars(figure.axes[0].containers[0]) == [[0, 3]]


def test_a_figure_takes_the_ink_of_the_page_and_names_are_its_own(tmp_path: Path) -> None:
    def figure(height: float):
        made = new_figure(height)
        made.add_axes((0.1, 0.1, 0.8, 0.8)).plot([0, 1], [1, 0], color="#222222")
        return made

    assert svg_text(figure(1.5)) == svg_text(figure(1.5))
    pictures = [Picture(svg_text(figure(height)), f"a line, {height}") for height in (1.5, 2.0)]
    write_page(tmp_path / "page.html", "T", pictures)
    page = read_page(tmp_path / "page.html")  # no name twice
    assert page.tags.count("svg") == 2 and "stroke: currentColor" in pictures[0].svg
