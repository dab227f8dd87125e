"""The whole chain on the small world, run once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

SHORT = ["trainer.epochs=1", "trainer.batch_size=8", "trainer.log_every=1", "trainer.warmup_steps=1"]


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def short() -> list[str]:
    """Overrides of the trainings in `chain_runs`."""
    return SHORT


@pytest.fixture(scope="session")
def chain_runs(small_world: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run folders R1 (pretrain), R2 (forward), R3 (refine) and R4 (eval) of the README."""
    import torch

    from sevila import eval as evaluation
    from sevila import refine, train

    runs = tmp_path_factory.mktemp("runs")
    r1, r2, r3, r4 = (runs / name for name in ("R1", "R2", "R3", "R4"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    commands = [
        (train.cli, "+exp=synthetic_pretrain", f"run_dir={r1}", "task.frames=4", *SHORT),
        (train.cli, "+exp=synthetic_forward", f"run_dir={r2}", f"localizer={r1}", *SHORT),
        (refine.cli, "+exp=synthetic_reverse", f"run_dir={r3}", f"localizer={r1}", "answerer=zeroshot", *SHORT),
        (evaluation.cli, "+exp=synthetic_eval", f"run_dir={r4}", f"localizer={r3}", f"answerer={r2}"),
    ]
    for cli, *words in commands:
        assert cli([*words, *small_world]) == 0
    yield runs
    torch.set_num_threads(threads)
