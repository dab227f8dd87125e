"""Heads as files: what is saved comes back, and what does not fit is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.heads import ZEROSHOT, find_head, load_head, save_head
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.head import Head


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbones.load()


@pytest.fixture
def trained(tiny: Backbone) -> Head:
    """A head that is not the zero-shot one."""
    head = load_head(ZEROSHOT, "localizer", tiny)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return head


@pytest.fixture
def run(tmp_path: Path, trained: Head, tiny: Backbone) -> Path:
    """A run folder that trained a Localizer."""
    save_head(tmp_path / "run" / "localizer.safetensors", trained, tiny, "localizer", {"seed": 3})
    return tmp_path / "run"


def refusal(place: Path | str, backbone: Backbone, role: str = "localizer") -> str:
    with pytest.raises(UserError) as caught:
        load_head(str(place), role, backbone)
    message = str(caught.value)
    assert "\n" not in message and str(place) in message
    return message


def same(one: Head, other: Head) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_zeroshot_is_a_copy_of_the_backbones_own(tiny: Backbone, trained: Head) -> None:
    head = load_head(ZEROSHOT, "localizer", tiny)
    assert same(head, tiny.zeroshot) and not same(head, trained)
    with torch.no_grad():
        head.queries.add_(1)
    assert not same(head, tiny.zeroshot) and same(load_head(ZEROSHOT, "answerer", tiny), tiny.zeroshot)


def test_a_head_comes_back_bit_by_bit(run: Path, trained: Head, tiny: Backbone) -> None:
    for place in (run, run / "localizer.safetensors"):
        head = load_head(str(place), "localizer", tiny)
        assert same(head, trained) and not same(head, tiny.zeroshot)
        assert {tensor.dtype for tensor in head.state_dict().values()} == {torch.float32}
    patches = torch.randn(3, 17, trained.config.vision_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(head.eval()(patches), trained.eval()(patches))
    assert sorted(file.name for file in run.iterdir()) == ["localizer.json", "localizer.safetensors"]
    assert len({file.stat().st_mode for file in run.iterdir()}) == 1  # whoever may read the one may read the other


def test_the_description(run: Path, trained: Head, tiny: Backbone) -> None:
    described = json.loads((run / "localizer.json").read_text())
    assert described == {
        "role": "localizer",
        "head": trained.config.to_dict(),
        "backbone": {"source": "tiny", "fingerprint": tiny.fingerprint},
        "training": {"seed": 3},
        "sha256": hashlib.sha256((run / "localizer.safetensors").read_bytes()).hexdigest(),
    }
    assert len(tiny.fingerprint) == 12 and backbones.load().fingerprint == tiny.fingerprint
    assert backbones.load(dtype=torch.bfloat16).fingerprint == tiny.fingerprint


def test_equal_heads_give_equal_bytes(run: Path, trained: Head, tiny: Backbone, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_head(again, trained, tiny, "localizer", {"seed": 3})
    assert again.read_bytes() == (run / "localizer.safetensors").read_bytes()
    assert again.with_suffix(".json").read_bytes() == (run / "localizer.json").read_bytes()


def test_no_such_head(run: Path, tiny: Backbone, tmp_path: Path) -> None:
    message = refusal(tmp_path / "nowhere", tiny)
    assert message == f"localizer={tmp_path / 'nowhere'}: no such run folder or head file; or say localizer=zeroshot"
    assert find_head(str(run), "localizer") == run / "localizer.safetensors"
    assert refusal(run, tiny, "answerer") == f"answerer={run}: that run trained the localizer, not the answerer"
    file = run / "localizer.safetensors"
    assert refusal(file, tiny, "answerer") == f"answerer={file}: is a head of the localizer, not of the answerer"
    (tmp_path / "empty").mkdir()
    assert "holds no localizer.safetensors; a run writes it when it has finished" in refusal(tmp_path / "empty", tiny)


def test_a_head_over_another_backbone(run: Path, tiny: Backbone) -> None:
    description = json.loads((run / "localizer.json").read_text())
    description["backbone"] = {"source": "Salesforce/blip2-flan-t5-xl", "fingerprint": "0123456789ab"}
    (run / "localizer.json").write_text(json.dumps(description))
    assert refusal(run, tiny) == (
        f"localizer={run}: made for the backbone Salesforce/blip2-flan-t5-xl (0123456789ab), "
        f"not for tiny ({tiny.fingerprint}); choose that model"
    )


@pytest.mark.parametrize("text", ["[]", "{}", '{"backbone": 3}', "{oops", ""])
def test_a_description_that_is_none(run: Path, tiny: Backbone, text: str) -> None:
    (run / "localizer.json").write_text(text)
    with pytest.raises(UserError, match=r"localizer\.json(, line 1: not valid JSON|: does not describe a head)"):
        load_head(str(run), "localizer", tiny)


def test_files_of_two_heads_are_none(run: Path, tiny: Backbone, tmp_path: Path) -> None:
    """Both fit this backbone, and their sizes are the same: only the weights' own digest tells."""
    other = tmp_path / "other" / "localizer.safetensors"
    save_head(other, tiny.zeroshot, tiny, "localizer", {"seed": 3})
    assert same(load_head(str(other), "localizer", tiny), tiny.zeroshot)
    (run / "localizer.json").write_bytes(other.with_suffix(".json").read_bytes())
    assert refusal(run, tiny) == (
        f"{run}/localizer.safetensors: holds other weights than localizer.json describes; "
        "take both files from the same head"
    )


def test_writing_that_is_cut_short_leaves_no_head(
    run: Path, trained: Head, tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    for folder in (tmp_path / "new", run):  # a new head, and one in the place of another
        with pytest.raises(OSError, match="No space left"):
            save_head(folder / "localizer.safetensors", tiny.zeroshot, tiny, "localizer")
    assert "holds no localizer.safetensors" in refusal(tmp_path / "new", tiny)
    assert "holds other weights than localizer.json describes" in refusal(run, tiny)


def test_heads_written_before_the_digest_are_read(run: Path, trained: Head, tiny: Backbone) -> None:
    description = json.loads((run / "localizer.json").read_text())
    del description["sha256"]
    (run / "localizer.json").write_text(json.dumps(description))
    assert same(load_head(str(run), "localizer", tiny), trained)


def test_a_missing_description(run: Path, tiny: Backbone) -> None:
    (run / "localizer.json").unlink()
    assert "localizer.json is not there" in refusal(run, tiny)


def test_tensors_that_do_not_fit_are_all_named(run: Path, tiny: Backbone) -> None:
    file = run / "localizer.safetensors"
    tensors = load_file(file)
    names = list(tensors)
    del tensors["projection.bias"], tensors["norm.weight"]
    tensors["projection.extra"] = torch.zeros(1)
    tensors["queries"] = torch.zeros(1, 3, 5)
    save_file(tensors, file)
    shape = list(tiny.zeroshot.queries.shape)
    assert refusal(file, tiny) == (
        f"{file}: does not fit the head: missing norm.weight, projection.bias; "
        f"unexpected projection.extra; queries is [1, 3, 5], not {shape}"
    )
    assert "norm.weight" in names


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_named(run: Path, trained: Head, tiny: Backbone, value: float) -> None:
    with torch.no_grad():
        trained.norm.bias[3] = value
    save_head(run / "localizer.safetensors", trained, tiny, "localizer")
    file = run / "localizer.safetensors"
    assert refusal(file, tiny) == (
        f"{file}: does not fit the head: no finite numbers (NaN, infinity, integers) in norm.bias"
    )


def test_a_head_of_version_0_1_is_known_by_its_own_fingerprint(run: Path, trained: Head, tiny: Backbone) -> None:
    description = json.loads((run / "localizer.json").read_text())
    assert description["backbone"]["fingerprint"] == tiny.fingerprint != "0853b11411dc"
    description["backbone"]["fingerprint"] = "0853b11411dc"  # written by version 0.1 over the tiny backbone
    (run / "localizer.json").write_text(json.dumps(description))
    assert same(load_head(str(run), "localizer", tiny), trained)


@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_damaged_file(run: Path, tiny: Backbone, size: int) -> None:
    file = run / "localizer.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert refusal(file, tiny).startswith(f"{file}: not a readable safetensors file (")
