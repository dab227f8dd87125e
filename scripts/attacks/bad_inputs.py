"""What no entry point may take: (entry point, words) pairs, each to be refused in one line. New ones are added here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from attacks.hostile_files import HostileFiles

Case = tuple[str, list[str]]
EXPS = {"train": "synthetic_forward", "refine": "synthetic_reverse", "eval": "synthetic_eval"}
EVERYWHERE = [
    "frames.n=0", "frames.n=-1", "frames.n=many", "frames.n=1.5", "frames.m=3", "frames=3", "selector=best",
    "selector.k=0", "selector.k=99", "selector.k=x", "seed=-1", "seed=x", "device=tpu", "device=cuda:99",
    "precision=fp8", "localizer=nowhere", "answerer=nowhere", "data=none",
    "data.seed=1.5", "data.test_videos=0", "store.dtype=fp8", "resume=true", "+exp=nothing", "+bogus=1",
    "prompts=none", "scoring=none", "scorer=none",
]  # fmt: skip
TRAINER = [
    "lr=0", "lr=-1", "lr=x", "lr=nan", "epochs=0", "epochs=-1", "batch_size=0", "accumulate=0",
    "save_every=0", "schedule.name=x", "max_steps=0", "log_every=0", "clip_grad_norm=-1", "bogus=1",
]  # fmt: skip


class BadInputs:
    """The cases; files for them are made in `folder`. `world`: overrides that choose a drawn world which is there."""

    def __init__(self, folder: Path, world: list[str]) -> None:
        self.folder, self.world = folder, world
        self.root = Path(world[0].removeprefix("data.root="))
        folder.mkdir()
        self.taken = self.file("taken", "mine")
        self.pipe = str(folder / "pipe.json")
        os.mkfifo(self.pipe)

    def file(self, name: str, content: bytes | str) -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def all(self) -> Iterator[Case]:
        yield from self.configurations()
        yield from self.evaluations()
        yield from self.predictions()
        yield from self.scores()
        video = next(self.root.glob("*/videos/*.mp4"))
        words = [[f"+exp={EXPS[entry]}", *self.world] for entry in ("eval", "train")]
        yield from HostileFiles(self.folder / "hostile", video, *words).all()

    def configurations(self) -> Iterator[Case]:
        places = [f"run_dir={self.taken}", f"run_dir={self.taken}/r", f"store.folder={self.taken}"]
        places += [f"store.folder={self.folder}", f"run_dir={self.folder}", f"localizer={self.folder}"]
        for entry, exp in EXPS.items():
            for word in [*EVERYWHERE, *places]:
                yield entry, [f"+exp={exp}", *self.world, word]
        for word in TRAINER:
            yield "train", [f"+exp={EXPS['train']}", *self.world, f"trainer.{word}"]

    def evaluations(self) -> Iterator[Case]:
        annotations = next(self.root.glob("*/questions_test.csv"))
        for word in (
            *("split=all", "compare_scoring=maybe", f"submission={self.folder}"),
            *(f"export={self.folder}", f"export={self.folder}/a.txt", f"export={annotations}", f"export={self.pipe}"),
        ):
            yield "eval", [f"+exp={EXPS['eval']}", *self.world, word]
        stored = ["selector=stored", f"selector.file={self.file('cut.jsonl', '{oops')}"]
        yield "eval", [f"+exp={EXPS['eval']}", *self.world, *stored]

    def predictions(self) -> Iterator[Case]:
        video = next(self.root.glob("*/videos/*.mp4"))
        asked = ["question=what", "options=[a, b]"]
        page, empty = self.file("page.mp4", "a page\n" * 300), self.file("empty.mp4", "")
        half = self.file("half.mp4", video.read_bytes()[:9000])
        for file in ("none.mp4", page, empty, half, self.folder):
            yield "predict", [f"video={file}", *asked]
        for words in (["k=0"], ["k=99"], ["out=a.gif"], [f"out={self.folder}"], ["n_frames=x"], ["questions=q.jsonl"]):
            yield "predict", [f"video={video}", *asked, *words]
        yield "predict", []
        yield "predict", [f"video={video}", "question=what", "options=[a]"]
        lost = json.dumps({"video": "none.mp4", "question": "x", "options": ["a", "b"]})
        for number, content in enumerate(("", "{oops", "[1]\n", b"\xff\xfe", '{"video": 1}', lost)):
            yield "predict", [f"questions={self.file(f'{number}.jsonl', content)}"]
        good = self.file("good.jsonl", json.dumps({"video": str(video), "question": "x", "options": ["a", "b"]}))
        yield "predict", [f"questions={self.folder}"]
        yield "predict", [f"questions={good}", f"out={good}"]

    def scores(self) -> Iterator[Case]:
        annotations = next(self.root.glob("*/questions_test.csv"))
        table, none = self.file("table.csv", "a,b\n1,2\n"), self.file("none.json", "{}")
        for words in (
            [],
            ["annotations=none.csv", "predictions=none.json"],
            [f"annotations={table}", f"predictions={table}"],
            [f"annotations={annotations}", f"predictions={self.file('cut.json', '{')}"],
            [f"annotations={self.folder}", f"predictions={none}"],
            [f"annotations={annotations}", f"predictions={none}", f"out={annotations}"],
            [f"annotations={annotations}", f"predictions={none}", f"out={none}"],
        ):
            yield "score", ["benchmark=nextqa", *words]
