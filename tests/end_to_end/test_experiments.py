"""Every file of configs/exp, on miniatures of the benchmarks in their original formats, with the tiny backbone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import reproduce
from sevila import eval as evaluation
from sevila import refine, train
from sevila.config import load, own_folder
from sevila.model.precision import bf16_units
from sevila.synthetic import draw
from sevila.synthetic.stories import BUSY, tell
from sevila.synthetic.world import encode, film

FILES = {file.stem: file for file in sorted((own_folder() / "exp").glob("*.yaml"))}
RUN = {"train": train.run, "refine": refine.run, "eval": evaluation.run}
CLI = {"sevila.train": train.cli, "sevila.refine": refine.cli, "sevila.eval": evaluation.cli}
PRETRAIN = "qvhighlights_pretrain"

SMALL = ["model=tiny", "device=cpu", "frames.workers=0"]
TWO_STEPS = ["trainer.max_steps=2", "trainer.batch_size=2", "trainer.accumulate=1", "trainer.log_every=1"]
FEWER_FRAMES = ["frames.n=6", "selector.k=2"]  # for the experiments that choose among many


# -- the miniatures: two training questions and four validation questions of each benchmark, about two-second videos ---


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _video(path: Path, number: int, frames: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(film(tell(Random(number), BUSY), draw.SKETCH, Random(number))[:frames], path)


def _options(count: int) -> list[str]:
    return ["a cup", "a red star", "the key", "nothing", "two squares"][:count]


def _nextqa(root: Path) -> None:
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
    kinds = {"train": ["TN", "CW"], "val": ["TN", "CW", "DL", "CH"]}
    ids = {"train": ["6037747123", "4010069381"], "val": ["3821781616", "4485498145"]}
    for split, types in kinds.items():
        rows = [
            f"{ids[split][i % 2]},8,64,64,what does the circle hold,{i},{i},{kind},{','.join(_options(5))}"
            for i, kind in enumerate(types)
        ]
        (root / f"annotations/{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    names = {video: f"{1105 + i}/{video}" for i, video in enumerate([*ids["train"], *ids["val"]])}
    (root / "annotations/map_vid_vidorID.json").write_text(json.dumps(names))
    for i, name in enumerate(names.values()):
        _video(root / f"videos/{name}.mp4", i)
    spans = [[0.0, 1.0, 0.5], [1.0, 2.0, 0.9]]
    qids = [f"{kind}_{ids['val'][i % 2]}_{i}" for i, kind in enumerate(kinds["val"])]
    _jsonl(root / "windows_val.jsonl", [{"qid": qid, "pred_relevant_windows": spans} for qid in qids])


def _star(root: Path) -> None:
    kinds = {"train": ["Interaction", "Sequence"], "val": ["Interaction", "Sequence", "Prediction", "Feasibility"]}
    for split, types in kinds.items():
        rows = [
            {
                "question_id": f"{kind}_T1_{i}",
                "question": "Which object was closed by the person?",
                "video_id": ["WBS4I", "RG0KS"][i % 2],
                "start": 0.0,
                "end": 1.5,
                "answer": _options(4)[i],
                "question_program": [],
                "choices": [{"choice_id": j, "choice": option} for j, option in enumerate(_options(4))],
            }
            for i, kind in enumerate(types)
        ]
        (root / f"annotations/STAR_{split}.json").write_text(json.dumps(rows))
    for i, video in enumerate(("WBS4I", "RG0KS")):
        _video(root / f"videos/{video}.mp4", i)


def _ts_rows(videos: list[str], options: int, count: int) -> list[dict[str, Any]]:
    """Rows as How2QA's and TVQA's jsonl have them."""
    return [
        {
            "vid_name": videos[i % 2],
            "ts": "0.10-1.90",
            "qid": 100 + i,
            "q": "What does the circle hold?",
            **{f"a{j}": option for j, option in enumerate(_options(options))},
            "answer_idx": i,
        }
        for i in range(count)
    ]


def _how2qa(root: Path) -> None:
    videos = ["6883", "19236"]
    _jsonl(root / "annotations/how2qa_train_release.jsonl", _ts_rows(videos, 4, 2))
    _jsonl(root / "annotations/how2qa_val_release.jsonl", _ts_rows(videos, 4, 4))
    for i, video in enumerate(videos):
        _video(root / f"videos/{video}.mp4", i)


def _tvqa(root: Path) -> None:
    """One clip as frames at 3 a second, below its show's folder, the other as a video."""
    videos = ["s02e01_seg02_clip_11", "castle_s05e08_seg02_clip_03"]
    whole = [{**row, "ts": "NaN-NaN"} for row in _ts_rows(videos, 5, 4)]
    _jsonl(root / "annotations/tvqa_train.jsonl", _ts_rows(videos, 5, 2))
    _jsonl(root / "annotations/tvqa_val.jsonl", whole)
    folder = root / "videos/bbt_frames" / videos[0]
    folder.mkdir(parents=True)
    for i, picture in enumerate(film(tell(Random(0), BUSY), draw.SKETCH, Random(0))[:8], start=1):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.jpg")
    _video(root / f"videos/{videos[1]}.mp4", 1)


def _vlep(root: Path) -> None:
    """One clip of YouTube's, one of TVQA's."""
    videos = ["Jk8pMvhGbiM:60:120", "castle_s05e08_seg02_clip_03_ep"]
    for split, file, count in (("train", "vlep_train_release", 2), ("dev", "vlep_dev_release", 4)):
        rows = [
            {
                "example_id": 20146 + i,
                "vid_name": videos[i % 2],
                "ts": [0.2, 1.8],
                "events": [f"{number} squares appear." for number in (2, i + 3)],
                "answer": i % 2,
                "split": split,
            }
            for i in range(count)
        ]
        _jsonl(root / f"annotations/{file}.jsonl", rows)
    _video(root / f"videos/{videos[0]}.mp4", 0)


def _qvhighlights(root: Path) -> None:
    for split, file, count in (
        ("train", "highlight_train_release", 2),
        ("val", "highlight_val_release", 2),
        ("test", "highlight_test_with_gt", 2),
    ):
        rows = [
            {
                "qid": 10 * i + len(split),
                "query": "A circle holds a cup.",
                "duration": 4,
                "vid": f"bP5KfdFJzC4_{i}.0_4.0",
                "relevant_clip_ids": [i],
                "saliency_scores": [[4, 2, 3]],
                "relevant_windows": [[2 * i, 2 * i + 2]],
            }
            for i in range(count)
        ]
        _jsonl(root / f"annotations/{file}.jsonl", rows)
        if split == "train":  # captions as moment_detr's subs_train.jsonl has them
            kept = ("qid", "query", "duration", "vid", "relevant_windows")
            _jsonl(root / "annotations/subs_train.jsonl", [{key: row[key] for key in kept} for row in rows])
    for i in range(2):
        _video(root / f"videos/bP5KfdFJzC4_{i}.0_4.0.mp4", i, frames=16)


MINIATURES: dict[str, Callable[[Path], None]] = {
    "nextqa": _nextqa,
    "star": _star,
    "how2qa": _how2qa,
    "tvqa": _tvqa,
    "vlep": _vlep,
    "qvhighlights": _qvhighlights,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the miniatures."""
    folder = tmp_path_factory.mktemp("data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, make in MINIATURES.items():
        (folder / name / "annotations").mkdir(parents=True)
        make(folder / name)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights that reads 8 tokens and pictures of 16 x 16."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "what", "circle", "hold"])}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": 8, "pad_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    splitter = Tokenizer(WordLevel(words, unk_token="<unk>"))
    splitter.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=splitter, **special).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


# -- the experiments ---


def _needs(exp: str) -> dict[str, str]:
    """What the head of an experiment's file says that it needs: option -> the experiment whose run, or zeroshot."""
    first, _, rest = exp.partition("_")
    if rest in ("forward", "zeroshot") or rest.startswith("moments"):
        return {"localizer": PRETRAIN} if first in MINIATURES else {}
    if rest == "reverse":
        return {"localizer": PRETRAIN, "answerer": "zeroshot"} if first in MINIATURES else {}
    if rest == "finetuned":
        return {"localizer": f"{first}_reverse", "answerer": f"{first}_forward"}
    if first == "finetuned":
        return {"answerer": "nextqa_forward"}
    special = {
        "zeroshot_atp": {"scorer.file": "nextqa_atp"},
        "zeroshot_perturbed": {"scorer.file": "nextqa_perturbed"},
    }
    return special.get(exp, {})


@dataclass(frozen=True)
class Bench:
    """Runs experiments on the miniatures, each once."""

    data: Path
    clip: Path
    world: list[str]
    runs: Path

    def run(self, exp: str, *words: str) -> Path:
        """The run folder of an experiment with further words; what it needs is made before."""
        folder = self.runs / ",".join([exp, *words])
        if not folder.is_dir():
            given = {word.partition("=")[0] for word in words}
            needs = {option: needed for option, needed in _needs(exp).items() if option not in given}
            heads = [f"{option}={self._head(needed)}" for option, needed in needs.items()]
            config = load(_entry(exp), [f"+exp={exp}", f"run_dir={folder}", *SMALL, *self._small(exp, words), *heads])
            metrics = RUN[config.entry](config)
            assert json.loads((folder / "metrics.json").read_text()) == metrics
        return folder

    def _head(self, needed: str) -> str:
        return needed if needed == "zeroshot" else str(self.run(needed))

    def _small(self, exp: str, words: tuple[str, ...]) -> list[str]:
        """The miniature, few frames and two steps in the place of what the file says."""
        heads = [f"{option}=zeroshot" for option in ("localizer", "answerer")]
        shown = load(_entry(exp), [f"+exp={exp}", "+scorer.file=none", *heads, *words])  # some need a file
        name, given = shown.data["name"], {word.partition("=")[0] for word in words}
        small = list(self.world) if name == "synthetic" else [f"data.root={self.data / name}"]
        if shown.frames.n > 8:
            small += [word for word in FEWER_FRAMES if word.partition("=")[0] not in given]
        if shown.entry != "eval":
            small += TWO_STEPS
        if exp == "zeroshot_clip":
            small.append(f"scorer.model={self.clip}")
        if exp == "zeroshot_windows":
            small.append(f"selector.file={self.data / 'nextqa/windows_val.jsonl'}")
        return [*small, *words]


def _entry(exp: str) -> str:
    return yaml.safe_load(FILES[exp].read_text())["entry"]


@pytest.fixture(scope="module")
def bench(data: Path, clip: Path, small_world: list[str], tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(data, clip, small_world, tmp_path_factory.mktemp("runs"))


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("exp", FILES)
def test_every_experiment_runs(exp: str, bench: Bench, one_thread: None) -> None:
    check(bench.run(exp), exp)


@pytest.mark.parametrize(
    "words",
    [
        ("nextqa_forward", "task.name=vote", "selector=uniform", "frames.n=4", "localizer=zeroshot"),
        ("vlep_forward", "task.name=answer", "selector=uniform", "frames.n=4", "localizer=zeroshot"),
        ("nextqa_zeroshot", "frames.n=8", "selector.k=1"),
        ("nextqa_zeroshot", "frames.n=8", "selector.k=8"),
        ("zeroshot_uniform", "data=star", "frames.n=8", "selector.k=8"),
        ("zeroshot_uniform", "data=tvqa"),
        ("zeroshot_voting", "data=vlep"),
        ("zeroshot_voting", "data=how2qa"),
        ("zeroshot_prompts", "prompts=necessary_information"),
        ("nextqa_forward", "scorer=localizer_long_image"),
        ("qvhighlights_moments", "+task.spans={name: minmax, threshold: 0.6}"),
    ],
    ids=" ".join,
)
def test_the_options_that_rows_of_the_tables_give(words: tuple[str, ...], bench: Bench, one_thread: None) -> None:
    check(bench.run(*words), words[0])


def check(folder: Path, exp: str) -> None:
    """What a run folder holds fits what was asked for."""
    config, metrics = yaml.safe_load((folder / "config.yaml").read_text()), _json(folder / "metrics.json")
    assert (config["exp"], config["model"]["source"]) == (exp, "tiny")
    if exp.startswith("synthetic"):
        assert config["precision"] == "fp32"
    else:
        auto = "bf16" if bf16_units() else "fp32"
        assert (config["precision"], config["scoring"]["name"]) == (auto, "official")
    assert _json(folder / "environment.json")["precision"] == config["precision"]
    {"train": check_training, "refine": check_training, "eval": check_evaluation}[config["entry"]](
        folder, config, metrics
    )


def check_training(folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    head = {"pretrain": "localizer", "refine": "localizer", "windows": "localizer", "answer": "answerer"}
    head |= {"vote": "answerer"}
    file = f"{head.get(config['task']['name'], 'selector')}.safetensors"
    assert (folder / file).is_file() and (folder / "checkpoints").is_dir()
    log = _rows(folder / "metrics.jsonl")
    losses = [row["train/loss"] for row in log if "train/loss" in row]
    assert len(losses) == 2 and all(0 < loss < 50 for loss in losses)
    assert log[-1]["step"] == 2 and metrics["step"] in (1, 2)  # the better of them
    official = {"star": "mean_over_types", "qvhighlights": "frame_accuracy"}
    name = config["trainer"]["best"] or official.get(config["data"]["name"], "accuracy")
    best = max(row[f"val/{name}"] for row in log if f"val/{name}" in row)
    assert 0 <= metrics[name] == best <= 100
    if config["task"]["name"] == "refine":
        fixed = config["exp"] == "synthetic_reverse"  # ours; the published ones draw from the whole video in each step
        assert config["task"]["frames_from"] == ("midpoints" if fixed else "video")
        assert (folder / "pseudo_labels.jsonl").exists() == ("pseudo_label_yes" in metrics) == fixed
        assert all(0 <= row["train/yes_share"] <= 1 for row in log if "train/loss" in row)


def check_evaluation(folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    rows = _rows(folder / "predictions.jsonl")
    assert all(len(row["frames"]) == config["frames"]["n"] for row in rows)
    if config["task"]["name"] == "moments":
        assert metrics["n"] == len(rows) == 2
        assert all(0 <= metrics[key] <= 100 for key in ("R1@0.5", "R1@0.7", "mAP"))
        return
    assert all(len(row["keyframes"]) == config["selector"]["k"] for row in rows)
    data, count = config["data"]["name"], len(rows)
    right = sum(row["answer"] == row["prediction"] for row in rows)
    assert metrics["n"] == count and metrics["accuracy"] == round(100 * right / count, 2)
    assert count == 4 or data == "synthetic"
    if data == "nextqa":
        assert set(metrics["accuracy_by_type"]) == {"TN", "CW", "DL", "CH", "T", "C", "D"}
    if data == "star":
        assert metrics["mean_over_types"] == metrics["accuracy"]  # one question of each type
        assert set(metrics["accuracy_by_type"]) == {"Interaction", "Sequence", "Prediction", "Feasibility"}
    if config["task"]["name"] == "vote":
        any_right = sum(row["answer"] in row["votes"] for row in rows)
        assert metrics["oracle_any_frame"] == round(100 * any_right / count, 2) >= metrics["accuracy"]


# -- the script that runs rows of the tables ---


def test_reproduce_makes_what_is_missing_and_prints_the_table(
    bench: Bench,
    tmp_path: Path,
    one_thread: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = []

    def in_process(command: list[str]) -> int:
        assert command[:2] == [sys.executable, "-m"]
        commands.append(command[2:4])
        return CLI[command[2]](command[3:])

    monkeypatch.setattr(reproduce, "execute", in_process)
    runs = tmp_path / "runs"
    words = ["--table", "12", "--rows", "ZS-4", "--runs", str(runs), "--data", str(bench.data)]
    words += ["--use", f"{PRETRAIN}={bench.run(PRETRAIN)}", "--set", *SMALL, *FEWER_FRAMES, *TWO_STEPS]
    assert reproduce.main(words) == 0
    expected = [["sevila.refine", "+exp=nextqa_reverse"], ["sevila.eval", "+exp=nextqa_zeroshot"]]
    assert commands == expected
    made = runs / "seed_0/nextqa_zeroshot,localizer=nextqa_reverse,scorer=localizer_long_image"
    measured = _json(made / "metrics.json")["accuracy"]
    (line,) = (line for line in _json(runs / "tables/table_12.json")["lines"] if line["row"] == "ZS-4")
    assert (line["published"], line["measured"]) == (63.6, measured)
    assert line["difference"] == pytest.approx(measured - 63.6)

    before = (runs / "tables/table_12.json").read_bytes()
    capsys.readouterr()
    assert reproduce.main(words) == 0
    assert commands == expected  # nothing was run again
    assert capsys.readouterr().out.count("# done: ") == 2
    assert (runs / "tables/table_12.json").read_bytes() == before
