from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from sevila.report.figures import BLUE, DPI, GREEN, PALE, RED, WIDTH
from sevila.report.timeline import Timeline, describe, draw_timeline, timeline_picture

TIMES = tuple(i + 0.5 for i in range(8))
SCORES = (-1.0, 0.5, 3.25, 2.0, -0.5, 1.5, 0.0, -2.0)
LINE = Timeline(
    question="what does the red star hold?",
    options=("a cup", "a key", "a fork"),
    prediction=1,
    answer=1,
    probabilities=(0.25, 0.625, 0.125),
    times=TIMES,
    scores=SCORES,
    keyframes=(5, 2, 3),
    windows=((2.0, 4.0), (5.25, 5.75)),
    duration=8.0,
)
IMAGES = [np.full((6, 8, 3), shade, np.uint8) for shade in (50, 20, 30)]  # of frames 5, 2, 3


def axes(figure: Figure, label: str) -> Axes:
    (found,) = [a for a in figure.axes if a.get_label() == label]
    return found


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for a in figure.axes for t in a.texts if t.get_text()]


def test_the_curve_is_the_scores_over_time() -> None:
    time = axes(draw_timeline(LINE, IMAGES), "time")
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
    figure = draw_timeline(replace(LINE, scores=None, windows=None), IMAGES)
    time = axes(figure, "time")
    frames, chosen = time.lines
    np.testing.assert_array_equal(frames.get_xydata(), [(t, 0.0) for t in TIMES])
    np.testing.assert_array_equal(chosen.get_xdata(), [2.5, 3.5, 5.5])
    assert frames.get_linestyle() == "None" and len(time.get_yticks()) == 0 and not time.patches
    assert time.get_title("left") == "frames chosen without scores"
    assert "true moment" not in [text.get_text() for text in time.get_legend().get_texts()]
    assert axes(figure, "keyframe 2").get_xlabel() == "2: 3.50 s"


def test_thumbnails_are_the_images_in_time_order() -> None:
    figure = draw_timeline(LINE, IMAGES)
    for number, (image, below) in enumerate(
        [
            (IMAGES[1], "2.50 s\nscore 3.25"),
            (IMAGES[2], "3.50 s\nscore 2.00"),
            (IMAGES[0], "5.50 s\nscore 1.50"),
        ],
        start=1,
    ):
        shot = axes(figure, f"keyframe {number}")
        np.testing.assert_array_equal(shot.images[0].get_array(), image)
        assert shot.get_xlabel() == f"{number}: {below}"
    left = [axes(figure, f"keyframe {n}").get_position().x0 for n in (1, 2, 3)]
    assert left == sorted(left)


def test_many_keyframes_stand_in_even_rows_that_do_not_overlap() -> None:
    many = replace(LINE, times=tuple(range(40)), scores=tuple(map(float, range(40))), duration=40.0)
    for k, rows in ((1, 1), (4, 1), (5, 2), (8, 2), (9, 2), (32, 4)):
        shots = replace(many, keyframes=tuple(range(k)))
        figure = draw_timeline(shots, [IMAGES[0]] * k)
        places = [axes(figure, f"keyframe {n + 1}").get_position() for n in range(k)]
        assert len({round(place.y0, 6) for place in places}) == rows
        assert all(0 < p.x0 < p.x1 <= 1 and 0 < p.y0 < p.y1 < axes(figure, "time").get_position().y0 for p in places)
        for i, one in enumerate(places):
            assert not any(one.overlaps(other) for other in places[i + 1 :])


@pytest.mark.parametrize(
    ("answer", "verdict", "signs", "colour"),
    [
        (1, "Answered B: right", ["", "✓", ""], GREEN),
        (2, "Answered B: wrong, the right one is C", ["", "✗", "✓"], RED),
        (None, "Answered B", ["", "▸", ""], BLUE),
    ],
)
def test_options_carry_probabilities_and_the_verdict(
    answer: int | None, verdict: str, signs: list[str], colour: str
) -> None:
    line = replace(LINE, answer=answer)
    figure = draw_timeline(line, IMAGES)
    bars = axes(figure, "options")
    assert [bar.get_width() for bar in bars.patches] == [0.25, 0.625, 0.125]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars.patches] == [PALE, colour, PALE]
    assert bars.get_xlim() == (0.0, 1.0)
    assert [text.get_text() for text in bars.texts] == ["25.0 %", "62.5 %", "12.5 %"]
    assert [text.get_weight() for text in bars.texts] == ["normal", "bold", "normal"]
    listed = axes(figure, "option texts").texts
    assert [t.get_text() for t in listed[0::3]] == signs
    assert [t.get_text() for t in listed[1::3]] == ["A", "B", "C"]
    assert [t.get_text() for t in listed[2::3]] == ["a cup", "a key", "a fork"]
    assert [t.get_text() for t in axes(figure, "heading").texts] == [line.question, verdict]
    assert line.verdict == verdict


def test_an_axis_shows_the_clip_that_frames_come_from_and_all_windows() -> None:
    clip = replace(LINE, times=tuple(100 + t for t in TIMES), windows=None, duration=3600.0)
    assert axes(draw_timeline(clip, IMAGES), "time").get_xlim() == (99.5, 108.5)
    wide = replace(clip, windows=((90.0, 104.0), (3590.0, 4000.0)))
    assert axes(draw_timeline(wide, IMAGES), "time").get_xlim() == (90.0, 3600.0)
    assert axes(draw_timeline(clip, IMAGES), "keyframe 1").get_xlabel().startswith("1: 102.5 s")
    one = replace(LINE, times=(0.0,), scores=None, keyframes=(0,), windows=None, duration=0.0)
    assert axes(draw_timeline(one, IMAGES[:1]), "time").get_xlim() == (0.0, 1e-3)


def test_long_texts_stay_inside_the_figure_and_dollars_are_no_formula() -> None:
    long = replace(
        LINE,
        question="why did she pay $5 and not $x_2$ " * 8,
        options=("because " * 40, "W" * 200, r"$\frac$"),
        probabilities=(0.0, 1.0, 0.0),
        label="a/very/long/path/" * 20,
    )
    figure = draw_timeline(long, IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = timeline_picture(long, IMAGES)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for a in figure.axes for t in a.texts if t.get_text()]
    boxes += [a.get_tightbbox(renderer) for a in figure.axes if a.axison]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in boxes)
    assert "why did she pay $5 and not $x_2$" in " ".join(texts(figure))
    width, height = figure.get_size_inches()
    image = Image.open(io.BytesIO(picture.png))
    assert image.width == WIDTH * DPI == width * DPI and abs(image.height - height * DPI) <= 1


def test_nothing_written_overlaps() -> None:
    figure = draw_timeline(replace(LINE, label="video.mp4", options=("one", "two " * 30, "W" * 90)), IMAGES)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    lines = [t for name in ("heading", "option texts", "options") for t in axes(figure, name).texts]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in lines if t.get_text()]
    boxes += [("time", axes(figure, "time").get_tightbbox(renderer))]
    boxes += [(f"keyframe {n}", axes(figure, f"keyframe {n}").get_tightbbox(renderer)) for n in (1, 2, 3)]
    for i, (name, box) in enumerate(boxes):
        for other, place in boxes[i + 1 :]:
            assert not box.overlaps(place), (name, other)


def test_in_words() -> None:
    assert describe(LINE) == (
        "what does the red star hold? Options: A: a cup (25.0 %); B: a key (62.5 %); C: a fork (12.5 %). "
        "Answered B: right. Keyframes at 2.50 s, 3.50 s, 5.50 s."
    )
    assert timeline_picture(LINE, IMAGES).alt == describe(LINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": (0.5, 0.5)}, "2 probabilities of 3 options"),
        ({"scores": (1.0,)}, "1 scores of 8 frames"),
        ({"keyframes": (0, 8)}, "keyframe 8 is not among the 8"),
        ({"prediction": 3}, "prediction 3 is not among the 3"),
        ({"answer": -1}, "answer -1 is not among the 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LINE, **change)


def test_images_that_are_not_those_of_the_keyframes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 images of 3 keyframes"):
        draw_timeline(LINE, IMAGES[:2])
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\], not float32 \[6, 8, 3\]"):
        draw_timeline(LINE, [*IMAGES[:2], IMAGES[2].astype(np.float32)])
    with pytest.raises(ValueError, match=r"not uint8 \[3, 6, 8\]"):
        draw_timeline(LINE, [*IMAGES[:2], IMAGES[2].transpose(2, 0, 1)])
