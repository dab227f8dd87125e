"""The timm tower, with a small stand-in for timm: the same arithmetic and the same names as its EVA."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sevila import build
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.backbone import Pretrained, Random
from sevila.checkpoints.lavis import vision_name
from sevila.checkpoints.timm import TimmTower, TimmVision
from sevila.config import load
from sevila.errors import UserError

WIDTH, INNER, HEADS, BLOCKS, PATCH, SIDE = 128, 512, 4, 4, 16, 4  # those of the tiny backbone

State = dict[str, Tensor]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.register_buffer("k_bias", torch.zeros(WIDTH), persistent=False)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        query, key, value = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = Attention()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, INNER), "fc2": nn.Linear(INNER, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Eva(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + SIDE**2, WIDTH))
        self.blocks = nn.ModuleList([Block() for _ in range(depth)])
        self.norm, self.fc_norm, self.head = nn.LayerNorm(WIDTH), nn.Identity(), nn.Linear(WIDTH, 7)
        self.rope = None


class Rotary(Eva):
    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.rope = nn.Identity()


def create_model(name: str, pretrained: bool, num_classes: int, depth: int) -> nn.Module:
    assert not pretrained and num_classes == 0
    if name not in ("eva_small", "eva02_small"):
        raise RuntimeError(f"Unknown model ({name})")
    return (Eva if name == "eva_small" else Rotary)(depth)


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> ModuleType:
    module = ModuleType("timm")
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.fixture(scope="module")
def lavis() -> State:
    """The tiny backbone's tower under LAVIS's names. Its key biases are left out: attention does not feel them."""
    state = {}
    for name, tensor in backbones.load().vision.state_dict().items():
        official = vision_name(name).removeprefix("visual_encoder.")
        if official.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            state[official.replace("qkv.", "q_")] = query.clone()
            state[official.replace("qkv.", "v_")] = value.clone()
        elif not official.startswith("ln_vision"):
            state[official] = tensor.clone()
    return state


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[State], str]:
    def save(state: State) -> str:
        torch.save(state, tmp_path / "eva_vit_g.pth")
        return str(tmp_path / "eva_vit_g.pth")

    return save


def tower(vision: TimmVision, width: int = WIDTH) -> TimmTower:
    return vision.tower(width, Pretrained().fill, torch.float32, torch.device("cpu"))


def refusal(vision: TimmVision, width: int = WIDTH) -> str:
    with pytest.raises(UserError) as caught:
        tower(vision, width)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- the same numbers ---


@pytest.mark.parametrize("side", [64, 96, 32])
def test_it_equals_the_own_tower_at_every_size(side: int, lavis: State, saved: Callable[[State], str]) -> None:
    own = backbones.load()
    other = backbones.load(vision=TimmVision("eva_small", BLOCKS, saved(lavis)))
    pixels = torch.randn(2, 3, 3, side, side, generator=torch.Generator().manual_seed(0))
    patches = own.encode(pixels)
    assert patches.shape == (2, 3, 1 + (side // PATCH) ** 2, WIDTH)
    torch.testing.assert_close(other.encode(pixels), patches, rtol=1e-4, atol=1e-4 * float(patches.std()))
    assert (other.image_size, other.fingerprint) == (own.image_size, own.fingerprint)
    assert not other.tower.training and not any(p.requires_grad for p in other.parameters())


def test_later_blocks_and_the_classifier_are_left_out(lavis: State, saved: Callable[[State], str]) -> None:
    more = {f"blocks.{BLOCKS}.norm1.weight": torch.ones(WIDTH), "blocks.39.mlp.fc1.bias": torch.ones(3)}
    more |= {"norm.weight": torch.ones(5), "fc_norm.bias": torch.ones(5), "head.weight": torch.ones(2, 2)}
    names = set(tower(TimmVision("eva_small", BLOCKS, saved({**lavis, **more}))).model.state_dict())
    assert names == set(lavis)


def test_fewer_blocks_are_an_earlier_layer(lavis: State, saved: Callable[[State], str]) -> None:
    own, pixels = backbones.load(), torch.randn(1, 3, 64, 64)
    hidden = own.vision.embeddings(pixels)
    for layer in own.vision.encoder.layers[:2]:
        hidden = layer(hidden)
    found = tower(TimmVision("eva_small", 2, saved(lavis))).eval()(pixels)
    torch.testing.assert_close(found, hidden, rtol=1e-4, atol=1e-4)


def test_the_dtype_is_the_backbones(lavis: State, saved: Callable[[State], str]) -> None:
    vision = TimmVision("eva_small", BLOCKS, saved(lavis))
    half = vision.tower(WIDTH, Pretrained().fill, torch.bfloat16, torch.device("cpu"))
    assert {t.dtype for t in (*half.parameters(), *half.buffers())} == {torch.bfloat16}
    assert torch.equal(half.positions, lavis["pos_embed"].bfloat16())


def test_random_weights_need_no_file() -> None:
    backbone = backbones.load(vision=TimmVision("eva_small", 3), weights=Random())
    assert isinstance(backbone.tower, TimmTower) and len(backbone.vision.blocks) == 3
    assert all((buffer == 0).all() for buffer in backbone.tower.buffers())
    assert backbone.encode(torch.randn(1, 3, 64, 64)).isfinite().all()
    assert (backbone.vision.blocks[2].norm1.weight == 1).all()


# -- refusals ---


def test_everything_wrong_with_a_file_is_listed(lavis: State, saved: Callable[[State], str]) -> None:
    wrong = dict(lavis)
    del wrong["cls_token"], wrong["blocks.1.attn.q_bias"]
    wrong |= {"pos_embed": torch.zeros(1, 5, WIDTH), "blocks.0.attn.k_bias": torch.zeros(WIDTH), "odd": torch.ones(1)}
    file = saved(wrong)
    assert refusal(TimmVision("eva_small", BLOCKS, file)) == (
        f"vision.file={file}: does not fit vision.model: missing cls_token, blocks.1.attn.q_bias; "
        "unexpected blocks.0.attn.k_bias, odd; "
        f"pos_embed is [1, 5, {WIDTH}], not [1, {1 + SIDE**2}, {WIDTH}]"
    )
    assert f"missing blocks.{BLOCKS}.norm1.weight, " in refusal(TimmVision("eva_small", BLOCKS + 1, saved(lavis)))
    assert refusal(TimmVision("eva_small", BLOCKS, "/no/such.pth")) == "/no/such.pth: no such checkpoint file"


def test_values_that_are_no_numbers_are_named(lavis: State, saved: Callable[[State], str]) -> None:
    damaged = {**lavis, "cls_token": torch.full_like(lavis["cls_token"], float("nan"))}
    file = saved(damaged)
    assert refusal(TimmVision("eva_small", BLOCKS, file)) == (
        f"vision.file={file}: does not fit vision.model: no finite numbers (NaN, infinity, integers) in cls_token"
    )


def test_a_wrong_model_is_one_line() -> None:
    assert refusal(TimmVision("eva_big")) == "vision.model=eva_big: timm cannot build it (Unknown model (eva_big))"
    assert refusal(TimmVision("eva02_small")).startswith("vision.model=eva02_small: is no EVA with absolute positions")
    assert refusal(TimmVision("eva_small", 0)) == "vision.depth=0: must be at least 1"
    found = refusal(TimmVision("eva_small"), width=99)
    assert found == "vision.model=eva_small: is 128 wide, the heads of model.source read 99"
    assert "has no weights: give vision.file=FILE" in refusal(TimmVision("eva_small"))


def broken(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A package of that name in the place of what is installed."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_timm_missing_or_broken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal(TimmVision()) == "vision=timm: timm is not installed; pip install sevila[timm]"
    monkeypatch.setitem(sys.modules, "torchvision", None)
    broken(tmp_path, "timm", monkeypatch, "import torchvision")
    assert refusal(TimmVision()) == "vision=timm: torchvision is not installed; pip install sevila[timm]"
    text = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "timm" / "__init__.py").write_text(f"# another length\n{text}")
    assert refusal(TimmVision()) == (
        "vision=timm: timm cannot be imported (operator torchvision::nms does not exist): "
        f"install the torchvision that was built for torch {torch.__version__}"
    )


# -- the config group ---


def test_the_group_vision_builds_it(lavis: State, saved: Callable[[State], str]) -> None:
    words = ["vision=timm", "vision.model=eva_small", f"vision.depth={BLOCKS}", f"vision.file={saved(lavis)}"]
    model = build.model(load("eval", words), torch.device("cpu"))
    assert isinstance(model.backbone.tower, TimmTower)
    config = load("eval", ["vision=timm"])
    assert config.vision == {"name": "timm", "model": "eva_giant_patch14_clip_224", "depth": 39, "file": None}
    assert load("eval", []).vision == {"name": "blip2"}
