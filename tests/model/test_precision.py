"""What `auto` takes, on processors that are told rather than had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sevila import api
from sevila.model import precision
from sevila.model.precision import bf16_units, fast_dtype, warn_if_slow

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"  # Cascade Lake: PyTorch computes bf16, slowly
PROCESSORS = {
    "skylake": (f"processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 {AVX512}\nbugs\t\t: spectre_v1\n", ()),
    "arrow_lake": ("flags\t\t: fpu avx2 avx_vnni avx_vnni_int8 avx_ne_convert\n", ()),  # converts only
    "zen4": (f"flags\t\t: fpu {AVX512} avx512_bf16\n", ("avx512_bf16",)),
    "sapphire_rapids": (
        f"flags\t\t: {AVX512} avx512_bf16 amx_bf16 amx_tile amx_int8\n",
        ("amx_bf16", "avx512_bf16"),
    ),
    "graviton2": ("processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n", ()),
    "graviton3": ("processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm svebf16\n", ("bf16",)),
    "name": ("model name\t: bf16 avx512_bf16\nflags\t\t: fpu\n", ()),
    "unknown": ("", ()),
}


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """A processor by its name in PROCESSORS; returns its units."""
    text, units = PROCESSORS[request.param]
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    precision._warn_of_slow_bfloat16.cache_clear()
    return units


@pytest.mark.parametrize("processor", PROCESSORS, indirect=True)
def test_a_processor_is_known_by_its_units(processor: tuple[str, ...]) -> None:
    assert bf16_units() == processor
    assert fast_dtype("cpu") == (torch.bfloat16 if processor else torch.float32)
    assert fast_dtype("cuda") == fast_dtype(torch.device("cuda:1")) == torch.bfloat16
    assert fast_dtype("mps") == torch.float32


def test_a_system_that_does_not_tell_has_no_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    assert bf16_units() == () and fast_dtype("cpu") == torch.float32


@pytest.mark.parametrize("processor", ["skylake"], indirect=True)
def test_slow_bfloat16_is_said_once(processor: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for device, dtype in (("cpu", torch.float32), ("cpu", torch.float64), ("cuda", torch.bfloat16)):
        warn_if_slow(dtype, device)
    assert capsys.readouterr().err == ""
    for device in ("cpu", torch.device("cpu")):
        warn_if_slow(torch.bfloat16, device)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sevila: warning: bfloat16 will be slow: ") and "precision=auto" in line


@pytest.mark.parametrize("processor", ["zen4"], indirect=True)
def test_nothing_is_said_where_bfloat16_is_fast(processor: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    warn_if_slow(torch.bfloat16, "cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("processor", ["skylake", "zen4"], indirect=True)
def test_a_model_is_loaded_in_the_fast_precision(
    processor: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    model = api.SeViLA.load("tiny").model
    assert model.backbone.dtype == (torch.bfloat16 if processor else torch.float32)
    assert {p.dtype for p in model.localizer.head.parameters()} == {torch.float32}
    assert capsys.readouterr().err == ""
    assert api.SeViLA.load("tiny", dtype=torch.bfloat16).model.backbone.dtype == torch.bfloat16
    assert len(capsys.readouterr().err.splitlines()) == (0 if processor else 1)
