"""What no entry point may take: (entry point, words) pairs, each to be refused in one line. New ones are added here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sevila.checkpoints.architecture import TINY_FOLDER

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
        asked = ["what", "a", "b"]
        page, empty = self.file("page.mp4", "a page\n" * 300), self.file("empty.mp4", "")
        half = self.file("half.mp4", video.read_bytes()[:9000])
        for file in ("none.mp4", page, empty, half, self.folder):
            yield "predict", [str(file), *asked]
        for word in ("--k=0", "--k=99", "--out=a.gif", f"--out={self.folder}", "--n-frames=x", "--questions=q.jsonl"):
            yield "predict", [str(video), *asked, word]
        yield "predict", []
        yield "predict", [str(video), "what", "a"]
        lost = json.dumps({"video": "none.mp4", "question": "x", "options": ["a", "b"]})
        for number, content in enumerate(("", "{oops", "[1]\n", b"\xff\xfe", '{"video": 1}', lost)):
            yield "predict", ["--questions", self.file(f"{number}.jsonl", content)]
        good = self.file("good.jsonl", json.dumps({"video": str(video), "question": "x", "options": ["a", "b"]}))
        yield "predict", ["--questions", str(self.folder)]
        yield "predict", ["--questions", str(good), "--out", str(good)]

    def scores(self) -> Iterator[Case]:
        annotations = next(self.root.glob("*/questions_test.csv"))
        table, none = self.file("table.csv", "a,b\n1,2\n"), self.file("none.json", "{}")
        for words in (
            [],
            ["--annotations=none.csv", "--predictions=none.json"],
            [f"--annotations={table}", f"--predictions={table}"],
            [f"--annotations={annotations}", f"--predictions={self.file('cut.json', '{')}"],
            [f"--annotations={self.folder}", f"--predictions={none}"],
            [f"--annotations={annotations}", f"--predictions={none}", f"--out={annotations}"],
            [f"--annotations={annotations}", f"--predictions={none}", f"--out={none}"],
        ):
            yield "score", ["nextqa", *words]


# -- files: pages saved as weights, models that do not fit, pipes, devices, bombs ---

Change = Callable[[Path], object]
TOKENIZER = "tokenizer.json", "tokenizer_config.json"
DIGITS, DEEP = "9" * 5000, "[" * 100_000
BOMB = "# x\na: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(9)
)


def setting(part: str | None, key: str, value: Any) -> Change:
    """A model folder whose config.json has another value."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (content[part] if part else content)[key] = value
        (folder / "config.json").write_text(json.dumps(content))

    return change


def tensors(edit: Callable[[dict[str, Any]], object]) -> Change:
    """A model folder with other weights."""

    def change(folder: Path) -> None:
        content = load_file(folder / "model.safetensors")
        edit(content)
        save_file(content, folder / "model.safetensors")

    return change


def pickled(content: bytes) -> Change:
    """A model folder with a pytorch_model.bin instead."""
    return lambda folder: ((folder / "model.safetensors").unlink(), (folder / "pytorch_model.bin").write_bytes(content))


def written(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def halved(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50_000])


FOLDERS: dict[str, Change] = {
    "layers": setting("text_config", "num_layers", 10**6),
    "query-layers": setting("qformer_config", "num_hidden_layers", 10**6),
    "word": setting("text_config", "num_layers", "many"),
    "heads": setting("text_config", "num_heads", 7),
    "vision-heads": setting("vision_config", "num_attention_heads", 3),
    "null": setting(None, "text_config", None),
    "type": setting(None, "model_type", "x"),
    "image": setting("vision_config", "image_size", 1),
    "queries": setting(None, "num_query_tokens", 10**9),
    "nan": tensors(lambda content: content["language_model.shared.weight"][0, 0].fill_(float("nan"))),
    "missing": tensors(lambda content: content.pop("language_projection.weight")),
    "page": pickled(b"<html>"),
    "nothing": pickled(b""),
    "number": pickled(b"12345"),
    "deep": written("config.json", DEEP),
    "digits": written("config.json", f'{{"model_type": {DIGITS}}}'),
    "half": halved,
    "vision-activation": setting("vision_config", "hidden_act", "nonsense"),
    "dtype": setting(None, "dtype", "nonsense"),
    "quantized": setting(None, "quantization_config", {"quant_method": "bitsandbytes"}),
    "float": setting("text_config", "d_model", 12.5),
    "bool": setting("text_config", "d_model", True),
    "cross": setting("qformer_config", "cross_attention_frequency", 0),
}
TOKENIZERS: dict[str, Change] = {  # convert needs none where the folder is one
    "empty-tokenizer": written(TOKENIZER[0], "{}"),
    "deep-tokenizer": written(TOKENIZER[0], DEEP),
    "list-tokenizer": written(TOKENIZER[1], "[1]"),
    "no-tokenizer": lambda folder: [(folder / name).unlink() for name in TOKENIZER],
}
CONFIGS: dict[str, bytes] = {
    "no-utf8": b"# \xff\xfe\nname: custom\n",
    "bomb": BOMB.encode(),
    "levels": DEEP.encode(),
    "loop": b"a: &a [*a]\n",
    "half-letter": b'name: custom\nroot: "\\ud800"\n',
    "digits": b"name: " + DIGITS.encode(),
    "twice": b"name: custom\nroot: a\nroot: b\n",
}


class HostileFiles:
    """The cases; the files for them are made in `folder`, which is new. `video`: a good one."""

    def __init__(self, folder: Path, video: Path, evaluation: list[str], training: list[str]) -> None:
        self.folder, self.evaluation, self.training = folder, evaluation, training
        self.row = {"video": str(video), "question": "w?", "options": ["a", "b"]}
        self.asked = [str(video), "w?", "a", "b", "--n-frames=8"]
        folder.mkdir()
        self.pages = {"404.pth": b"<html>404</html>", "text.pth": b"Access denied\n", "number.pth": b"12345\n"}
        self.pages |= {"zip.pth": b"PK\3\4" + bytes(50), "empty.pth": b""}
        for name, content in self.pages.items():
            (folder / name).write_bytes(content)
        for name in ("pipe", "pipe.jsonl", "pipe.pth"):
            os.mkfifo(folder / name)
        (folder / "folder.png").mkdir()
        self.pipe = folder / "pipe"

    def all(self) -> Iterator[Case]:
        yield from self.weights()
        yield from self.numbers()
        yield from self.questions()
        yield from self.places()
        yield from self.configs()

    def weights(self) -> Iterator[Case]:
        for name in (*self.pages, "pipe.pth", "x" * 300 + ".pth"):
            yield "convert", [str(self.folder / name), "--out", "out", "--backbone", "tiny"]
        yield "convert", ["tiny", "--out", "y" * 300]
        yield "convert", ["/dev/zero", "--out", "out"]
        yield "convert", ["tiny", "--out", "/dev/null"]
        yield "convert", [str(self.folder / "404.pth"), "--out", "out", "--backbone", str(self.pipe)]
        for name, change in {**FOLDERS, **TOKENIZERS}.items():
            model = Path(shutil.copytree(TINY_FOLDER, self.folder / f"model-{name}"))
            change(model)
            yield "predict", [*self.asked, f"--model={model}"]
            if name not in TOKENIZERS:
                yield "convert", [str(model), "--out", "out"]
        for key in ("--model", "--localizer"):
            for place in ("x" * 300, self.pipe, "/dev/zero"):
                yield "predict", [*self.asked, f"{key}={place}"]
        yield "eval", [*self.evaluation, f"model.tokenizer={self.pipe}"]
        yield "predict", [*self.asked, f"--localizer={self.folder}"]
        yield "eval", [*self.evaluation, "vision=timm", f"vision.file={self.pipe}"]

    def numbers(self) -> Iterator[Case]:
        for size in (1, 15):
            yield "eval", [*self.evaluation, f"model.image_size={size}"]
        for value in ("inf", "nan", "1e400"):
            yield "eval", [*self.evaluation, f"store.max_gb={value}", "store.folder=s"]
        for key in ("lr", "min_lr", "warmup_lr", "weight_decay", "loss_divisor", "clip_grad_norm"):
            for value in ("inf", "nan", "1e999"):
                yield "train", [*self.training, f"trainer.{key}={value}"]
        nested = f"task.frames={'[' * 2000}"
        for word in ("trainer.betas=[0.9,nan]", f"seed={DIGITS}", f"seed={'9' * 23}", nested, "frames.n=1e400"):
            yield "train", [*self.training, word]
        yield "eval", [*self.evaluation, f"selector.k={'9' * 30}"]

    def questions(self) -> Iterator[Case]:
        video, question, *options = self.asked[:4]
        yield "predict", [video, "a\udcff", *options]
        yield "predict", [video, question, "\udcff", "b"]
        yield "predict", [video, question, *map(str, range(27))]
        for name in ("v" * 300, "\udcff"):
            yield "predict", [f"{name}.mp4", question, *options]
        rows: list[dict[str, Any]] = [
            {"question": "\ud83d"}, {"options": ["a", "\udc00"]}, {"qid": "\ud800"},
            {"video": "x" * 300 + ".mp4"}, {"video": "a\0b"}, {"question": "a\nb", "options": ["x"]},
        ]  # fmt: skip
        lines = [json.dumps(self.row | row) for row in rows] + [DEEP, f'{{"video": {DIGITS}}}', "\x1b[31m{"]
        for number, line in enumerate(lines):
            file = self.folder / f"rows-{number}.jsonl"
            file.write_text(line)
            yield "predict", ["--questions", str(file)]
        for place in (f"{self.pipe}.jsonl", "/dev/zero", "q" * 300 + ".jsonl"):
            yield "predict", ["--questions", place]

    def places(self) -> Iterator[Case]:
        taken = self.folder / "folder.png"
        for out in (taken, "o" * 250 + ".png", "o" * 300 + ".png", "/dev/null", "a\nb.jpg"):
            yield "predict", [*self.asked, f"--out={out}"]
        for word in (f"run_dir={'r' * 300}", f"export={'r' * 250}.json", f"submission={taken}"):
            yield "eval", [*self.evaluation, word]
        nested, digits = self.folder / "nested.json", self.folder / "digits.json"
        nested.write_text(DEEP)
        digits.write_text(DIGITS)
        for benchmark, questions in (
            *(("nextqa", self.pipe), ("nextqa", "a" * 300)),
            *(("star", nested), ("star", digits), ("tvqa", nested)),
        ):
            yield "score", [benchmark, f"--annotations={questions}", "--predictions=x"]
        for store in ("x" * 300, self.pipe):
            yield "store", ["stats", "--folder", str(store)]

    def configs(self) -> Iterator[Case]:
        for name, content in CONFIGS.items():
            file = self.folder / f"config-{name}/data/mine.yaml"
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
            yield "eval", [*self.evaluation, "--config-dir", str(file.parent.parent), "data=mine"]
        piped = self.folder / "config-pipe/data"
        piped.mkdir(parents=True)
        os.mkfifo(piped / "mine.yaml")
        yield "eval", [*self.evaluation, "--config-dir", str(piped.parent), "data=mine"]
        for place in (str(self.pipe), "x" * 300):
            yield "eval", [*self.evaluation, "--config-dir", place]
        yield "eval", ["+exp=a\nb\x1b[2J"]
