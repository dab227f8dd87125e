"""On a GPU: where things lie, how float32 is multiplied, numbers beside the CPU's, and runs that repeat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from benchmarks.subject import pictures
from sevila import api, train
from sevila.checkpoints.heads import load_head
from sevila.model.precision import arithmetic
from sevila.model.sevila import Answerer

pytestmark = pytest.mark.gpu

OPTIONS = ["bell", "fork", "cup", "flag", "book"]
QUESTION = "what does the red star hold?"


@pytest.fixture(autouse=True)
def _as_a_run_computes() -> Iterator[None]:
    """float32 is float32; torch's default for convolutions is TF32."""
    with arithmetic():
        yield


def scores(sevila: api.SeViLA, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of random pictures and logits of the letters, on the CPU."""
    model = sevila.model
    patches = model.backbone.encode(pictures(size, model.backbone.image_size))
    asked = [model.prompts.answer(QUESTION, OPTIONS)]
    found = model.relevance(patches, [model.prompts.localize(QUESTION, OPTIONS)])
    return found.cpu(), model.option_logits(patches, [[0, 3, 5, 7]], asked, [len(OPTIONS)])[0].cpu()


def test_by_default_a_gpu_gets_bfloat16_and_no_spare_head() -> None:
    before = torch.cuda.memory_allocated()
    model = api.SeViLA.load("tiny", device="cuda").model
    fast = torch.cuda.get_device_capability() >= (8, 0)
    assert model.backbone.dtype == (torch.bfloat16 if fast else torch.float32)
    assert {p.device.type for p in model.backbone.zeroshot.parameters()} == {"cpu"}
    placed = [*model.backbone.tower.parameters(), *model.backbone.language.parameters()]
    placed += [*model.localizer.head.parameters(), *model.answerer.head.parameters()]
    assert {p.device.type for p in placed} == {"cuda"}
    size = sum(p.numel() * p.element_size() for p in {id(p): p for p in placed}.values())
    assert torch.cuda.memory_allocated() - before < 1.1 * size + 2**21  # blocks of the allocator


def test_float32_is_multiplied_as_float32_unless_asked_otherwise() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    exact, off = left.double() @ right.double(), {}
    for tf32 in (False, True):
        with arithmetic(tf32):
            product = (left.cuda() @ right.cuda()).cpu()
        off[tf32] = float((product - exact).norm() / exact.norm())
    assert off[False] < 1e-6
    assert off[True] > 1e-5 or torch.cuda.get_device_capability() < (8, 0)


@pytest.mark.parametrize(("dtype", "far"), [("fp32", 1e-4), ("bf16", 0.1), ("published", 0.1)])
def test_answers_are_near_the_cpus(dtype: str, far: float) -> None:
    wanted = scores(api.SeViLA.load("tiny", dtype="fp32"))
    found = scores(api.SeViLA.load("tiny", device="cuda", dtype=dtype))
    for ours, true in zip(found, wanted, strict=True):
        assert float((ours - true).norm() / true.norm()) < far


@pytest.mark.parametrize(("dtype", "least"), [("fp32", 0.9999), ("bf16", 0.95), ("published", 0.95)])
def test_gradients_point_where_the_cpus_point(dtype: str, least: float, small_world: list[str]) -> None:
    """On most films: where two frames are nearly alike to the model, roundings decide."""
    films = sorted(Path(small_world[0].removeprefix("data.root=")).rglob("*.mp4"))
    here, there = api.SeViLA.load("tiny", dtype="fp32"), api.SeViLA.load("tiny", device="cuda", dtype=dtype)
    near = [cosine_similarity(gradient(here, film), gradient(there, film), 0) for film in films]
    assert torch.stack(near).median() > least


def gradient(sevila: api.SeViLA, film: Path) -> torch.Tensor:
    """Of a head that begins as BLIP-2's own, with the autocast that training has; in one row, on the CPU."""
    backbone = sevila.model.backbone
    patches = sevila.encode(film, n_frames=8).patches.unflatten(0, (2, 4))
    head = load_head("zeroshot", "answerer", backbone).eval().requires_grad_(True)
    half = backbone.dtype == torch.bfloat16
    with torch.autocast(backbone.device.type, torch.bfloat16, enabled=half):
        loss = Answerer(backbone, head).loss(patches, [QUESTION] * 2, [0, 1])
    loss.backward()
    return torch.cat([p.grad.flatten().cpu() for p in head.parameters() if p.grad is not None])


def test_deterministic_runs_repeat_to_the_bit(small_world: list[str], tmp_path: Path) -> None:
    heads = []
    for name in "ab":
        words = ["+exp=synthetic_pretrain", f"run_dir={tmp_path / name}", "device=cuda", "precision=bf16", *small_world]
        words += ["trainer.max_steps=4", "trainer.batch_size=2", "trainer.eval_every=4", "deterministic=true"]
        assert train.cli(words) == 0
        heads.append((tmp_path / name / "localizer.safetensors").read_bytes())
    assert heads[0] == heads[1]
    assert not torch.are_deterministic_algorithms_enabled()
