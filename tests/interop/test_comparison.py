"""The comparison with LAVIS and timm says no when it must."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import compare_interop
from interop.cases import CASES
from interop.comparison import gradients
from official.difference import Difference
from sevila.files import write_json

SMALL = 1e-9


def shares(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, Difference]:
    return {d.what.removeprefix("Blip2T5: "): d for d in gradients(ours, theirs)}


def test_equal_gradients_differ_by_nothing() -> None:
    same = {"weight": torch.tensor([3.0, 4.0]), "bias": torch.tensor([SMALL])}
    assert [d.size for d in gradients(same, same)] == pytest.approx([0, 0, SMALL / 5])


def test_a_gradient_differs_by_a_share_of_its_largest() -> None:
    found = shares({"weight": torch.tensor([2.0, 4.01])}, {"weight": torch.tensor([2.0, 4.0])})
    assert found["gradients"].size == pytest.approx(0.0025, rel=1e-3)
    assert not found["gradients"].passed


def test_rounding_is_not_compared_but_must_stay_rounding() -> None:
    theirs = {"weight": torch.tensor([1.0]), "bias": torch.tensor([SMALL])}
    assert all(d.passed for d in gradients({"weight": torch.tensor([1.0]), "bias": torch.tensor([-SMALL])}, theirs))
    found = shares({"weight": torch.tensor([1.0]), "bias": torch.tensor([0.01])}, theirs)
    assert found["vanishing gradients"].size == pytest.approx(0.01)
    assert not found["vanishing gradients"].passed


def test_a_gradient_more_or_less_is_a_difference() -> None:
    found = shares({"weight": torch.ones(1)}, {"weight": torch.ones(1), "bias": torch.ones(1)})
    assert not found["gradient names"].passed


@pytest.mark.parametrize(("size", "code"), [(2e-6, 0), (6e-6, 1), (float("nan"), 1)])
def test_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: float, code: int
) -> None:
    write_json(tmp_path / "one" / "case.json", {})
    monkeypatch.setattr("sys.argv", ["compare_interop.py", str(tmp_path)])
    monkeypatch.setattr(compare_interop, "Reference", lambda folder: folder)
    monkeypatch.setattr(compare_interop, "compare", lambda _: [Difference("states", size, 5e-6)])
    assert compare_interop.main() == code
    assert ("one: states" in capsys.readouterr().out) == bool(code)


def test_a_folder_without_outputs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["compare_interop.py", str(tmp_path)])
    assert compare_interop.main() == 2
    assert "holds no case" in capsys.readouterr().err
    write_json(tmp_path / "one" / "case.json", {})
    assert compare_interop.main() == 2
    assert "holds no weights.safetensors" in capsys.readouterr().err


def test_every_size_takes_several_values() -> None:
    for part, names in (
        ("vision", ("img_size", "patch_size", "embed_dim", "depth", "num_heads")),
        ("bert", ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")),
        ("t5", ("d_model", "d_kv", "num_heads", "d_ff", "num_layers", "num_decoder_layers")),
    ):
        for name in names:
            assert len({getattr(case, part)[name] for case in CASES}) > 2, f"{part}.{name}"
    for name in ("queries", "cross_every", "videos", "frames"):
        assert len({getattr(case, name) for case in CASES}) > 2, name


def test_position_embeddings_are_interpolated_both_ways() -> None:
    ratios = {case.vision["img_size"] / case.stored_image for case in CASES}
    assert min(ratios) < 1 < max(ratios)


def test_every_package_is_pinned(pytestconfig: pytest.Config) -> None:
    lines = [
        line
        for path in (pytestconfig.rootpath / "tests" / "interop" / "requirements").glob("*.txt")
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert [line for line in lines if "==" not in line] == ["torch"]  # constraints.txt pins it
