"""The shipped backbone: what it must be, and the least it must be able to do on a world it has never met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sevila import api
from sevila.benchmarks.synthetic import Synthetic
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.data.dataset import VideoSource
from sevila.data.video import CachedVideos
from sevila.model.sevila import SeViLA
from sevila.selection.rules import LocalizerTopK, Oracle, Uniform
from sevila.tasks.chain import ForwardChain, chain_metrics


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return api.SeViLA.load("tiny", dtype=torch.float32).model


def test_it_is_small_and_in_transformers_format() -> None:
    assert sum(file.stat().st_size for file in TINY_FOLDER.iterdir()) <= 10_000_000
    assert json.loads((TINY_FOLDER / "config.json").read_text())["model_type"] == "blip-2"


def test_the_language_model_is_the_published_kind(model: SeViLA) -> None:
    language = model.backbone.language
    assert language.config.dense_act_fn == "gelu"
    assert not torch.equal(language.lm_head.weight, language.shared.weight)
    space = model.backbone.tokenizer.convert_tokens_to_ids("▁")
    assert model.backbone.prefix(3)[-1] == space and model.backbone.prefix(None)[-1] == space
    assert len({model.backbone.token(word) for word in ("yes", "no", *"ABCDE")}) == 7


def test_its_report_passes_the_gates_of_single_frames() -> None:
    report = json.loads((TINY_FOLDER / "report.json").read_text())
    assert report["text"]["letter, 1 frames"] >= 97 and report["text"]["relevant, 1 frames"] >= 98
    assert report["frames"]["plain"]["exact"] >= 90
    assert report["frames"]["sketch"]["exact"] < report["frames"]["plain"]["exact"]  # a style it has not met


def test_uniform_is_far_below_the_zero_shot_localizer_which_is_below_the_oracle(model: SeViLA, tmp_path: Path) -> None:
    world = Synthetic(
        str(tmp_path), 515, train_videos=1, val_videos=1, test_videos=8, moment_train_videos=1, moment_val_videos=1
    )
    source, questions = VideoSource(CachedVideos(64), world.folder(), 32), world.questions("test")
    uniform, zeroshot, oracle = (
        chain_metrics(ForwardChain(model, selector, source).predict(questions))
        for selector in (Uniform(4), LocalizerTopK(4), Oracle(4))
    )
    assert zeroshot["keyframe_recall"] >= 3 * uniform["keyframe_recall"]
    assert zeroshot["accuracy"] >= uniform["accuracy"] + 15
    assert oracle["keyframe_recall"] == 100 and oracle["accuracy"] >= zeroshot["accuracy"]
