"""Writing a drawn world to disk: H.264 videos, questions in NExT-QA's form, moment queries in QVHighlights'.

    ROOT/seed_7-1f3a9c2e/
        recipe.json                     what it was made from
        videos/test_0012.mp4, ...
        questions_{train,val,test}.csv  NExT-QA's columns
        windows_{train,val,test}.json   NExT-GQA's form: the true windows of every question
        moments_{train,val}.jsonl       QVHighlights' form

A world is a function of its recipe; the folder's name holds the recipe's hash, so another recipe is another folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import av
import torch
from torch import Tensor

from sevila.data.records import Window
from sevila.errors import UserError
from sevila.files import atomic_path, write_json, write_jsonl, write_text
from sevila.progress import track
from sevila.synthetic import draw
from sevila.synthetic.stories import BUSY, CALM, SHOTS, SLOTS, Event, Story, ask, moment_queries, tell

FPS = 4
FRAMES_A_SHOT = 2
LENGTH = SHOTS * FRAMES_A_SHOT  # frames of a video
VERSION = 5  # raise it when stories, drawing or files change
MOMENTS = "moments_"  # begins the ids of videos that moment queries are about
# Without asm=0 x264 gives now and then other bytes for the same frames; one thread alone does not prevent it.
X264 = {"crf": "16", "preset": "veryfast", "x264-params": "asm=0"}
COLUMNS = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")


@dataclass(frozen=True)
class Recipe:
    """What a world is made from. Numbers of videos a split; any integer is a seed."""

    seed: int = 0
    train_videos: int = 48
    val_videos: int = 8
    test_videos: int = 40
    moment_train_videos: int = 56
    moment_val_videos: int = 8

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "seed" and value < 1:
                raise UserError(f"data.{name}={value}: must be at least 1")

    def splits(self) -> list[tuple[str, int, draw.Style]]:
        """(prefix of the video ids, number of videos, style)."""
        return [
            ("train", self.train_videos, draw.SKETCH),
            ("val", self.val_videos, draw.SKETCH),
            ("test", self.test_videos, draw.SKETCH),
            (f"{MOMENTS}train", self.moment_train_videos, draw.COLLAGE),
            (f"{MOMENTS}val", self.moment_val_videos, draw.COLLAGE),
        ]

    def describe(self) -> dict[str, object]:
        styles = {style.name: asdict(style) for style in (draw.SKETCH, draw.COLLAGE)}
        return {**asdict(self), "version": VERSION, "slots": SLOTS, "styles": styles}

    @property
    def folder_name(self) -> str:
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:8]
        return f"seed_{str(self.seed)[:20]}-{digest}"  # a seed may have more digits than a name can


def seeded(seed: int, *names: object) -> Random:
    """A random generator of its own for each purpose; `seed` may be any integer."""
    digest = hashlib.sha256(":".join(map(str, (seed, *names))).encode()).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def window(event: Event) -> Window:
    """From the first to the last frame that shows the event, seconds."""
    return event.first * FRAMES_A_SHOT / FPS, ((event.last + 1) * FRAMES_A_SHOT - 1) / FPS


def film(story: Story, style: draw.Style, rng: Random) -> Tensor:
    """The frames of a story, uint8 [LENGTH, 3, S, S]. An event keeps its look and drifts a little."""
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    scenes = [scene for scene in story.shots for _ in range(FRAMES_A_SHOT)]
    shown = [0]
    for before, after in pairwise(scenes):
        shown.append(shown[-1] + (before is not after))
    look = style.look(shown[-1] + 1, generator).take(torch.tensor(shown))
    steps = torch.arange(LENGTH) * 0.9
    drift = 0.03 * torch.sin(steps)
    look = replace(
        look,
        actor_x=look.actor_x + drift,
        actor_y=look.actor_y + 0.03 * torch.cos(steps),
        thing_x=look.thing_x + drift,
        phase=look.phase + 0.2 * steps,
    )
    return draw.paint(scenes, look, generator)


def encode(frames: Tensor, path: Path) -> None:
    """Write uint8 frames [T, 3, H, W] as an H.264 mp4."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=X264)
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for picture in frames.permute(0, 2, 3, 1).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _story(recipe: Recipe, prefix: str, number: int) -> tuple[Story, Random]:
    """The story of a video and the generator that goes on with its questions."""
    rng = seeded(recipe.seed, prefix, number)
    return tell(rng, CALM if prefix.startswith(MOMENTS) else BUSY), rng


def _write_video(job: tuple[Recipe, str, int, draw.Style, Path]) -> None:
    recipe, prefix, number, style, path = job
    story, _ = _story(recipe, prefix, number)
    encode(film(story, style, seeded(recipe.seed, prefix, number, "film")), path)


def _question_rows(recipe: Recipe, prefix: str, videos: int) -> tuple[list[dict[str, object]], dict[str, object]]:
    """NExT-QA rows, and NExT-GQA's table of windows."""
    rows: list[dict[str, object]] = []
    windows: dict[str, object] = {}
    for number in range(videos):
        story, rng = _story(recipe, prefix, number)
        video, location = f"{prefix}_{number:04d}", {}
        for i, asked in enumerate(ask(rng, story)):
            options = {f"a{j}": option for j, option in enumerate(asked.options)}
            rows.append(
                {"video": video, "frame_count": LENGTH, "width": draw.SIZE, "height": draw.SIZE}
                | {"question": asked.question, "answer": asked.answer, "qid": i, "type": asked.qtype}
                | options
            )
            location[str(i)] = [list(window(event)) for event in asked.needed]
        windows[video] = {"duration": LENGTH / FPS, "location": location, "fps": FPS}
    return rows, windows


def _moment_rows(recipe: Recipe, prefix: str, videos: int) -> Iterable[dict[str, object]]:
    """QVHighlights rows."""
    qid = 0
    for number in range(videos):
        story, rng = _story(recipe, prefix, number)
        for query, event in moment_queries(rng, story):
            yield {
                "qid": qid,
                "query": query,
                "duration": LENGTH / FPS,
                "vid": f"{prefix}_{number:04d}",
                "relevant_windows": [list(window(event))],
            }
            qid += 1


def _csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def make(recipe: Recipe, root: Path, workers: int | None = None) -> Path:
    """The folder of the world; it is drawn now if it is not there yet (all of it, or nothing)."""
    folder = Path(root) / recipe.folder_name
    if folder.is_dir():
        return folder
    try:
        _write(recipe, folder, workers or min(8, os.cpu_count() or 1))
    except OSError as error:
        if not folder.is_dir():  # else another process has finished the same world meanwhile
            raise UserError(f"data.root={root}: the world cannot be written there: {error}") from error
    return folder


def _write(recipe: Recipe, folder: Path, workers: int) -> None:
    with atomic_path(folder) as unfinished:
        (unfinished / "videos").mkdir(parents=True)
        jobs = []
        for prefix, videos, style in recipe.splits():
            jobs += [(recipe, prefix, i, style, unfinished / "videos" / f"{prefix}_{i:04d}.mp4") for i in range(videos)]
            if prefix.startswith(MOMENTS):
                write_jsonl(unfinished / f"{prefix}.jsonl", _moment_rows(recipe, prefix, videos))
            else:
                rows, windows = _question_rows(recipe, prefix, videos)
                write_text(unfinished / f"questions_{prefix}.csv", _csv(rows))
                write_json(unfinished / f"windows_{prefix}.json", windows)
        _draw_all(jobs, workers)
        write_json(unfinished / "recipe.json", recipe.describe())


def _draw_all(jobs: list[tuple[Recipe, str, int, draw.Style, Path]], workers: int) -> None:
    if workers == 1 or len(jobs) < 16:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the same arithmetic as in the processes below
        try:
            for job in track(jobs, len(jobs), "drawing videos"):
                _write_video(job)
        finally:
            torch.set_num_threads(threads)  # or what runs next would depend on whether a world was drawn
        return
    context = multiprocessing.get_context("spawn")  # forking a process that has run torch threads can hang
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        for _ in track(pool.map(_write_video, jobs, chunksize=4), len(jobs), "drawing videos"):
            pass
