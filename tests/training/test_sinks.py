from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from sevila.errors import UserError
from sevila.training.sinks import WandbSink, all_of, check_wandb


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
        check_wandb("online", "sevila")
    check_wandb("offline", "sevila")
    for project in ("a/b", "", "x" * 129):
        with pytest.raises(UserError, match=r"wandb\.project=\S*: 1 to 128 characters, none of them"):
            check_wandb("offline", project)
    with pytest.raises(UserError) as raised:
        WandbSink(tmp_path, "sevila", "offline")
    assert str(raised.value) == (
        "wandb.mode=offline: entity not found (see the docs); wandb.mode=disabled goes without it"
    )
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_wandb("disabled", "a/b")
    with pytest.raises(UserError, match="wandb is not installed"):
        check_wandb("online", "sevila")


def test_an_id_that_is_empty(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    (tmp_path / "wandb_id").write_text("")
    with pytest.raises(UserError, match=r"wandb_id: is empty or damaged; remove it"):
        WandbSink(tmp_path, "sevila", "offline")
