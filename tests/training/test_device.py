"""A process that is alone where several were asked for says so."""

from __future__ import annotations

import pytest

from sevila.training.device import _warn_if_alone

VARIABLES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "ACCELERATE_USE_CPU", "MASTER_PORT")


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
