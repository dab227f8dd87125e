"""From a configuration to what computes: the precision that `auto` takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from sevila import build
from sevila import eval as evaluation
from sevila.config import load
from sevila.errors import UserError
from sevila.files import read_json
from sevila.model import precision
from sevila.model.sevila import SeViLA


@pytest.fixture(params=["with", "without"])
def fast(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What `auto` takes on a processor with bfloat16 units, and on one without."""
    flags = "avx512f avx512_bf16" if request.param == "with" else "avx512f avx512_vnni"
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    precision._warn_of_slow_bfloat16.cache_clear()
    return "bf16" if request.param == "with" else "fp32"


def test_auto_is_the_default_and_becomes_what_the_device_is_fast_in(fast: str) -> None:
    config = load("eval", ["device=cpu"])
    assert config.precision == "auto"
    assert build.resolved(config) == replace(config, precision=fast)
    assert config.precision == "auto"  # as it was
    assert build.resolved(load("eval", ["device=cuda:1"])).precision == "bf16"


@pytest.mark.parametrize(("found", "device"), [(True, "cuda"), (False, "cpu")])
def test_an_automatic_device_has_its_own_precision(
    fast: str, found: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert build.resolved(load("eval", [])) == replace(load("eval", []), precision="bf16" if found else fast)


def test_what_is_launched_for_the_cpu_has_the_cpus_precision(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a GPU too: `accelerate launch --cpu`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert build.resolved(load("eval", [])).precision == fast


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp64"])
def test_a_precision_that_is_named_stays(fast: str, name: str) -> None:
    config = load("eval", ["+exp=nextqa_zeroshot", "data.root=x", "localizer=zeroshot", f"precision={name}"])
    assert build.resolved(config) is config


def test_the_embedded_world_is_computed_in_float32(fast: str) -> None:
    assert build.resolved(load("eval", ["+exp=synthetic_eval"])).precision == "fp32"


def test_the_model_has_the_precision_that_is_said(fast: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = load("eval", ["device=cpu"])
    accelerator = build.accelerator(config)
    assert accelerator.mixed_precision == {"bf16": "bf16", "fp32": "no"}[fast]
    assert build.model(config, accelerator.device).backbone.dtype == build.DTYPES[fast]
    assert capsys.readouterr().err == ""
    build.tell_precision(config)
    build.tell_precision(build.resolved(config))  # was named
    assert capsys.readouterr().err == f"sevila: precision=auto takes {fast} here\n"


def test_bfloat16_without_units_is_warned_of(fast: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        build.model(load("eval", ["precision=bf16"]), torch.device("cpu"))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == (0 if fast == "bf16" else 1)


def test_a_run_says_what_auto_took_and_keeps_to_it(
    fast: str, small_world: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    words = ["+exp=synthetic_eval", "device=cpu", f"run_dir={tmp_path / 'run'}", "frames.n=4", "selector.k=1"]
    assert evaluation.cli([*words, "precision=auto", *small_world]) == 0
    assert f"sevila: precision=auto takes {fast} here" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["precision"] == fast
    assert read_json(tmp_path / "run/environment.json")["precision"] == fast
    assert evaluation.cli([*words, "precision=auto", "resume=true", *small_world]) == 0

    other = {"bf16": "fp32", "fp32": "bf16"}[fast]
    assert evaluation.cli([*words, f"precision={other}", "resume=true", *small_world]) == 2
    assert f"started with precision={fast}, now precision={other}" in capsys.readouterr().err


def test_settings_of_the_process_are_a_runs_own(
    small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """tf32 and deterministic hold while their run computes, stand in its config.yaml, and reach no other run."""
    seen, made = [], build.model

    def model(*given: Any) -> SeViLA:
        cuda = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        seen.append((*cuda, torch.are_deterministic_algorithms_enabled()))
        return made(*given)

    monkeypatch.setattr(build, "model", model)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    words = ["+exp=synthetic_eval", "device=cpu", "frames.n=4", "selector.k=1", *small_world]
    for name, more in (("both", ["tf32=true", "deterministic=true"]), ("neither", [])):
        assert evaluation.cli([*words, f"run_dir={tmp_path / name}", *more]) == 0
    assert seen == [(True, True, True), (False, False, False)]
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    told = yaml.safe_load((tmp_path / "both/config.yaml").read_text())
    assert told["tf32"] is True and told["deterministic"] is True
    rows = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("both", "neither")]
    assert rows[0] == rows[1]  # a CPU computes alike either way


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.seed=abc", "data.seed=abc: expected a whole number"),
        ("selector.k=1.5", "selector.k=1.5: expected a whole number"),
        ("+selector.sed=1", "unknown key 'selector.sed'; selector localizer has: name, k"),
        ("+scoring.k=1", "unknown key 'scoring.k'; scoring direct has: name"),
        ("data={name: a}", "data.name=a: unknown; choose from: custom"),
        ("selector.k=40", "selector.k=40: only frames.n=32 frames are sampled"),
    ],
)
def test_a_wrong_choice_ends_before_the_model_is_loaded(
    word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "model", pytest.fail)
    assert evaluation.cli(["+exp=synthetic_eval", word]) == 2
    assert capsys.readouterr().err.startswith(f"sevila: error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_moment_retrieval_has_no_keyframes_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may sample fewer frames than selector.k says, which only questions need."""

    def stop(*_: object) -> None:
        raise UserError("the model is next")

    monkeypatch.setattr(build, "model", stop)
    words = ["+exp=synthetic_eval", "frames.n=2", f"run_dir={tmp_path / 'R'}"]
    for name, told in (("moments", "the model is next"), ("answer", "selector.k=4: only frames.n=2")):
        assert evaluation.cli([*words, f"task.name={name}"]) == 2
        assert capsys.readouterr().err.startswith(f"sevila: error: {told}")


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_frames_for_a_gpu_come_in_page_locked_memory(
    device: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as no GPU is needed: what the worker processes are told."""
    asked: list[tuple] = []
    monkeypatch.setattr("sevila.data.dataset.stream", lambda *given: iter(asked.append(given) or ()))
    backbone = SimpleNamespace(device=torch.device(device), image_size=32)
    data = SimpleNamespace(folder=lambda: None)
    made = build.source(load("eval", ["+exp=synthetic_eval"]), SimpleNamespace(backbone=backbone), data)
    assert list(made.walk([])) == [] and asked[0][-1] is pinned


def test_processes_are_asked_for_one_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compares the word with the others', for the folder itself is chosen by the first of them."""
    compared: dict[str, Any] = {}
    monkeypatch.setattr(build, "check_same", compared.update)
    config = load("train", ["+exp=synthetic_pretrain", f"run_dir={tmp_path / 'run'}"])
    with build.run_folder(config):
        assert compared["run_dir"] == str(tmp_path / "run") and compared["seed"] == 0
