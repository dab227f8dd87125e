from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from sevila.errors import UserError
from sevila.training.sinks import WandbSink, all_of


def test_all_of():
    first, second = [], []
    all_of(first.append, second.append)({"step": 1})
    assert first == second == [{"step": 1}]


class FakeWandb:
    """Keeps what it is given; the real one starts a service and is no matter of this test."""

    def __init__(self) -> None:
        self.inits, self.logged = [], []

    def init(self, **arguments):
        self.inits.append(arguments)
        return SimpleNamespace(
            log=lambda numbers, step: self.logged.append((step, numbers)),
            finish=lambda: self.logged.append("finished"),
        )


def test_wandb_goes_on_under_its_id(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for step in (1, 2):
        sink = WandbSink(tmp_path / "run", "sevila", "offline", {"lr": 1.0})
        sink({"step": step, "train/loss": 0.5})
        sink.close()
    assert [a["id"] for a in fake.inits] == 2 * [(tmp_path / "run" / "wandb_id").read_text().strip()]
    first = fake.inits[0]
    assert (first["mode"], first["name"], first["project"]) == ("offline", "run", "sevila")
    assert first["config"] == {"lr": 1.0} and first["dir"] == str(tmp_path / "run")
    assert fake.logged == [(1, {"train/loss": 0.5}), "finished", (2, {"train/loss": 0.5}), "finished"]


def test_wandb_bad_mode_or_absent(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"wandb\.mode=of: must be online or offline"):
        WandbSink(tmp_path, "sevila", "of")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb is not installed"):
        WandbSink(tmp_path, "sevila", "offline")
