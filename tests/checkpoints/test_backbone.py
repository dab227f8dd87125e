"""Where a backbone comes from: its sizes, its weights, its tokenizer."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Blip2ForConditionalGeneration

from sevila import build
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY_FOLDER, outline, published, read_tokenizer
from sevila.checkpoints.backbone import NOISE, Pretrained, Random
from sevila.config import load
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.sevila import Localizer

XL, XXL = "Salesforce/blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xxl"


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture(scope="module")
def noise() -> Backbone:
    return backbones.load(dtype=torch.bfloat16, weights=Random())


@pytest.fixture
def sizes_only(tmp_path: Path) -> Path:
    """A BLIP-2 folder without weights."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY_FOLDER / name, tmp_path)
    return tmp_path


def refusal(call: Callable[..., object], *args: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- pretrained ---


def test_parts_are_those_of_transformers() -> None:
    backbone = backbones.load()
    theirs = Blip2ForConditionalGeneration.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    digest = hashlib.sha256()
    for tensor in (theirs.vision_model.embeddings.position_embedding, theirs.language_model.lm_head.weight):
        digest.update(str(tuple(tensor.shape)).encode())
        first = tensor.detach().flatten()[:4096].to(torch.bfloat16)
        digest.update(first.view(torch.int16).numpy().tobytes())
    assert backbone.first_fingerprint == digest.hexdigest()[:12]
    head = backbone.zeroshot.state_dict()
    assert torch.equal(head["queries"], theirs.query_tokens)
    assert torch.equal(head["norm.weight"], theirs.vision_model.post_layernorm.weight)
    assert all(torch.equal(head[f"qformer.{name}"], value) for name, value in theirs.qformer.state_dict().items())
    assert torch.equal(head["projection.weight"], theirs.language_projection.weight)
    assert (backbone.source, backbone.image_size) == ("tiny", 64)


def test_bf16_keeps_the_heads_in_float32_and_the_fingerprint() -> None:
    backbone = backbones.load(dtype=torch.bfloat16)
    assert {p.dtype for part in (backbone.tower, backbone.language) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in backbone.zeroshot.parameters()} == {torch.float32}
    assert backbone.fingerprint == backbones.load().fingerprint
    assert not any(p.requires_grad for p in backbone.parameters())


def test_a_folder_without_weights_is_one_line(sizes_only: Path) -> None:
    message = refusal(backbones.load, str(sizes_only))
    assert message.startswith(f"model.source={sizes_only}: holds no weights (no model.safetensors or pytorch_model.bin")
    assert refusal(backbones.load, "/no/such").startswith("model.source=/no/such: neither a folder nor a reachable")


# -- random ---


def test_random_weights_need_no_file_of_weights(noise: Backbone, sizes_only: Path) -> None:
    same = backbones.load(str(sizes_only), dtype=torch.bfloat16, weights=Random())
    assert same.fingerprint == noise.fingerprint
    assert noise.source == "tiny with random weights"
    for name, tensor in noise.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    assert backbones.load(weights=Random(1)).fingerprint != noise.fingerprint
    assert noise.fingerprint != backbones.load().fingerprint


def test_random_weights_are_small_noise_in_the_dtype_asked_for(noise: Backbone) -> None:
    language = noise.language
    assert {p.dtype for part in (noise.tower, language) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in noise.zeroshot.parameters()} == {torch.float32}
    assert language.encoder.embed_tokens.weight is language.shared.weight is language.decoder.embed_tokens.weight
    assert not torch.equal(language.lm_head.weight, language.shared.weight)
    assert language.lm_head.weight.float().std().item() == pytest.approx(NOISE, rel=0.05)
    assert (language.encoder.final_layer_norm.weight == 1).all() and (noise.zeroshot.norm.weight == 1).all()
    assert (noise.zeroshot.projection.bias == 0).all()
    assert language.config.dense_act_fn == "gelu"


def test_random_weights_give_finite_numbers(noise: Backbone) -> None:
    patches = noise.encode(torch.randn(2, 3, 64, 64))
    scores = Localizer(noise, noise.zeroshot).word_logits(noise.zeroshot(patches)[:, None], ["what is it?"] * 2)
    assert patches.dtype == torch.bfloat16 and patches.isfinite().all() and scores.isfinite().all()


def test_random_weights_see_the_picture() -> None:
    """In float64: of so small weights the logits of two pictures may be equal to a half precision's last digit."""
    exact = backbones.load(dtype=torch.float64, weights=Random())
    soft = exact.zeroshot(exact.encode(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))))
    one, other = Localizer(exact, exact.zeroshot).word_logits(soft[:, None], ["what is it?"] * 2)
    assert one != other


@pytest.mark.parametrize(
    ("source", "language", "projection"), [(XL, 2_849_757_184, 1_574_912), (XXL, 11_135_332_352, 3_149_824)]
)
def test_the_published_sizes_are_known_without_files(source: str, language: int, projection: int) -> None:
    config = Random().architecture(source)
    model = outline(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count == {
        "vision_model": 985_952_256,
        "qformer": 105_137_664,
        "language_projection": projection,
        "language_model": language,
    }
    assert all(p.is_meta for p in model.parameters())
    assert config.text_config.dense_act_fn == "gelu" and config.text_config.is_gated_act
    assert (config.text_config.vocab_size, config.num_query_tokens) == (32128, 32)
    assert model.vision_model.embeddings.num_positions == 257
    assert published("somebody/else") is None


# -- tokenizer ---


def test_the_tokenizer_can_be_named(shared: Path) -> None:
    words = read_tokenizer(str(shared / "t5_tokenizer"), XL, 32128)
    assert words("yes").input_ids == [4273, 1]
    assert words(["a", "a b c d e"], padding="longest").input_ids[0][-1] == words.pad_token_id == 0
    assert words.eos_token_id == 1
    message = refusal(backbones.load, tokenizer=str(shared / "t5_tokenizer"))
    assert message.endswith("t5_tokenizer: has 32100 tokens, model.source=tiny knows 424; name its own")


def test_without_a_network_a_missing_tokenizer_is_one_line() -> None:
    message = refusal(backbones.load, XL, weights=Random())
    assert message.startswith(f"model.source={XL}: no tokenizer there (")
    assert message.endswith("; name one by model.tokenizer=FOLDER")
    assert refusal(backbones.load, tokenizer="/no/such").startswith("model.tokenizer=/no/such: no tokenizer there (")


def test_a_folder_without_a_tokenizer_is_one_line(sizes_only: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (sizes_only / name).unlink()
    said = "no tokenizer there (it knows no words); name one by model.tokenizer=FOLDER"
    assert refusal(backbones.load, str(sizes_only)) == f"model.source={sizes_only}: {said}"


def test_a_part_without_weights_is_refused_unless_they_are_random() -> None:
    part = torch.nn.Linear(2, 2)
    assert refusal(Pretrained().fill, part, "vision.model=x", "give vision.file=FILE") == (
        "vision.model=x has no weights: give vision.file=FILE, or model.weights=random to measure without any"
    )
    Random().fill(part, "vision.model=x", "")
    assert (part.bias == 0).all() and part.weight.abs().max() < 6 * NOISE


def test_the_group_model_chooses_weights_and_checkpointing() -> None:
    words = ["model.weights=random", "model.checkpointing=true", "precision=bf16"]
    backbone = build.model(load("eval", words), torch.device("cpu")).backbone
    assert backbone.source == "tiny with random weights" and backbone.dtype == torch.bfloat16
    assert "forward" in vars(backbone.language.encoder.block[0])
    with pytest.raises(UserError, match=r"model\.weights=noise: expected pretrained or random"):
        load("eval", ["model.weights=noise"])
