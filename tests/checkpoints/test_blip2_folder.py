"""A BLIP-2 folder read lazily is what the loaded model is."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from sevila.api import SeViLA
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY_FOLDER
from sevila.checkpoints.blip2_folder import Blip2Folder
from sevila.errors import UserError

State = dict[str, Tensor]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the tiny backbone that may be spoilt."""
    return Path(shutil.copytree(TINY_FOLDER, tmp_path / "copy"))


def refusal(place: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        folder = Blip2Folder.open(str(place))
        folder.head()
        _ = folder.fingerprint
    message = str(caught.value)
    assert "\n" not in message and str(place) in message
    return message


def test_fingerprint_sizes_and_head_are_the_loaded_models() -> None:
    folder, loaded = Blip2Folder.open("tiny"), backbones.load()
    assert folder.fingerprint == loaded.fingerprint and len(folder.fingerprint) == 12
    assert folder.sizes == loaded.zeroshot.config
    head = folder.head().state_dict()
    wanted = loaded.zeroshot.state_dict()
    assert list(head) == list(wanted)
    assert all(torch.equal(head[name], wanted[name]) for name in wanted)
    assert {tensor.dtype for tensor in head.values()} == {torch.float32}


def test_a_folder_in_several_files(tmp_path: Path) -> None:
    model = Blip2ForConditionalGeneration.from_pretrained(TINY_FOLDER)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    folder, whole = Blip2Folder.open(str(tmp_path)), Blip2Folder.open("tiny")
    assert folder.fingerprint == whole.fingerprint
    assert all(torch.equal(a, b) for a, b in zip(folder.head().parameters(), whole.head().parameters(), strict=True))


COVERED = (
    "vision_model.embeddings.class_embedding",
    "vision_model.encoder.layers.3.mlp.fc2.bias",
    "language_model.shared.weight",
    "language_model.lm_head.weight",
    "language_model.decoder.block.1.layer.1.EncDecAttention.v.weight",
    "vision_model.post_layernorm.bias",
    "query_tokens",
    "qformer.encoder.layer.0.crossattention.attention.key.weight",
    "language_projection.bias",
)


@pytest.mark.parametrize("name", COVERED)
def test_any_other_value_gives_another_fingerprint(copy: Path, name: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors[name].view(-1)[-1] += 1
    save_file(tensors, copy / "model.safetensors")
    changed = Blip2Folder.open(str(copy)).fingerprint
    assert changed != Blip2Folder.open("tiny").fingerprint and changed == backbones.load(str(copy)).fingerprint


# -- whole, or not at all ---


def in_safetensors(tensors: State, folder: Path) -> None:
    save_file(tensors, folder / "model.safetensors")


def in_two_files(tensors: State, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    places = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def in_a_pickle(tensors: State, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


WRITERS = [in_safetensors, in_two_files, in_a_pickle]


@pytest.mark.parametrize("write", WRITERS)
def test_every_form_loads_the_same(copy: Path, write: Callable[[State, Path], None]) -> None:
    tensors = load_file(copy / "model.safetensors")
    spare = "language_model.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    more = {
        "language_model.encoder.embed_tokens.weight": tensors["language_model.shared.weight"].clone(),
        "language_model.decoder.embed_tokens.weight": tensors["language_model.shared.weight"].clone(),
        "qformer.embeddings.position_ids": torch.arange(9)[None],
        spare: torch.zeros(32, 10),
    }
    write(tensors | more, copy)
    loaded, whole = backbones.load(str(copy)), backbones.load()
    assert loaded.fingerprint == whole.fingerprint
    assert {n: bool(t.equal(whole.state_dict()[n])) for n, t in loaded.state_dict().items() if "." in n} == {
        n: True for n in whole.state_dict() if "." in n
    }
    language = loaded.language
    assert language.encoder.embed_tokens.weight is language.shared.weight is language.decoder.embed_tokens.weight


@pytest.mark.parametrize("write", WRITERS)
def test_missing_renamed_misshaped_and_extra_tensors_are_listed(
    copy: Path, write: Callable[[State, Path], None]
) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["head.lm_head.weight"] = tensors.pop("language_model.lm_head.weight")  # never tied in its place
    tensors["query_tokens"] = torch.zeros(1, 2, 3)
    del tensors["language_projection.bias"]
    write(tensors, copy)
    said = (
        "its weights do not fit its config.json: missing language_projection.bias, language_model.lm_head.weight; "
        "unexpected head.lm_head.weight; query_tokens is [1, 2, 3], not [1, 6, 128]"
    )
    assert sorted(refusal(copy).removeprefix(f"{copy}: ")) == sorted(said)
    for load in (backbones.load, SeViLA.load):
        with pytest.raises(UserError) as caught:
            load(str(copy))
        message = str(caught.value)
        assert message.startswith(f"model.source={copy}: its weights do not fit its config.json: missing ")
        assert sorted(message.removeprefix(f"model.source={copy}: ")) == sorted(said)


def test_a_repository_of_the_hub_is_checked_alike(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(copy / "model.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, copy / "model.safetensors")
    monkeypatch.setattr("sevila.checkpoints.blip2_folder.fetch", lambda place, patterns: copy)
    with pytest.raises(
        UserError, match=r"^me/blip2: its weights do not fit its config.json: missing .*\(220 tensors\)"
    ):
        Blip2Folder.open("me/blip2").head()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["vision_model.encoder.layers.0.layer_norm1.bias", "qformer.layernorm.weight"])
def test_values_that_are_no_numbers_are_refused(copy: Path, name: str, value: float) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors[name].view(-1)[7] = value
    save_file(tensors, copy / "model.safetensors")
    said = f"its weights do not fit its config.json: no finite numbers (NaN, infinity, integers) in {name}"
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(UserError) as caught:
            backbones.load(str(copy), dtype=dtype)
        assert str(caught.value) == f"model.source={copy}: {said}"
    assert refusal(copy) == f"{copy}: {said}"


def test_a_quantised_model_is_refused(copy: Path) -> None:
    content = json.loads((copy / "config.json").read_text())
    content["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (copy / "config.json").write_text(json.dumps(content))
    said = f"{copy}: its config.json says that it is quantised; take the model with its whole weights"
    assert refusal(copy) == said
    with pytest.raises(UserError) as caught:
        backbones.load(str(copy))
    assert str(caught.value) == f"model.source={said}"


def test_whole_numbers_are_no_weights(copy: Path) -> None:
    """As of a quantised model, whose scales stand elsewhere."""
    tensors = load_file(copy / "model.safetensors")
    tensors["query_tokens"] = torch.ones(1, 6, 128, dtype=torch.int8)
    save_file(tensors, copy / "model.safetensors")
    assert refusal(copy).endswith("no finite numbers (NaN, infinity, integers) in query_tokens")


# -- no file runs code, none hangs ---


def asks_for_code(folder: Path, file: str, entries: dict[str, str]) -> Path:
    """Lets a json of the folder name classes of a python file there, which leaves a mark where it is run."""
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, "auto_map": entries}))
    mark = folder.parent / "mark"
    text = f"open({str(mark)!r}, 'w').close()\n"
    (folder / "own.py").write_text(f"{text}class Config: ...\nclass Model: ...\nclass Words: ...\n")
    return mark


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))


def test_a_folder_that_brings_code_is_read_without_it(copy: Path, nobody_answers: None) -> None:
    mark = asks_for_code(copy, "config.json", {"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    assert asks_for_code(copy, "tokenizer_config.json", {"AutoTokenizer": ["own.Words", "own.Words"]}) == mark
    assert backbones.load(str(copy)).fingerprint == backbones.load().fingerprint
    assert Blip2Folder.open(str(copy)).fingerprint == backbones.load().fingerprint
    assert not mark.exists()


def test_a_model_that_is_nothing_without_its_code_is_refused(copy: Path, nobody_answers: None) -> None:
    mark = asks_for_code(copy, "config.json", {"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, "model_type": "own"}))
    assert "no configuration of a BLIP-2 (" in refusal(copy) and not mark.exists()
    with pytest.raises(UserError, match=r"^model\.source="):
        backbones.load(str(copy))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("text_config", "num_layers", 10**6),
        ("text_config", "vocab_size", 10**9),
        ("vision_config", "num_hidden_layers", 10**6),
        ("vision_config", "patch_size", 0),
        ("qformer_config", "num_hidden_layers", -1),
        ("qformer_config", "hidden_size", 10**8),
    ],
)
def test_sizes_that_no_model_has_are_refused_at_once(copy: Path, part: str, name: str, value: int) -> None:
    content = json.loads((copy / "config.json").read_text())
    content[part][name] = value
    (copy / "config.json").write_text(json.dumps(content))
    assert refusal(copy).startswith(f"{copy}: its config.json says {part}.{name}={value}; expected ")


@pytest.mark.parametrize(("part", "name", "value"), [("text_config", "num_heads", 7), ("qformer_config", "x", 1)])
def test_a_config_that_fits_other_weights(copy: Path, part: str, name: str, value: int) -> None:
    content = json.loads((copy / "config.json").read_text())
    content[part][name] = value
    (copy / "config.json").write_text(json.dumps(content))
    if name == "num_heads":
        assert "its weights do not fit its config.json: language_model." in refusal(copy)
    else:  # what nobody reads does no harm
        assert Blip2Folder.open(str(copy)).fingerprint


@pytest.mark.parametrize("text", ["[]", '"x"', '{"model_type": "blip-2", "text_config": 3}', "[" * 99999, "\xff"])
def test_a_config_that_is_none(copy: Path, text: str) -> None:
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    refusal(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pipe_in_the_place_of_a_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(UserError) as caught:
        backbones.load(str(copy))
    assert str(caught.value) == f"{copy / name}: is a pipe or device: name a file"
    with pytest.raises(UserError, match="is a pipe or device: name a file"):
        Blip2Folder.open(str(copy / name))


def test_what_is_no_blip2(copy: Path, tmp_path: Path) -> None:
    reason = "not in the cache, and the Hub cannot be reached because HF_HUB_OFFLINE is set"
    assert refusal("Salesforce/blip2-none") == (
        "Salesforce/blip2-none: neither a folder nor a reachable Hub id of a BLIP-2, such as "
        f"Salesforce/blip2-flan-t5-xl ({reason})"
    )
    assert "neither a folder nor a reachable Hub id" in refusal("blip2_flan_t5_xl")
    assert refusal("Salesforce/blip2@v2").endswith("(a backbone is named without a revision)")
    (tmp_path / "empty").mkdir()
    assert "no configuration of a BLIP-2" in refusal(tmp_path / "empty")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config["text_config"]))
    assert refusal(copy) == f"{copy}: is a t5, not a BLIP-2 with a T5 language model"


def test_weights_that_are_missing_or_spoilt(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["query_tokens"], tensors["language_projection.bias"]
    save_file(tensors, copy / "model.safetensors")
    said = "its weights do not fit its config.json"
    assert refusal(copy) == f"{copy}: {said}: missing query_tokens, language_projection.bias"
    tensors |= {"query_tokens": torch.zeros(1, 2, 3), "language_projection.bias": torch.zeros(128)}
    save_file(tensors, copy / "model.safetensors")
    assert refusal(copy) == f"{copy}: {said}: query_tokens is [1, 2, 3], not [1, 6, 128]"
    (copy / "model.safetensors").write_bytes(b"no weights")
    assert "model.safetensors: not a readable safetensors file" in refusal(copy)
    (copy / "model.safetensors").unlink()
    assert refusal(copy).startswith(f"{copy}: holds no weights (no model.safetensors or pytorch_model.bin, ")
    (copy / "model.safetensors.index.json").write_text("[]")
    assert "no index of weights" in refusal(copy)
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../a.safetensors"}}')
    assert refusal(copy).endswith("names '../a.safetensors', and there is no such file beside it")
    (copy / "model.safetensors.index.json").unlink()
    for content in (b"<html>404 Not Found</html>", b"", b"PK\3\4 and so on", pickle.dumps({"a": 1}, 2)):
        (copy / "pytorch_model.bin").write_bytes(content)
        assert f"{copy}/pytorch_model.bin: not " in refusal(copy)
