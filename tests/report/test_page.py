from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsed_page import read_page
from sevila.report.page import Beside, Facts, Heading, Link, Picture, Table, Text, write_page
from sevila.report.terminal import cell_text

NASTY = """<script>alert("1")</script> & 'it' </p><img src=x>{{ 1 }}{% if %}"""


def test_everything_is_escaped_and_comes_back_as_written(tmp_path: Path) -> None:
    blocks = [
        Heading(NASTY),
        Text(NASTY),
        Facts({NASTY: NASTY, "link": Link(NASTY, tmp_path / "none")}),
        Table((NASTY,), [(NASTY,)], caption=NASTY),
        Picture("<svg></svg>", NASTY, NASTY),
    ]
    write_page(tmp_path / "page.html", NASTY, blocks)
    page = read_page(tmp_path / "page.html")
    for tag in ("title", "h1", "h2", "p", "button", "td"):
        assert page.texts[tag] == [NASTY], tag
    assert page.texts["dt"] == [NASTY, "link"] and page.texts["dd"] == [NASTY, NASTY]
    assert page.texts["figcaption"] == [NASTY, NASTY]
    assert [values["aria-label"] for values in page.all("div") if "aria-label" in values] == [NASTY]
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_blocks_beside_each_other(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "two", [Beside([Text("left"), Text("right")]), Text("below")])
    page = read_page(tmp_path / "page.html")
    assert page.tags[-5:] == ["div", "p", "p", "p", "script"] and page.texts["p"] == ["left", "right", "below"]


def test_numbers_are_right_aligned_and_the_best_is_bold(tmp_path: Path) -> None:
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
        bars={2: 20.0, 3: None},
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
    widths = [values["style"] for values in page.all("span") if "style" in values]
    assert widths == [f"width: {number}%" for number in (24.5, 61.256, 70.0, 61.256, 8.0, 61.256, 100.0)]
    assert [values["style"] for values in page.all("i")] == ["left: 20.0%"] * 4


def test_links_are_relative_and_only_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run/report.html").write_text("x")
    there, gone = Link("there", tmp_path / "a run/report.html"), Link("gone", tmp_path / "other/report.html")
    write_page(tmp_path / "pages/page.html", "T", [Facts({"one": there, "two": gone}), Table(("run",), [(there,)])])
    page = read_page(tmp_path / "pages/page.html")
    assert [link["href"] for link in page.all("a")] == ["../a%20run/report.html"] * 2
    assert page.texts["a"] == ["there", "there"] and page.texts["dd"] == ["gone"]


def test_contents_of_a_page_with_many_headings(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "T", [Heading("one"), Text("x"), Heading("two")])
    assert "nav" not in read_page(tmp_path / "page.html").tags
    write_page(tmp_path / "page.html", "T", [Heading("same"), Text("x"), Heading("same"), Heading("<three>")])
    page = read_page(tmp_path / "page.html")
    assert page.texts["a"] == ["same", "same", "<three>"]
    assert [link["href"] for link in page.all("a")] == [f"#{head['id']}" for head in page.all("h2")]


def test_blocks_stand_in_order_on_a_page_for_phones_and_dark_rooms(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "T", [Text("one"), Heading("two"), Text("three"), Facts({"a": "b", "c": "d"})])
    page = read_page(tmp_path / "page.html")
    start = page.tags.index("h1")
    assert page.tags[start:] == ["h1", "p", "h2", "p", "dl", "dt", "dd", "dt", "dd", "script"]
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text


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
    shown = [row[0] for row in Table(("x",), [(cell,) for cell in cells], best=(0,)).lines()]
    known = [cell for cell in cells if cell is not None]
    assert [cell for cell, best in shown if best] == [cell for cell in known if cell == max(known)]
