"""Worlds on disk: the same bytes for the same recipe, whole or not at all, and videos that show their stories."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from sevila.benchmarks.synthetic import Synthetic
from sevila.data.video import VideoReader
from sevila.errors import UserError
from sevila.synthetic import world
from sevila.synthetic.draw import COLLAGE, SIZE, SKETCH
from sevila.synthetic.stories import BUSY, CALM, SHOTS, ask, moment_queries, tell
from sevila.synthetic.world import FPS, LENGTH, Recipe, encode, film, make, seeded, window

RECIPE = Recipe(7, 1, 1, 2, 1, 1)
VIDEOS = ["moments_train_0000", "moments_val_0000", "test_0000", "test_0001", "train_0000", "val_0000"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(RECIPE, tmp_path_factory.mktemp("worlds"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def painted(split: str, number: int, recipe: Recipe = RECIPE) -> torch.Tensor:
    """The frames of a video before they were encoded."""
    calm = split.startswith("moments")
    story = tell(seeded(recipe.seed, split, number), CALM if calm else BUSY)
    return film(story, COLLAGE if calm else SKETCH, seeded(recipe.seed, split, number, "film"))


def test_a_recipe_gives_the_same_bytes_again(folder: Path, tmp_path: Path) -> None:
    again = make(RECIPE, tmp_path)
    first, second = content(folder), content(again)
    assert sorted(first) == [
        *("moments_train.jsonl", "moments_val.jsonl"),
        *("questions_test.csv", "questions_train.csv", "questions_val.csv", "recipe.json"),
        *(f"videos/{name}.mp4" for name in VIDEOS),
        *("windows_test.json", "windows_train.json", "windows_val.json"),
    ]
    assert [name for name in first if first[name] != second[name]] == []
    assert len({first[f"videos/{name}.mp4"] for name in VIDEOS}) == len(VIDEOS)
    assert folder.name == again.name and json.loads(first["recipe.json"])["seed"] == 7


def test_encoding_is_a_function_of_the_frames(tmp_path: Path) -> None:
    frames = painted("moments_train", 0)  # x264 with its SIMD code fails this about every second time
    encoded = set()
    for attempt in range(25):
        encode(frames, tmp_path / f"{attempt}.mp4")
        encoded.add((tmp_path / f"{attempt}.mp4").read_bytes())
    assert len(encoded) == 1


def test_processes_draw_the_same_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(world, "ProcessPoolExecutor", lambda *args: drawn.append(args) or _Here())
    recipe = replace(RECIPE, test_videos=13)
    many = make(recipe, tmp_path, workers=2)
    assert drawn[0][0] == 2 and len(list((many / "videos").iterdir())) == 17
    for name in VIDEOS:  # more videos of a split change no other video
        assert (many / "videos" / f"{name}.mp4").read_bytes() == (folder / "videos" / f"{name}.mp4").read_bytes()


class _Here:
    """A pool that works in this process."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function, jobs, chunksize: int):
        return map(function, jobs)


def test_drawing_leaves_the_number_of_threads_alone(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        make(replace(RECIPE, seed=8), tmp_path)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_the_folders_name_changes_with_the_recipe_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        replace(RECIPE, **{field: getattr(RECIPE, field) + 1}).folder_name for field in RECIPE.__dataclass_fields__
    ]
    assert len({RECIPE.folder_name, *names}) == len(names) + 1
    assert Recipe(7, 1, 1, 2, 1, 1).folder_name == RECIPE.folder_name
    assert RECIPE.folder_name.startswith("seed_7-")
    before = RECIPE.folder_name
    monkeypatch.setattr(world, "VERSION", world.VERSION + 1)
    assert RECIPE.folder_name != before
    assert len(Recipe(-(10**300)).folder_name) < 60 and Recipe(-(10**300)) != Recipe(10**300)


@pytest.mark.parametrize("seed", [-5, 2**64 + 1, 10**300], ids=["negative", "large", "huge"])
def test_any_integer_is_a_seed(seed: int, tmp_path: Path, folder: Path) -> None:
    made = make(replace(RECIPE, seed=seed), tmp_path)
    assert (made / "questions_test.csv").read_bytes() != (folder / "questions_test.csv").read_bytes()
    assert VideoReader(made / "videos" / "val_0000.mp4").length == LENGTH


def test_a_world_that_is_there_is_taken_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "_write_video", lambda job: pytest.fail("drawn again"))
    assert make(RECIPE, folder.parent) == folder


def test_interrupted_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, made = world._write_video, []

    def stop_at_the_third(job) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job)
        whole(job)

    monkeypatch.setattr(world, "_write_video", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make(RECIPE, tmp_path)
    assert len(made) == 2 and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(world, "_write_video", whole)
    assert sorted(f.stem for f in (make(RECIPE, tmp_path) / "videos").iterdir()) == VIDEOS


def test_two_processes_may_make_the_same_world(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_all = world._draw_all

    def another_is_quicker(jobs: list, workers: int) -> None:
        monkeypatch.setattr(world, "_draw_all", draw_all)
        make(RECIPE, tmp_path)
        draw_all(jobs, workers)

    monkeypatch.setattr(world, "_draw_all", another_is_quicker)
    assert content(make(RECIPE, tmp_path)) == content(folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_root_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^data\.root=.*file: the world cannot be written there: .*$"):
        make(RECIPE, tmp_path / "file")
    with pytest.raises(UserError, match=r"data\.val_videos=0: must be at least 1"):
        Recipe(val_videos=0)


@pytest.mark.parametrize("split", ["test", "moments_val"])
def test_a_video_shows_its_story(folder: Path, split: str) -> None:
    reader = VideoReader(folder / "videos" / f"{split}_0000.mp4")
    assert (reader.length, reader.fps, reader.info.width, reader.info.height) == (LENGTH, FPS, SIZE, SIZE)
    assert reader.times == tuple(i / FPS for i in range(LENGTH))
    decoded = avg_pool2d(reader.read(range(LENGTH), SIZE).pixels.float(), 8)  # grain is lost in encoding
    drawn = avg_pool2d(painted(split, 0).float(), 8)
    assert (decoded - drawn).abs().flatten(1).mean(1).max() < 4
    story = tell(seeded(RECIPE.seed, split, 0), CALM if split.startswith("moments") else BUSY)
    for frame in range(LENGTH):  # of all shots that show something else, none looks more like it
        shot = frame * SHOTS // LENGTH
        others = [f for f in range(LENGTH) if story.shots[f * SHOTS // LENGTH] is not story.shots[shot]]
        own = (decoded[frame] - drawn[frame]).abs().mean()
        nearest = (decoded[frame] - drawn[others]).abs().flatten(1).mean(1).min()
        assert own * 2 < nearest, (frame, float(own), float(nearest))


def test_the_files_hold_the_stories_questions_and_windows(folder: Path) -> None:
    rng = seeded(7, "test", 1)
    asked = ask(rng, tell(rng))
    with (folder / "questions_test.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["video"] == "test_0001"]
    table = json.loads((folder / "windows_test.json").read_text())["test_0001"]
    assert (table["duration"], table["fps"]) == (16.0, 4)
    assert [row["question"] for row in rows] == [q.question for q in asked]
    for number, (row, q) in enumerate(zip(rows, asked, strict=True)):
        assert tuple(row[f"a{i}"] for i in range(5)) == q.options
        assert (int(row["answer"]), row["type"], row["qid"]) == (q.answer, q.qtype, str(number))
        assert (row["frame_count"], row["width"], row["height"]) == ("64", "64", "64")
        assert table["location"][str(number)] == [[e.first / 2, e.last / 2 + 0.25] for e in q.needed]

    rng = seeded(7, "moments_val", 0)
    queries = moment_queries(rng, tell(rng, CALM))
    lines = [json.loads(line) for line in (folder / "moments_val.jsonl").read_text().splitlines()]
    assert [line["query"] for line in lines] == [query for query, _ in queries]
    assert [line["relevant_windows"] for line in lines] == [[list(window(event))] for _, event in queries]
    assert {(line["vid"], line["duration"]) for line in lines} == {("moments_val_0000", 16.0)}


def test_a_split_is_read_back_as_records(folder: Path) -> None:
    data = Synthetic(str(folder.parent), 7, 1, 1, 2, 1, 1)
    rng = seeded(7, "val", 0)
    asked = ask(rng, tell(rng))
    questions = data.questions("val")
    assert [q.question for q in questions] == [f"{q.question}?" for q in asked]
    assert [q.options for q in questions] == [tuple(f"{o}." for o in q.options) for q in asked]
    assert [q.answer for q in questions] == [q.answer for q in asked]
    assert [q.windows for q in questions] == [tuple(window(e) for e in q.needed) for q in asked]
    assert questions[0].qid == f"{asked[0].qtype}_val_0000_0" and questions[0].clip is None
    assert len({q.qid for q in data.questions("test")}) == len(data.questions("test"))
    assert [m.video for m in data.moments("train")] == ["moments_train_0000"] * len(data.moments("train"))
    assert data.folder().path("val_0000") == folder / "videos" / "val_0000.mp4"
    with pytest.raises(UserError, match=r"split=all: the synthetic world has train, val, test"):
        data.questions("all")
    with pytest.raises(UserError, match=r"split=test: the synthetic world has moments for train, val"):
        data.moments("test")


def test_build_takes_the_numbers_of_videos(folder: Path) -> None:
    data = Synthetic(str(folder.parent), 7, 1, 1, 2, 1, 1)
    assert data.world == folder
