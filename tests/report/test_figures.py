from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from sevila.report.figures import DPI, WIDTH, axes_at, new_figure, png_bytes, save_png, text_width, wrap

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


def test_places_are_inches_from_the_upper_left() -> None:
    figure = new_figure(4.0)
    axes = axes_at(figure, 1, 0.5, 2, 1.5, "here")
    x, y, width, height = axes.get_position().bounds
    np.testing.assert_allclose([x * WIDTH, (1 - y) * 4, width * WIDTH, height * 4], [1, 2, 2, 1.5])
    assert axes.get_label() == "here"


def test_png_has_the_size_of_the_figure_and_equal_bytes(tmp_path: Path) -> None:
    def figure():  # type: ignore[no-untyped-def]
        made = new_figure(2.0)
        axes_at(made, 1, 0.2, 4, 1).plot([0, 1], [1, 0])
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
        "from sevila.report import figures, metrics_table, page, terminal, timeline\n"
        "heavy = {'matplotlib', 'torch', 'hydra', 'transformers', 'omegaconf'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "figures.png_bytes(metrics_table.curves_figure([{'step': 1, 'train/loss': 2.0}]))\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "assert not heavy - {'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
