"""What `auto` takes, on processors that are told rather than had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from sevila import api
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.checkpoints.heads import load_head, save_head
from sevila.data.dataset import Sample
from sevila.data.records import Question
from sevila.data.video import Frames
from sevila.errors import UserError
from sevila.model import precision
from sevila.model.precision import (
    CUBLAS_WORKSPACE,
    PRECISIONS,
    Precision,
    arithmetic,
    bf16_units,
    fast_dtype,
    find_precision,
    warn_if_slow,
)
from sevila.model.sevila import Answerer

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl avx512_vnni"  # Cascade Lake: PyTorch computes bf16, slowly
QUESTION = "what does the red star hold?"
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


# -- GPUs that are told rather than had ---


@pytest.fixture(params=[(7, 0), (7, 5), (8, 0), (9, 0)])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Of the GPU that this machine is said to have: V100, T4, A100, H100."""
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: request.param)
    precision._warn_of_old_gpu.cache_clear()
    return request.param


def test_a_gpu_without_units_gets_float32_and_says_so(
    capability: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    old = capability < (8, 0)
    assert find_precision(None, "cuda:1").language == (torch.float32 if old else torch.bfloat16)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        warn_if_slow(dtype, "cuda")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == (2 if old else 0)
    if old:
        assert told[0].endswith(
            "precision=auto takes float32 here, whose model is twice as large (16 GiB with Flan-T5 XL)"
        )
        assert told[1].startswith("sevila: warning: this GPU has no units for bfloat16: bfloat16 will be slow")


# -- torch's settings of the process ---


def settings() -> tuple[object, ...]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(), os.environ.get(CUBLAS_WORKSPACE))  # fmt: skip


@pytest.fixture
def others() -> Iterator[None]:
    """Settings of somebody else's, all unlike torch's own and unlike ours."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    matmul.allow_tf32, cudnn.benchmark = True, True
    yield
    matmul.allow_tf32, cudnn.benchmark = False, False


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_is_float32_unless_it_is_said(tf32: bool, others: None) -> None:
    before = settings()
    with pytest.raises(ZeroDivisionError), arithmetic(tf32):
        assert torch.backends.cuda.matmul.allow_tf32 is tf32 and torch.backends.cudnn.allow_tf32 is tf32
        raise ZeroDivisionError
    assert settings() == before and before[:2] == (True, True)


NEWER = """
import torch
from sevila.model.precision import arithmetic
matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
def state():
    return [each.fp32_precision for each in (matmul, cudnn.conv, cudnn.rnn)]
for others in ((cudnn.conv, "ieee"), (matmul, "tf32"), (torch.backends, "tf32")):
    others[0].fp32_precision = others[1]
    before = state()
    for tf32 in (False, True):
        with arithmetic(tf32):
            assert state() == ["tf32" if tf32 else "ieee"] * 3, state()
        assert state() == before, state()
"""


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="one kind of switch before torch 2.9")
def test_a_program_that_uses_torchs_newer_switches_is_served_too() -> None:
    """In a process of its own: torch does not forget that they were used."""
    subprocess.run([sys.executable, "-c", NEWER], check=True)


@pytest.mark.parametrize("tf32", [False, True])
def test_from_python_too(tf32: bool, others: None) -> None:
    """While a video is encoded, frames are chosen and an answer is read; torch's own settings stay as they were."""
    sevila, seen = api.SeViLA.load("tiny", tf32=tf32), []
    parts = sevila.model.backbone.tower, sevila.model.localizer.head, sevila.model.answerer.head
    for part in parts:
        part.register_forward_pre_hook(lambda *_: seen.append(settings()[:2]))
    pictures = Frames(torch.zeros(4, 3, 64, 64, dtype=torch.uint8), (0, 1, 2, 3), (0.0, 1.0, 2.0, 3.0))
    encoded = sevila.encode_sample(Sample(Question("0", "", "", ()), pictures, pictures.pixels))
    sevila.answer(encoded, QUESTION, ["bell", "fork"], k=2)
    assert seen == [(tf32, tf32)] * 3
    assert settings()[:2] == (True, True)


@pytest.mark.parametrize("own", [None, ":16:8"])
def test_what_is_deterministic_is_so_for_a_run_alone(
    own: str | None, others: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    if own:
        monkeypatch.setenv(CUBLAS_WORKSPACE, own)
    before = settings()
    with arithmetic(deterministic=True):
        assert torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.benchmark
        assert os.environ[CUBLAS_WORKSPACE] == own or ":4096:8"
        with arithmetic():  # nothing said: as it was
            assert torch.are_deterministic_algorithms_enabled()
    assert settings() == before and before[-1] == own


# -- the published precision ---


@pytest.mark.parametrize("processor", ["skylake"], indirect=True)
def test_precisions_have_names(processor: tuple[str, ...]) -> None:
    assert find_precision("auto", "cpu") == find_precision(None, "cpu") == PRECISIONS["fp32"]
    assert find_precision("published", "cuda") == Precision(torch.bfloat16, torch.float16)
    assert find_precision(torch.float64, "cpu") == PRECISIONS["fp64"]
    assert [name for name, one in PRECISIONS.items() if one.half_tower] == ["published"]
    for unknown in ("fp16", torch.float16):
        with pytest.raises(UserError, match="must be auto, fp32, bf16, fp64, published, or"):
            find_precision(unknown, "cpu")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny backbone with weights that neither float16 nor bfloat16 holds exactly."""
    folder = tmp_path_factory.mktemp("odd") / "tiny"
    shutil.copytree(TINY_FOLDER, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.float() * (1 + 1e-4) + 1e-7 for name, t in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def loaded(odd: Path) -> dict[str, api.SeViLA]:
    torch.set_num_threads(1)
    return {name: api.SeViLA.load(str(odd), dtype=name) for name in ("fp32", "bf16", "published")}


def test_as_published_products_are_float16_and_sums_float32(loaded: dict[str, api.SeViLA]) -> None:
    backbone = loaded["published"].model.backbone
    tower = {name.rpartition(".")[0].rpartition(".")[2]: p.dtype for name, p in backbone.tower.named_parameters()}
    assert {tower["qkv"], tower["fc1"], tower["fc2"]} == {torch.float16}
    assert {tower["layer_norm1"], tower["patch_embedding"], backbone.patches_dtype} == {torch.float32}
    patch = backbone.vision.embeddings.patch_embedding.weight
    assert torch.equal(patch, patch.half().float()) and backbone.dtype == torch.bfloat16
    whole = loaded["fp32"].model.backbone
    assert not torch.equal(whole.vision.embeddings.patch_embedding.weight, patch)
    # BLIP-2's own head as it is in the file, over a T5 in bfloat16
    own = loaded["published"].model.localizer.head.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in whole.zeroshot.state_dict().items())


def test_the_published_numbers_are_near_those_of_float32(loaded: dict[str, api.SeViLA]) -> None:
    """Patches by LAVIS's float16 within 1e-3, where bfloat16 is off by 5e-3; logits by T5's bfloat16."""
    pixels = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found: dict[str, list[torch.Tensor]] = {}
    for name, sevila in loaded.items():
        model = sevila.model
        patches = model.backbone.encode(pixels)
        scores = model.relevance(patches, [QUESTION])
        logits = model.option_logits(patches, [[0, 3, 5]], [QUESTION], [5])[0]
        found[name] = [patches, scores, logits]
        assert patches.dtype == model.backbone.patches_dtype and scores.dtype == torch.float32
    off = {
        name: [float((a.float() - b).norm() / b.norm()) for a, b in zip(found[name], found["fp32"], strict=True)]
        for name in ("bf16", "published")
    }
    assert 0 < off["published"][0] < 1e-3 < 3e-3 < off["bf16"][0]
    assert max(off["published"][1:]) < 0.05, off


def test_heads_fit_the_backbone_in_every_precision(loaded: dict[str, api.SeViLA], tmp_path: Path) -> None:
    """float16 rounds weights otherwise than bfloat16: the fingerprint is that of the weights in the file."""
    whole, published = loaded["fp32"].model.backbone, loaded["published"].model.backbone
    assert published.fingerprint == whole.fingerprint and published.first_fingerprint == whole.first_fingerprint
    save_head(tmp_path / "localizer.safetensors", whole.zeroshot, whole, "localizer")
    head = load_head(str(tmp_path), "localizer", published)
    assert {p.dtype for p in head.parameters()} == {torch.float32}


def test_a_head_learns_in_the_published_precision(loaded: dict[str, api.SeViLA], small_world: list[str]) -> None:
    """Its gradient, with the autocast that training has, points where float32's points.

    On most films: where two frames are nearly alike to the model, roundings decide.
    """
    films = sorted(Path(small_world[0].removeprefix("data.root=")).rglob("*.mp4"))
    near = [cosine_similarity(*(_gradient(loaded[name], film) for name in ("fp32", "published")), 0) for film in films]
    assert len(near) >= 5 and torch.stack(near).median() > 0.95


def _gradient(sevila: api.SeViLA, film: Path) -> torch.Tensor:
    """Of a head that begins as BLIP-2's own, in one row."""
    backbone = sevila.model.backbone
    patches = sevila.encode(film, n_frames=8).patches.unflatten(0, (2, 4))
    head = load_head("zeroshot", "answerer", backbone).eval().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=backbone.dtype == torch.bfloat16):
        loss = Answerer(backbone, head).loss(patches, [QUESTION] * 2, [0, 1])
    loss.backward()
    return torch.cat([p.grad.flatten() for p in head.parameters() if p.grad is not None])
