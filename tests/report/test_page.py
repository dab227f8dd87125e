from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.report.figures import DPI, WIDTH, axes_at, new_figure
from sevila.report.page import Beside, Facts, Heading, Picture, Table, Text, cell_text, write_page

NASTY = """<script>alert("1")</script> & 'it' </p><img src=x>"""


def test_everything_is_escaped_and_comes_back_as_written(tmp_path: Path, read_page) -> None:
    figure = new_figure(1.0)
    blocks = [
        Heading(NASTY),
        Text(NASTY),
        Facts({NASTY: NASTY}),
        Table((NASTY,), [(NASTY,)], caption=NASTY),
        Picture.of(figure, NASTY, NASTY),
    ]
    write_page(tmp_path / "page.html", NASTY, blocks)
    page = read_page(tmp_path / "page.html")
    for tag in ("title", "h1", "h2", "p", "dt", "dd", "th", "td", "caption", "figcaption"):
        assert page.texts[tag] == [NASTY], tag
    assert [alt for _, alt in page.images] == [NASTY]
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_pictures_beside_each_other(tmp_path: Path, read_page) -> None:
    pictures = [Picture.of(new_figure(height), f"picture {height}") for height in (1.0, 2.0)]
    write_page(tmp_path / "page.html", "two", [Beside(pictures), Text("below")])
    page = read_page(tmp_path / "page.html")
    assert [alt for _, alt in page.images] == ["picture 1.0", "picture 2.0"]
    assert page.tags[-6:] == ["div", "figure", "img", "figure", "img", "p"]


def test_numbers_are_right_aligned_and_the_best_is_bold(tmp_path: Path, read_page) -> None:
    table = Table(
        ("row", "k", "accuracy", "recall"),
        [
            ("uniform", 4, 24.5, None),
            ("found", 4, 61.256, 70.0),
            ("also", 4, 61.256, 8.0),
            ("knows", 4, 61.256, 100.0),
        ],
        best=(2, 3),
        unranked=(3,),
    )
    write_page(tmp_path / "page.html", "T", [table])
    page = read_page(tmp_path / "page.html")
    assert page.cells == [
        ["row", "k", "accuracy", "recall"],
        ["uniform", "4", "24.50", "–"],
        ["found", "4", "61.26", "70.00"],
        ["also", "4", "61.26", "8.00"],
        ["knows", "4", "61.26", "100.00"],
    ]
    assert all([number for _, number, _ in row] == [False, True, True, True] for row in page.rows)
    bold = [(text, row[0][0]) for row in page.rows for text, _, strong in row if strong]
    assert bold == [("61.26", "found"), ("70.00", "found"), ("61.26", "also")]


def test_a_picture_travels_inside(tmp_path: Path, read_page) -> None:
    figure = new_figure(1.5)
    axes_at(figure, 0, 0, WIDTH, 1.5).imshow(np.full((2, 2, 3), (200, 30, 40), np.uint8), aspect="auto")
    write_page(tmp_path / "page.html", "T", [Picture.of(figure, "red")])
    ((image, alt),) = read_page(tmp_path / "page.html").images
    assert image.shape == (round(1.5 * DPI), round(WIDTH * DPI), 3) and alt == "red"
    assert image[80, 500].tolist() == [200, 30, 40]


def test_blocks_stand_in_order_on_a_page_for_phones(tmp_path: Path, read_page) -> None:
    write_page(tmp_path / "page.html", "T", [Text("one"), Heading("two"), Text("three"), Facts({"a": "b", "c": "d"})])
    page = read_page(tmp_path / "page.html")
    assert page.tags[page.tags.index("h1") :] == ["h1", "p", "h2", "p", "dl", "dt", "dd", "dt", "dd"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "name='viewport'" in text and "prefers-color-scheme: dark" in text


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under a header of 2"):
        Table(("a", "b"), [(1, 2), (3,)])


def test_cells() -> None:
    assert [cell_text(cell) for cell in (None, 0.0, 12.345, 7, "x", True)] == [
        "–",
        "0.00",
        "12.35",
        "7",
        "x",
        "True",
    ]


@given(st.lists(st.one_of(st.none(), st.floats(0, 100), st.integers(0, 100)), min_size=1, max_size=8))
def test_what_is_bold_is_the_highest(cells: list) -> None:
    html = Table(("x",), [(cell,) for cell in cells], best=(0,)).html()
    known = [cell for cell in cells if cell is not None]
    expected = [cell_text(cell) for cell in known if cell == max(known)]
    assert [part.split("<")[0] for part in html.split("<strong>")[1:]] == expected
