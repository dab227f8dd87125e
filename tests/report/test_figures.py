from __future__ import annotations

import io
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from answered import IMAGES, LINE, SCORES, TIMES
from sevila.report.figures import (
    BLUE,
    DPI,
    GREEN,
    PALE,
    RED,
    WIDTH,
    draw_example,
    new_figure,
    png_bytes,
    save_png,
    text_width,
    wrap,
)
from sevila.report.timeline import Example, Timeline

REPOSITORY = Path(__file__).resolve().parents[2]
texts = st.text(alphabet="abWi .$\n\t", max_size=120)


@given(texts, st.floats(0.5, 4), st.sampled_from(["normal", "bold"]))
@example("", 1.0, "normal")
@example("W" * 100, 0.5, "bold")
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: float, weight: str) -> None:
    lines = wrap(text, width, 12, weight, most=1000)
    assert "".join(lines).replace(" ", "") == "".join(text.split())
    assert all(text_width(line, 12, weight) <= width for line in lines)
    assert lines and (lines == [""] or "" not in lines)


def test_lines_break_between_words_where_they_can() -> None:
    assert wrap("one two  three", 10, 12) == ["one two three"]
    assert wrap("one two three", text_width("one two", 12) + 0.01, 12) == ["one two", "three"]


def test_too_long_a_text_ends_in_an_ellipsis() -> None:
    lines = wrap("word " * 100, 2, 12, most=3)
    assert len(lines) == 3 and lines[-1].endswith("word…") and text_width(lines[-1], 12) <= 2
    assert lines[:2] == wrap("word " * 100, 2, 12, most=100)[:2]


def test_png_has_the_size_of_the_figure_and_equal_bytes(tmp_path: Path) -> None:
    def figure():  # type: ignore[no-untyped-def]
        made = new_figure(2.0)
        made.add_axes((0.1, 0.1, 0.5, 0.5)).plot([0, 1], [1, 0])
        return made

    data = png_bytes(figure())
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and image.size == (round(WIDTH * DPI), 2 * DPI)
    assert np.asarray(image.convert("RGB")).min() < 100 < 255 == np.asarray(image.convert("RGB")).max()
    assert png_bytes(figure()) == data
    save_png(figure(), tmp_path / "new" / "figure.png")
    assert (tmp_path / "new" / "figure.png").read_bytes() == data
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["figure.png"]


def test_matplotlib_comes_when_something_is_drawn_and_pyplot_never() -> None:
    code = (
        "import sys\n"
        "from sevila.report import figures, page, run_page, terminal, timeline\n"
        "heavy = {'matplotlib', 'torch', 'hydra', 'transformers', 'omegaconf'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "figures.png_bytes(figures.new_figure(1.0))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "assert not heavy - {'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- an answered question ---


def drawn(line: Timeline = LINE, images: list[np.ndarray] = IMAGES) -> Figure:
    figure = draw_example(Example(line, images))
    figure.canvas.draw()  # the layout is made now
    return figure


def axes(figure: Figure, label: str) -> Axes:
    (found,) = [a for a in figure.axes if a.get_label() == label]
    return found


def test_the_curve_is_the_scores_over_time() -> None:
    time = axes(drawn(), "time")
    frames, chosen = time.lines
    np.testing.assert_array_equal(frames.get_xydata(), np.column_stack([TIMES, SCORES]))
    assert frames.get_linestyle() == "-" and frames.get_marker() == "o"
    np.testing.assert_array_equal(chosen.get_xydata(), [(2.5, 3.25), (3.5, 2.0), (5.5, 1.5)])
    assert [(note.get_text(), note.xy) for note in time.texts] == [
        ("1", (2.5, 3.25)),
        ("2", (3.5, 2.0)),
        ("3", (5.5, 1.5)),
    ]
    assert [(p.get_x(), p.get_x() + p.get_width()) for p in time.patches] == [(2.0, 4.0), (5.25, 5.75)]
    assert time.get_xlim() == (0.0, 8.0)
    names = [text.get_text() for text in time.get_legend().get_texts()]
    assert names == ["true moment", "sampled frame", "keyframe"]


def test_without_scores_the_frames_lie_on_a_line_without_a_scale() -> None:
    figure = drawn(replace(LINE, scores=None, windows=None))
    time = axes(figure, "time")
    frames, chosen = time.lines
    np.testing.assert_array_equal(frames.get_xydata(), [(t, 0.0) for t in TIMES])
    np.testing.assert_array_equal(chosen.get_xdata(), [2.5, 3.5, 5.5])
    assert frames.get_linestyle() == "None" and len(time.get_yticks()) == 0 and not time.patches
    assert time.get_title("left") == "frames chosen without scores"
    assert "true moment" not in [text.get_text() for text in time.get_legend().get_texts()]
    assert axes(figure, "keyframe 2").get_xlabel() == "2: 3.50 s"


def test_thumbnails_are_the_images_in_time_order() -> None:
    figure = drawn()
    below = ["2.50 s\nscore 3.25", "3.50 s\nscore 2.00", "5.50 s\nscore 1.50"]
    for number, image in enumerate((IMAGES[1], IMAGES[2], IMAGES[0]), start=1):
        shot = axes(figure, f"keyframe {number}")
        np.testing.assert_array_equal(shot.images[0].get_array(), image)
        assert shot.get_xlabel() == f"{number}: {below[number - 1]}"
    left = [axes(figure, f"keyframe {n}").get_position().x0 for n in (1, 2, 3)]
    assert left == sorted(left)


def test_many_keyframes_stand_in_even_rows_that_do_not_overlap() -> None:
    many = replace(LINE, times=tuple(range(40)), scores=tuple(map(float, range(40))), duration=40.0)
    for k, rows in ((1, 1), (4, 1), (5, 2), (8, 2), (9, 2), (32, 4)):
        figure = drawn(replace(many, keyframes=tuple(range(k))), [IMAGES[0]] * k)
        places = [axes(figure, f"keyframe {n + 1}").get_window_extent() for n in range(k)]
        assert len({round(place.y0) for place in places}) == rows
        top = axes(figure, "time").get_window_extent().y0
        assert all(0 < p.x0 < p.x1 <= figure.bbox.x1 and 0 < p.y0 < p.y1 < top for p in places)
        for i, one in enumerate(places):
            assert not any(one.overlaps(other) for other in places[i + 1 :])


@pytest.mark.parametrize(
    ("answer", "signs", "colour"),
    [(1, ["", "✓ ", ""], GREEN), (2, ["", "✗ ", "✓ "], RED), (None, ["", "▸ ", ""], BLUE)],
)
def test_options_carry_probabilities_and_the_verdict(answer: int | None, signs: list[str], colour: str) -> None:
    line = replace(LINE, answer=answer)
    figure = drawn(line)
    bars = axes(figure, "options")
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.625, 0.125]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars.patches] == [PALE, colour, PALE]
    assert [text.get_text() for text in bars.texts] == ["25.0 %", "62.5 %", "12.5 %"]
    names = bars.get_yticklabels()
    assert [name.get_text() for name in names] == [
        f"{sign}{letter}  {text}" for sign, letter, text in zip(signs, "ABC", LINE.options, strict=True)
    ]
    assert [name.get_weight() for name in names] == ["normal", "bold", "normal"]
    assert [text.get_text() for part in figure.subfigs for text in part.texts] == [line.question, line.verdict]


def boxes(figure: Figure) -> list:
    """Of everything that is written or drawn."""
    renderer = figure.canvas.get_renderer()
    texts = [text for part in figure.subfigs for text in part.texts]
    return [text.get_window_extent(renderer) for text in texts] + [a.get_tightbbox(renderer) for a in figure.axes]


def test_long_texts_stay_inside_the_figure_do_not_overlap_and_dollars_are_no_formula() -> None:
    long = replace(
        LINE,
        question="why did she pay $5 and not $x_2$ " * 8,
        options=("because " * 40, "W" * 200, r"$\frac$"),
        probabilities=(0.0, 1.0, 0.0),
        label="a/very/long/path/" * 20,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawn(long)
    places = boxes(figure)
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in places)
    for i, one in enumerate(places):
        assert not any(one.overlaps(other) for other in places[i + 1 :])
    texts = " ".join(text.get_text() for part in figure.subfigs for text in part.texts)
    assert "why did she pay $5 and not $x_2$" in texts
    image = Image.open(io.BytesIO(png_bytes(figure)))
    width, height = figure.get_size_inches()
    assert image.width == WIDTH * DPI == width * DPI and abs(image.height - height * DPI) <= 1


def test_a_query_has_no_options() -> None:
    figure = drawn(replace(LINE, options=(), prediction=None, answer=None, probabilities=()))
    assert [a.get_label() for a in figure.axes] == ["time", "keyframe 1", "keyframe 2", "keyframe 3"]
