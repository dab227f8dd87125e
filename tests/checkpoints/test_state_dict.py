"""Checkpoint files: read safely, joined, or refused with a reason."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sevila.checkpoints.lavis import blip2_from, heads_from, merge, used_blocks
from sevila.checkpoints.state_dict import LISTED, check_tensors, read_checkpoint
from sevila.errors import UserError

State = dict[str, Tensor]


def same(ours: State, theirs: State) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_three_forms_hold_the_same(released: State, tmp_path: Path) -> None:
    torch.save({"model": released}, tmp_path / "released.pth")
    torch.save(released, tmp_path / "plain.pth")
    torch.save(released, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(released, tmp_path / "new.safetensors")
    for name in ("released.pth", "plain.pth", "old.pth", "new.safetensors"):
        assert same(read_checkpoint(tmp_path / name).state, released), name


def test_a_runs_checkpoint_leaves_its_optimizer_behind(released: State, tmp_path: Path) -> None:
    extras = {
        "optimizer": {"state": {0: {"step": 3}}},
        "config": {"run": {"lr": 3e-5}},
        "scaler": None,
        "epoch": 4,
    }
    torch.save({"model": released, **extras}, tmp_path / "checkpoint_best.pth")
    checkpoint = read_checkpoint(tmp_path / "checkpoint_best.pth")
    assert checkpoint.beside == tuple(extras)
    assert heads_from(checkpoint.state, "checkpoint_best.pth").keys() == {"localizer", "answerer"}


@pytest.mark.parametrize("text", ["<html><body>404 Not Found</body></html>\n", "Access denied\n", "12345\n", "l"])
def test_a_text_under_a_checkpoints_name(tmp_path: Path, text: str) -> None:
    """A download that failed: torch.load meets these with four kinds of errors."""
    (tmp_path / "eva_vit_g.pth").write_text(text)
    with pytest.raises(UserError) as caught:
        read_checkpoint(tmp_path / "eva_vit_g.pth")
    assert str(caught.value) == (
        f"{tmp_path}/eva_vit_g.pth: not a PyTorch checkpoint that is readable with weights_only=True "
        f"(it is a text: {text[:40]!r})"
    )


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: is a pipe or device: name a file"):
        read_checkpoint(tmp_path / "a.pth")


class Attack:
    """What runs code in whoever unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    torch.save({"model": {"query_tokens": Attack(target)}}, tmp_path / "bad.pth")
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(Attack(target), protocol=2))
    for name in ("bad.pth", "bad.bin"):
        with pytest.raises(UserError, match="weights_only=True"):
            read_checkpoint(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 broken"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pth: no such checkpoint file"):
        read_checkpoint(tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(1)], "no state dict"),
        ({}, "no state dict"),
        ({"a": torch.zeros(1), "epoch": 3}, "epoch"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, content: object, reason: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(UserError, match=reason):
        read_checkpoint(tmp_path / "file.pth")


def test_three_files_are_one_model(whole: State, files: Callable[[State], tuple[State, ...]], tmp_path: Path) -> None:
    """EVA's ViT has a block, a norm and a classifier more than BLIP-2 uses."""
    vision, language, head = files(whole)
    more = {name.replace("blocks.1", "blocks.2"): t for name, t in vision.items() if name.startswith("blocks.1")}
    more |= {"norm.weight": torch.ones(88), "norm.bias": torch.ones(88), "head.weight": torch.ones(5, 88)}
    torch.save(vision | more, tmp_path / "eva_vit_g.pth")
    torch.save({"model": head}, tmp_path / "blip2.pth")
    aliases = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    save_file({n: t for n, t in language.items() if n not in aliases}, tmp_path / "t5.safetensors")
    paths = [tmp_path / name for name in ("eva_vit_g.pth", "blip2.pth", "t5.safetensors")]
    joined = merge(map(read_checkpoint, paths))
    ours = blip2_from(used_blocks(joined, 2), "LAVIS").state_dict()
    assert same(ours, blip2_from(whole, "LAVIS").state_dict())
    assert blip2_from(joined, "LAVIS").config.vision_config.num_hidden_layers == 3


def test_files_that_overlap_are_refused(released: State, tmp_path: Path) -> None:
    save_file(released, tmp_path / "one.safetensors")
    save_file({"query_tokens": torch.zeros(1), "other": torch.zeros(1)}, tmp_path / "two.safetensors")
    with pytest.raises(UserError, match=r"two\.safetensors: 1 tensors stand in an earlier file too: query_tokens"):
        merge(read_checkpoint(tmp_path / name) for name in ("one.safetensors", "two.safetensors"))


# -- the strict loader ---


def test_tensors_that_are_the_wanted_ones_pass() -> None:
    found = {"a": torch.ones(2, 3), "b": torch.ones((), dtype=torch.bfloat16), "old.ids": torch.arange(3)}
    check_tensors("file", "does not fit", {"a": (2, 3), "b": []}, found, re.compile(r"old\..+"))
    check_tensors("file", "does not fit", {"a": torch.Size([2, 3])}, {"a": torch.empty(2, 3, device="meta")})


def test_everything_wrong_is_told_in_one_line_with_the_remedy() -> None:
    wanted = {"lost": (1,), "bent": (2, 3), "nan": (1,), "whole": (2,), "fine": (4,), "also lost": ()}
    found = {
        "bent": torch.full((3, 2), float("inf")),  # both of another shape and not finite
        "nan": torch.tensor([float("nan")]),
        "whole": torch.ones(2, dtype=torch.int8),
        "fine": torch.ones(4),
        "more": torch.ones(1),
        "spare": torch.ones(1),
        "spare.more": torch.ones(1),  # the whole name counts
    }
    with pytest.raises(UserError) as caught:
        check_tensors("file", "does not fit", wanted, found, re.compile("spare"), "take another")
    assert str(caught.value) == (
        "file: does not fit: missing lost, also lost; unexpected more, spare.more; bent is [3, 2], not [2, 3]; "
        "no finite numbers (NaN, infinity, integers) in bent, nan, whole; take another"
    )


def test_of_a_kind_so_many_are_named_and_the_rest_is_counted() -> None:
    wanted = {f"t{i}": (1,) for i in range(LISTED)}
    with pytest.raises(UserError, match=rf"^file: no: missing t0, .*, t{LISTED - 1}$"):
        check_tensors("file", "no", wanted, {})
    with pytest.raises(UserError, match=rf"^file: no: missing t0, .*, t{LISTED - 1}, \.\.\. \({LISTED + 1} tensors\)$"):
        check_tensors("file", "no", {**wanted, "one more": (1,)}, {})
