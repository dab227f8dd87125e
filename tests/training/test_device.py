"""Device and precision are what was asked for, whatever accelerate's own variables say; alone where not asked: told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from accelerate.utils import DistributedType, DynamoBackend

from sevila.training import checkpoint
from sevila.training.device import _warn_if_alone, make_accelerator

LEFT_OVER = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "inductor",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "perhaps",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_DEBUG_MODE": "perhaps",
    "FSDP_VERSION": "x",
    "PARALLELISM_CONFIG_TP_SIZE": "2",
}
VARIABLES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "ACCELERATE_USE_CPU", "MASTER_PORT")


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_left_over_variables_decide_nothing(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make_accelerator(device).device
    for name, value in LEFT_OVER.items():
        monkeypatch.setenv(name, value)
    accelerator = make_accelerator(device)
    assert accelerator.gradient_accumulation_steps == 1 and accelerator.mixed_precision == "no"
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.NO
    assert (accelerator.distributed_type, accelerator.device) == (DistributedType.NO, expected)
    assert {name: os.environ[name] for name in LEFT_OVER} == LEFT_OVER  # they are others' to read


@pytest.mark.parametrize("steps", ["4", "auto"])
def test_a_training_is_equal_with_and_without_them(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: str
) -> None:
    def run(name: str) -> tuple[bytes, list[dict[str, object]]]:
        records: list[dict[str, object]] = []
        toy.run(tmp_path / name, records.append, epochs=1)
        return (checkpoint.find(tmp_path / name, "last") / "head.safetensors").read_bytes(), records

    plain = run("plain")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", steps)
    assert run("left over") == plain


def test_launched_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert make_accelerator("auto").device.type == "cpu"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, None),
        ({"ACCELERATE_USE_CPU": "True"}, None),  # accelerate launch --num_processes 1
        ({"MASTER_PORT": "29500"}, None),  # of somebody else's job script
        ({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"}, "(accelerate launch --num_processes)"),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "(SLURM_STEP_NUM_TASKS=2)"),
        ({"WORLD_SIZE": "4"}, "(WORLD_SIZE=4)"),
    ],
)
def test_alone(
    variables: dict[str, str], said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _warn_if_alone()
    told = capsys.readouterr().err
    if said is None:
        assert told == ""
    else:
        assert told.startswith("sevila: warning: several processes were asked for") and said in told
        assert "torchrun --nproc_per_node N -m sevila.train" in told and told.count("\n") == 1
