"""An answered question as a part of a page: what stands where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from answered import IMAGES, LINE, SCORES, TIMES
from parsed_page import ParsedPage, read_page
from sevila.report.page import write_page
from sevila.report.timeline import Example, Timeline


def shown(tmp_path: Path, line: Timeline, images: list[np.ndarray] = IMAGES, asks: bool = True) -> ParsedPage:
    write_page(tmp_path / "page.html", "T", [Example(line, images, asks)])
    return read_page(tmp_path / "page.html")


def spots(page: ParsedPage, kind: str) -> list[tuple[float, float]]:
    """Places of frames in percent of the drawing, from the left and from above."""
    return [(float(c["cx"][:-1]), float(c["cy"][:-1])) for c in page.all("circle", kind)]


def test_the_curve_is_the_scores_over_time(tmp_path: Path) -> None:
    page = shown(tmp_path, LINE)
    keys, frames = spots(page, "key"), spots(page, "frame")
    assert [x for x, _ in keys] == [31.25, 43.75, 68.75]  # of 8 seconds
    assert sorted(x for x, _ in [*keys, *frames]) == [100 * time / 8 for time in TIMES]
    ups = {x: 100 - y for x, y in [*keys, *frames]}
    places = np.array([ups[100 * time / 8] for time in TIMES])
    slopes = np.diff(places) / np.diff(SCORES)
    assert slopes == pytest.approx(np.full(7, slopes[0]), abs=0.02) and 0 < places.min() < places.max() < 100
    (points,) = [values["points"] for values in page.all("polyline")]
    line = [tuple(map(float, point.split(","))) for point in points.split()]
    assert line == [(100 * time / 8, pytest.approx(100 - ups[100 * time / 8])) for time in TIMES]
    assert page.texts["text"] == ["1", "2", "3"]  # the keyframes' numbers
    assert [(f"{x}%", "-10") for x, _ in keys] == [(text["x"], text["dy"]) for text in page.all("text")]
    assert [(r["x"], r["width"]) for r in page.all("rect", "true")] == [("25.0%", "25.0%"), ("65.62%", "6.26%")]
    tips = page.texts["title"][1:]
    assert tips[:2] == ["true moment: 2.0 to 4.0 s", "true moment: 5.2 to 5.8 s"]
    assert "2.50 s, score 3.25" in tips and len(tips) == 2 + len(TIMES)
    legend = [text for text in page.texts["span"] if text in ("sampled frame", "keyframe", "true moment")]
    assert legend == ["sampled frame", "keyframe", "true moment"]


def test_numbers_that_would_touch_are_lifted(tmp_path: Path) -> None:
    line = replace(LINE, times=(0.0, 0.2, 0.4, 4.0), scores=None, keyframes=(0, 1, 2, 3))
    page = shown(tmp_path, line, [IMAGES[0]] * 4)
    assert [text["dy"] for text in page.all("text")] == ["-10", "-22", "-10", "-10"]


def test_without_scores_the_frames_lie_on_a_line_without_a_scale(tmp_path: Path) -> None:
    page = shown(tmp_path, replace(LINE, scores=None, windows=None))
    assert {y for _, y in [*spots(page, "key"), *spots(page, "frame")]} == {50.0}
    assert "polyline" not in page.tags and page.all("div", "flat") and not page.all("rect")
    assert page.texts["b"] == ["frames chosen without scores, over seconds"]
    assert "true moment" not in page.texts["span"] and "2: 3.50 s" in page.texts["figcaption"]


def test_thumbnails_are_the_images_in_time_order_and_in_their_own_shape(tmp_path: Path) -> None:
    page = shown(tmp_path, LINE)
    assert page.texts["figcaption"] == ["1: 2.50 s, score 3.25", "2: 3.50 s, score 2.00", "3: 5.50 s, score 1.50"]
    assert [image.shape for image in page.images] == [(6, 8, 3)] * 3
    assert [int(image.mean().round()) for image in page.images] == [20, 30, 50]
    assert [(i["width"], i["height"], i["alt"]) for i in page.all("img")] == [
        ("8", "6", f"keyframe {number}") for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("answer", "verdict", "signs", "outcome"),
    [
        (1, "Answered B: right", ["", "✓", ""], "right"),
        (2, "Answered B: wrong, the right one is C", ["", "✗", "✓"], "wrong"),
        (None, "Answered B", ["", "▸", ""], "open"),
    ],
)
def test_options_carry_probabilities_and_the_verdict(
    tmp_path: Path, answer: int | None, verdict: str, signs: list[str], outcome: str
) -> None:
    line = replace(LINE, answer=answer, options=("a cup", "<b>", "$x$"))
    page = shown(tmp_path, line)
    assert page.all("article", outcome) and verdict in page.texts["p"]
    bars = [values["style"] for values in page.all("span") if values.get("style", "").startswith("width")]
    assert bars == ["width: 25.0%", "width: 62.5%", "width: 12.5%"]
    assert [values["class"].split()[0] for values in page.all("li")] == ["other", "chosen", "other"]
    texts = [text for text in page.texts["span"] if text in {"✓", "✗", "▸", "A", "B", "C", *line.options}]
    expected = []
    for sign, letter, text in zip(signs, "ABC", line.options, strict=True):
        expected += [sign, letter, text] if sign else [letter, text]
    assert texts == expected and {"25.0 %", "62.5 %", "12.5 %"} <= set(page.texts["span"])
    assert page.texts["h3"] == [line.question] and line.verdict == verdict


def test_a_question_that_the_page_has_asked_is_not_asked_again(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", LINE.question, [Example(LINE, IMAGES, asks=False)])
    page = read_page(tmp_path / "page.html")
    assert page.texts["h1"] == [LINE.question] and "h3" not in page.tags


def test_a_query_has_found_moments_and_no_options(tmp_path: Path) -> None:
    query = replace(LINE, options=(), prediction=None, answer=None, probabilities=(), found=((2.0, 5.0), (0.0, 1.0)))
    page = shown(tmp_path, query)
    assert "ol" not in page.tags and query.verdict == ""
    found = [(r["class"], r["x"], r["width"]) for r in page.all("rect", "found")]
    assert found == [("found", "25.0%", "37.5%"), ("found later", "0.0%", "12.5%")]
    assert "found moment 1: 2.0 to 5.0 s" in page.texts["title"] and "found moment" in page.texts["span"]


def test_an_axis_shows_the_clip_that_frames_come_from_and_all_windows() -> None:
    def span(line: Timeline) -> tuple[float, float]:
        return line.seconds.low, line.seconds.high

    assert span(LINE) == (0.0, 8.0)
    clip = replace(LINE, times=tuple(100 + t for t in TIMES), windows=None, duration=3600.0)
    assert span(clip) == (99.5, 108.5)
    wide = replace(clip, windows=((90.0, 104.0), (3590.0, 4000.0)))
    assert span(wide) == (90.0, 3600.0)
    assert clip.when(2) == "102.5 s" and LINE.when(2) == "2.50 s"
    assert span(replace(clip, found=((80.0, 104.0),))) == (80.0, 108.5)
    one = replace(LINE, times=(0.0,), scores=None, keyframes=(0,), windows=None, duration=0.0)
    assert span(one) == (0.0, 1e-3)


def test_frames_lead_into_a_video_that_a_browser_may_play(tmp_path: Path) -> None:
    for name, plays in (("my video.mp4", True), ("film.avi", False), ("gone.mp4", False)):
        video = tmp_path / "videos" / name
        if name != "gone.mp4":
            video.parent.mkdir(exist_ok=True)
            video.write_bytes(b"x")
        page = shown(tmp_path, replace(LINE, video=video))
        places = [(link["href"], link["data-at"]) for link in page.all("a")]
        assert len(places) == (len(TIMES) + 3 if plays else 0)
        assert not plays or ("videos/my%20video.mp4#t=2.500", "2.5") in places


def test_in_words(tmp_path: Path) -> None:
    words = (
        "what does the red star hold? Options: A: a cup (25.0 %); B: a key (62.5 %); C: a fork (12.5 %). "
        "Answered B: right. Keyframes at 2.50 s, 3.50 s, 5.50 s."
    )
    assert LINE.described == words
    assert [v["aria-label"] for v in shown(tmp_path, LINE).all("div", "area")] == [words]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": (0.5, 0.5)}, "2 probabilities of 3 options"),
        ({"scores": (1.0,)}, "1 scores of 8 frames"),
        ({"keyframes": (0, 8)}, "keyframe 8 is not among the 8"),
        ({"prediction": 3}, "prediction 3 is not among the 3"),
        ({"prediction": None}, "prediction None of 3 options"),
        ({"answer": -1}, "answer -1 is not among the 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LINE, **change)


def test_images_that_are_not_those_of_the_keyframes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 images of 3 keyframes"):
        Example(LINE, IMAGES[:2])
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], not float32 \[6, 8, 3\]"):
        Example(LINE, [*IMAGES[:2], IMAGES[2].astype(np.float32)])
    with pytest.raises(ValueError, match=r"not uint8 \[3, 6, 8\]"):
        Example(LINE, [*IMAGES[:2], IMAGES[2].transpose(2, 0, 1)])
