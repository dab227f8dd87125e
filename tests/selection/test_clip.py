"""CLIP and SigLIP as scorers, with small random weights in local folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from sevila.data.records import Question
from sevila.data.video import Frames
from sevila.errors import UserError
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection import build_scorer
from sevila.selection.scorers import CLIPScorer

_SPOKEN = "what does the red star hold ? a cup key who enters circle square blue"
WORDS = ["<pad>", "<eos>", "<unk>", *_SPOKEN.split(" ")]
SIZE = 16


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder that reads 8 tokens and pictures of 16 x 16."""
    path = tmp_path_factory.mktemp(request.param)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(WORDS), "max_position_embeddings": 8, "pad_token_id": 0, "eos_token_id": 1}
    vision = {**sizes, "image_size": SIZE, "patch_size": 8}
    torch.manual_seed(0)
    if request.param == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    else:
        model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(path)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    from tokenizers.processors import TemplateProcessing

    words.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(path)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, resample=3
    ).save_pretrained(path)
    return path


def test_cosine_of_frame_and_question(
    folder: Path,
    sevila: SeViLA,
    frames: Frames,
    encoded: EncodedVideo,
    questions: list[Question],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = build_scorer({"name": "clip", "model": str(folder)}, sevila)
    scores = scorer.score(encoded, questions, frames.pixels)
    assert scores.shape == (3, 10) and float(scores.abs().max()) <= 1
    assert len({round(score, 5) for score in scores.flatten().tolist()}) == 30

    network = AutoModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    picture = processor(images=[frames.pixels[4].permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    assert picture.shape == (1, 3, SIZE, SIZE)
    words = ["what", "does", "the", "red", "star", "hold", "?"]  # eight tokens with the end: the options are cut off
    ids = torch.tensor([[*(WORDS.index(word) for word in words), 1]])
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=picture).pooler_output[0]
        asked = network.get_text_features(input_ids=ids).pooler_output[0]
    assert float(scores[0, 4]) == pytest.approx(float(torch.cosine_similarity(seen, asked, dim=0)), abs=1e-5)

    monkeypatch.setattr("sevila.selection.scorers.ROWS", 3)  # in small passes the same
    torch.testing.assert_close(scorer.score(encoded, questions, frames.pixels), scores, atol=1e-5, rtol=0)


def test_with_and_without_options(folder: Path, sevila: SeViLA, frames: Frames, encoded: EncodedVideo) -> None:
    first = Question("1", "v", "who enters ?", ("the circle", "the square"))
    second = Question("2", "v", "who enters ?", ("a cup", "a key"))
    alone = CLIPScorer(sevila, str(folder), options=False).score(encoded, [first, second], frames.pixels).tolist()
    assert alone[0] == pytest.approx(alone[1], abs=1e-6)
    both = CLIPScorer(sevila, str(folder)).score(encoded, [first, second], frames.pixels).tolist()
    assert both[0] != pytest.approx(both[1], abs=1e-4) and both[0] != pytest.approx(alone[0], abs=1e-4)
    with pytest.raises(ValueError, match="looks at pictures"):
        CLIPScorer(sevila, str(folder)).score(encoded, [first], None)


def test_a_folder_that_brings_code_is_read_without_it(
    folder: Path, sevila: SeViLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    config = json.loads((own / "config.json").read_text())
    auto_map = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoImageProcessor": "own.Pictures"}
    (own / "config.json").write_text(json.dumps({**config, "auto_map": auto_map}))
    (own / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\nclass Config: ...\nclass Model: ...\n")
    assert CLIPScorer(sevila, str(own)).text_tokens == CLIPScorer(sevila, str(folder)).text_tokens
    (own / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": auto_map}))
    with pytest.raises(UserError, match=r"^scorer\.model="):
        CLIPScorer(sevila, str(own))
    assert not (tmp_path / "mark").exists()


def test_weights_that_are_not_whole(folder: Path, sevila: SeViLA, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    tensors = load_file(own / "model.safetensors")
    tensors["vision_model.post_layernorm.weight"][0] = float("nan")
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"not whole: no finite numbers .* in vision_model\.post_layernorm\.weight$"):
        CLIPScorer(sevila, str(own))
    del tensors["vision_model.post_layernorm.weight"]
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"not whole: missing vision_model\.post_layernorm\.weight$"):
        CLIPScorer(sevila, str(own))


def test_no_such_model(sevila: SeViLA, tmp_path: Path) -> None:
    from sevila.checkpoints.architecture import TINY_FOLDER

    for place in ("nobody/no-such-clip", str(tmp_path / "none")):
        with pytest.raises(UserError) as raised:
            CLIPScorer(sevila, place)
        assert f"scorer.model={place}: neither a folder nor a reachable Hub id" in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="is a blip-2; choose a clip or siglip model"):
        CLIPScorer(sevila, str(TINY_FOLDER))
