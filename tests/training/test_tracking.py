from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sevila.errors import UserError
from sevila.fit import check_wandb, tracking
from sevila.schema import Wandb
from sevila.training.device import make_accelerator

OFFLINE = Wandb(mode="offline")


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


def track(folder: Path, options: Wandb, *records: dict[str, object]) -> None:
    with tracking(make_accelerator("cpu"), folder, options, {"lr": 1.0}) as log:
        for record in records:
            log(record)


def test_wandb_goes_on_under_its_id(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for step in (1, 2):
        track(tmp_path / "run", OFFLINE, {"step": step, "train/loss": 0.5})
    assert [a["id"] for a in fake.inits] == 2 * [(tmp_path / "run" / "wandb_id").read_text().strip()]
    first = fake.inits[0]
    assert (first["mode"], first["name"], first["project"]) == ("offline", "run", "sevila")
    assert first["config"] == {"lr": 1.0} and first["dir"] == str(tmp_path / "run")
    assert first["resume"] == "allow"
    assert fake.logged == [(1, {"train/loss": 0.5}), "finished", (2, {"train/loss": 0.5}), "finished"]


def test_disabled_nobody_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    track(tmp_path, Wandb(), {"step": 1, "train/loss": 0.5})
    assert list(tmp_path.iterdir()) == []


class Refusing(FakeWandb):
    """wandb, that nobody is logged in to, or that has something against the run."""

    class Error(Exception):
        pass

    api = SimpleNamespace(api_key=None)

    def init(self, **arguments):
        raise self.Error("entity not found\n(see the docs)")


def test_what_wandb_refuses_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", Refusing())
    with pytest.raises(UserError, match=r"wandb\.mode=online: nobody is logged in; run `wandb login`"):
        check_wandb(Wandb(mode="online"))
    check_wandb(OFFLINE)
    for project in ("a/b", "", "x" * 129):
        with pytest.raises(UserError, match=r"wandb\.project=\S*: 1 to 128 characters, none of them"):
            check_wandb(Wandb(mode="offline", project=project))
    with pytest.raises(UserError) as raised:
        track(tmp_path, OFFLINE)
    assert str(raised.value) == (
        "wandb.mode=offline: entity not found (see the docs); wandb.mode=disabled goes without it"
    )
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb(Wandb(project="a/b"))
    for mode in ("online", "offline"):
        with pytest.raises(UserError, match="wandb is not installed"):
            check_wandb(Wandb(mode=mode))


def test_an_id_that_is_empty(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    (tmp_path / "wandb_id").write_text("")
    with pytest.raises(UserError, match=r"wandb_id: is empty or damaged; remove it"):
        track(tmp_path, OFFLINE)
