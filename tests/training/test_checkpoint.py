from __future__ import annotations

import json
import os
import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from sevila.errors import UserError
from sevila.files import file_digest, sealed, unsealed
from sevila.training import checkpoint
from sevila.training.checkpoint import Snapshot, TrainState

PLAN = {"accumulate": 2, "seed": 7}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint folder of step 3, and its head."""
    head = nn.Linear(2, 3)
    state = TrainState(3, 1, 4, evaluated=2, best_metric=50.25, best_step=3, averages={"loss": [0.1, 2]})
    snapshot = Snapshot(state, PLAN, {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3, 2)}}, [{"a": 1}])
    return checkpoint.save(tmp_path, head, snapshot), head, snapshot


def reseal(path):
    """Checksums that are right again, as of a checkpoint that was written so."""
    described = unsealed(json.loads((path / "state.json").read_text()))
    described["files"] = {name: file_digest(path / name) for name in ("head.safetensors", "training.pt")}
    (path / "state.json").write_text(json.dumps(sealed(described)))


def test_round_trip(saved):
    path, head, snapshot = saved
    other = nn.Linear(2, 3)
    loaded = checkpoint.load(path, other, PLAN)
    assert loaded.state == snapshot.state and loaded.plan == PLAN and loaded.rngs == [{"a": 1}]
    assert torch.equal(loaded.optimizer[0]["exp_avg"], torch.ones(3, 2))
    assert torch.equal(other.weight, head.weight) and torch.equal(other.bias, head.bias)
    assert checkpoint.find(path.parent, "last") == checkpoint.find(path.parent, "best") == path
    assert checkpoint.last_step(path.parent) == 3


def test_nothing_saved_yet(tmp_path):
    assert checkpoint.find(tmp_path, "last") is None
    assert checkpoint.last_step(tmp_path / "absent") == 0


def test_a_pointer_to_nothing(saved):
    path, _, _ = saved
    (path.parent / "last").write_text("step_9\n")
    with pytest.raises(UserError, match="names step_9, which is not there"):
        checkpoint.find(path.parent, "last")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["weight"], "missing bias;"),
        (["weight", "bias", "zebra", "ant"], "unexpected ant, zebra;"),
        (["bias", "extra"], "missing weight; unexpected extra;"),
    ],
)
def test_keys_of_the_head_are_named(saved, keys, message):
    path, head, _ = saved
    shapes = {"weight": (3, 2), "bias": (3,)}
    weights = {key: torch.zeros(shapes.get(key, (1,))) for key in keys}
    safetensors.torch.save_file(weights, path / "head.safetensors")
    reseal(path)
    before = head.weight.clone()
    with pytest.raises(UserError, match=message) as raised:
        checkpoint.load(path, head, PLAN)
    assert "\n" not in str(raised.value) and "head.safetensors" in str(raised.value)
    assert torch.equal(head.weight, before)


def test_shapes_of_the_head_are_named(saved):
    path, _, _ = saved
    with pytest.raises(UserError, match=r"weight is \[3, 2\], not \[3, 5\]"):
        checkpoint.load(path, nn.Linear(5, 3), PLAN)


@pytest.mark.parametrize("name", ["head.safetensors", "training.pt", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_damaged_files_are_named(saved, name, damage):
    path, head, _ = saved
    file = path / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(UserError, match="restore it") as raised:
        checkpoint.load(path, head, PLAN)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["head.safetensors", "training.pt", "state.json"])
def test_a_flipped_bit_anywhere_is_noticed(saved, name):
    """Weights, optimiser and generators, positions: none of them may change a resumed run in silence."""
    path, head, _ = saved
    file = path / name
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError) as raised:
            checkpoint.load(path, head, PLAN)
        assert str(raised.value).startswith(f"{file}: ") and "\n" not in str(raised.value)


def test_the_best_checkpoint_is_looked_at_too(saved):
    """It is needed at the end: a resumed run would be refused only then."""
    path, head, snapshot = saved
    later = TrainState(5, 1, 6, best_metric=50.25, best_step=3)
    last = checkpoint.save(path.parent, head, Snapshot(later, PLAN, {}, snapshot.rngs))
    content = (path / "head.safetensors").read_bytes()
    (path / "head.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{path}/head.safetensors: is damaged"):
        checkpoint.load(last, head, PLAN)


def test_a_checkpoint_without_checksums_is_refused(saved):
    path, head, _ = saved
    described = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({key: described[key] for key in ("state", "plan")}))
    with pytest.raises(UserError, match="written by an older version of sevila, without checksums; start a new run"):
        checkpoint.load(path, head, PLAN)


@pytest.mark.parametrize("content", [b"", b"step_3", b"step_", b"\xff\xfe", b"../step_3\n", b"step_3\nstep_3\n"])
def test_a_pointer_that_is_not_whole(saved, content):
    path, _, _ = saved
    for name in ("last", "best"):
        (path.parent / name).write_bytes(content)
        with pytest.raises(UserError) as raised:
            checkpoint.find(path.parent, name)
        assert str(raised.value).startswith(f"{path.parent / name}: ") and "start a new run" in str(raised.value)


def test_a_run_folder_that_was_removed_does_not_come_back(saved):
    path, head, snapshot = saved
    with pytest.raises(FileNotFoundError):
        checkpoint.save(path.parent / "gone" / "checkpoints", head, snapshot)
    assert not (path.parent / "gone").exists()


def test_keys_of_the_state_are_named(saved):
    path, head, _ = saved
    description = unsealed(json.loads((path / "state.json").read_text()))
    del description["state"]["batch"]
    description["state"]["bogus"] = 1
    (path / "state.json").write_text(json.dumps(sealed(description)))
    with pytest.raises(UserError, match="missing keys: batch; unexpected keys: bogus;"):
        checkpoint.load(path, head, PLAN)


def test_another_plan_is_named(saved):
    path, head, _ = saved
    with pytest.raises(UserError, match="written with seed=7, this run has seed=8"):
        checkpoint.load(path, head, {"accumulate": 2, "seed": 8})


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil_was_here",)


def test_a_checkpoint_cannot_run_code(saved, tmp_path, monkeypatch):
    path, head, _ = saved
    monkeypatch.chdir(tmp_path)
    torch.save({"optimizer": Evil(), "rngs": []}, path / "training.pt")
    reseal(path)
    with pytest.raises(UserError, match=r"training\.pt: cannot be read"):
        checkpoint.load(path, head, PLAN)
    (path / "training.pt").write_bytes(pickle.dumps({"optimizer": Evil(), "rngs": []}))
    reseal(path)
    with pytest.raises(UserError, match=r"training\.pt: cannot be read"):
        checkpoint.load(path, head, PLAN)
    assert not (tmp_path / "evil_was_here").exists()


def test_only_folders_of_steps_are_ever_removed(saved):
    path, head, snapshot = saved
    folder = path.parent
    (folder / "notes.txt").write_text("mine")
    (folder / "my_steps").mkdir()
    later = TrainState(5, 1, 6, best_metric=60.0, best_step=5)
    checkpoint.save(folder, head, Snapshot(later, PLAN, {}, snapshot.rngs))
    assert {p.name for p in folder.iterdir()} == {"notes.txt", "my_steps", "step_5", "last", "best"}
