"""Official names to this project's: what is used, what is refused and how that is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.lavis import (
    backbone_from,
    blip2_from,
    head_name,
    head_sizes,
    heads_from,
    roles_in,
    vision_name,
)
from sevila.errors import UserError
from sevila.model.backbone import assemble_backbone
from sevila.model.head import HeadConfig

State = dict[str, Tensor]
SIZES = HeadConfig(88, 24, 3, width=128, layers=3, attention_heads=2, inner_width=40)


# -- heads --------------------------------------------------------------------------------------------------


def test_names_by_hand() -> None:
    assert head_name("queries", "localizer") == "query_tokens_loc"
    assert head_name("norm.bias", "answerer") == "ln_vision.bias"
    assert head_name("projection.weight", "localizer") == "t5_proj_loc.weight"
    assert head_name("qformer.layernorm.bias", "answerer") == "Qformer.bert.embeddings.LayerNorm.bias"
    assert (
        head_name("qformer.encoder.layer.2.crossattention.attention.key.bias", "localizer")
        == "Qformer_loc.bert.encoder.layer.2.crossattention.self.key.bias"
    )
    assert (
        head_name("qformer.encoder.layer.1.attention.output.dense.weight", "answerer")
        == "Qformer.bert.encoder.layer.1.attention.output.dense.weight"
    )
    assert vision_name("encoder.layers.7.self_attn.projection.bias") == "visual_encoder.blocks.7.attn.proj.bias"
    assert vision_name("encoder.layers.7.layer_norm2.bias") == "visual_encoder.blocks.7.norm2.bias"
    assert vision_name("embeddings.position_embedding") == "visual_encoder.pos_embed"
    assert vision_name("post_layernorm.weight") == "ln_vision.weight"


def test_values_that_are_no_numbers_are_named(whole: State) -> None:
    whole["Qformer.bert.embeddings.LayerNorm.weight"][3] = float("nan")
    whole["t5_model.lm_head.weight"][3, 1] = float("inf")
    told = "a.pth: not loaded: no finite numbers (NaN, infinity, integers) in"
    with pytest.raises(UserError) as caught:
        heads_from(whole, "a.pth")
    assert str(caught.value) == f"{told} Qformer.bert.embeddings.LayerNorm.weight"
    with pytest.raises(UserError) as caught:
        blip2_from(whole, "a.pth", qformer_heads=2, vision_heads=2)
    assert set(str(caught.value).removeprefix(f"{told} ").split(", ")) == {
        "Qformer.bert.embeddings.LayerNorm.weight",
        "t5_model.lm_head.weight",
    }


def test_the_released_checkpoints_names_and_sizes_at_full_size(shared: Path) -> None:
    """518 tensors and two integer buffers, without their memory."""
    shapes = json.loads((shared / "golden" / "model64" / "real_checkpoint_keys.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    heads = heads_from(state, "sevila_pretrained.pth")
    assert len(state) == 520
    assert heads.keys() == {"localizer", "answerer"}
    for head in heads.values():
        assert head.config == HeadConfig(1408, 2048, 32, width=768, layers=12, attention_heads=12, inner_width=3072)
        assert len(head.state_dict()) == 518 / 2
    trained = sum(p.numel() for p in heads["answerer"].parameters())
    assert trained == sum(math.prod(s) for n, s in shapes.items() if "position_ids" not in n) / 2
    assert trained // 10**6 == 106  # millions, as the paper says


def test_heads_hold_the_checkpoints_tensors(released: State) -> None:
    heads = heads_from(released, "file")
    assert heads["localizer"].config == SIZES
    for role, suffix in (("localizer", "_loc"), ("answerer", "")):
        head, key = heads[role], f"Qformer{suffix}.bert.encoder.layer"
        assert torch.equal(head.queries, released[f"query_tokens{suffix}"])
        assert torch.equal(head.norm.weight, released[f"ln_vision{suffix}.weight"])
        assert torch.equal(head.projection.bias, released[f"t5_proj{suffix}.bias"])
        crossing = head.qformer.encoder.layer[2].crossattention.attention.value
        assert torch.equal(crossing.weight, released[f"{key}.2.crossattention.self.value.weight"])
        output = head.qformer.encoder.layer[1].output_query.LayerNorm
        assert torch.equal(output.bias, released[f"{key}.1.output_query.LayerNorm.bias"])
        assert all(p.requires_grad and p.dtype == torch.float32 for p in head.parameters())
        assert not head.training
    assert torch.isfinite(heads["answerer"](torch.randn(2, 5, 88))).all()


def test_heads_are_copies(released: State) -> None:
    before = released["t5_proj.weight"].clone()
    heads_from(released, "file")["answerer"].projection.weight.data.zero_()
    assert torch.equal(released["t5_proj.weight"], before)


def test_half_precision_becomes_float32(released: State) -> None:
    halves = {name: t.half() if t.is_floating_point() else t for name, t in released.items()}
    head = heads_from(halves, "file")["localizer"]
    assert torch.equal(head.projection.weight, halves["t5_proj_loc.weight"].float())


def test_blip2s_file_holds_one_head(released: State) -> None:
    state = {name: t for name, t in released.items() if "_loc" not in name}
    state["Qformer.bert.embeddings.word_embeddings.weight"] = torch.zeros(9, 128)
    state["Qformer.bert.embeddings.position_embeddings.weight"] = torch.zeros(9, 128)
    state["Qformer.bert.encoder.layer.0.intermediate.dense.weight"] = torch.zeros(40, 128)
    state["Qformer.bert.encoder.layer.0.output.LayerNorm.bias"] = torch.zeros(128)
    state["Qformer.cls.predictions.bias"] = torch.zeros(9)
    assert heads_from(state, "file").keys() == {"answerer"}


@pytest.mark.parametrize(("role", "frozen"), [("answerer", "_loc"), ("localizer", "")])
def test_a_run_of_the_official_code_holds_the_trained_head(released: State, role: str, frozen: str) -> None:
    """Of the frozen one it keeps the projection, the norm and the buffer; and T5's two aliases."""
    gone = (f"query_tokens{frozen}", f"Qformer{frozen}.bert.e")
    state = {n: t for n, t in released.items() if not (n == gone[0] or n.startswith(f"Qformer{frozen}."))}
    state[f"Qformer{frozen}.bert.embeddings.position_ids"] = torch.arange(512)[None]
    state["t5_model.encoder.embed_tokens.weight"] = torch.zeros(4, 24)
    state["t5_model.decoder.embed_tokens.weight"] = torch.zeros(4, 24)
    assert roles_in(state) == (role,)
    assert heads_from(state, "file").keys() == {role}


def refusal(state: State, sizes: HeadConfig | None = None) -> str:
    with pytest.raises(UserError) as caught:
        heads_from(state, "file.pth", sizes)
    message = str(caught.value)
    assert message.startswith("file.pth: ")
    assert "\n" not in message
    return message


KINDS = (
    "query_tokens_loc",
    "query_tokens",
    "ln_vision.weight",
    "t5_proj_loc.bias",
    "Qformer.bert.embeddings.LayerNorm.weight",
    "Qformer_loc.bert.encoder.layer.2.attention.self.query.weight",
    "Qformer.bert.encoder.layer.0.crossattention.output.dense.bias",
    "Qformer.bert.encoder.layer.1.intermediate_query.dense.weight",
)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_tensor_is_named(released: State, name: str) -> None:
    del released[name]
    assert name in refusal(released)
    assert refusal(released, SIZES) == f"file.pth: not loaded: missing {name}"


@pytest.mark.parametrize("name", KINDS)
def test_a_renamed_tensor_is_named_twice(released: State, name: str) -> None:
    released[f"{name}_old"] = released.pop(name)
    assert refusal(released, SIZES) == f"file.pth: not loaded: missing {name}; unexpected {name}_old"


@pytest.mark.parametrize("name", KINDS)
def test_a_misshaped_tensor_is_named_with_both_shapes(released: State, name: str) -> None:
    shape = list(released[name].shape)
    released[name] = torch.zeros(*shape[:-1], shape[-1] + 1)
    assert refusal(released, SIZES) == f"file.pth: not loaded: {name} is {[*shape[:-1], shape[-1] + 1]}, not {shape}"
    assert name in refusal(released)


def test_most_tensors_decide_on_a_size(released: State) -> None:
    released["t5_proj.weight"] = torch.zeros(24, 999)
    assert refusal(released) == "file.pth: not loaded: t5_proj.weight is [24, 999], not [24, 128]"


def test_another_backbones_head_is_refused(released: State) -> None:
    message = refusal(released, HeadConfig(88, 32, 3, width=128, layers=3, attention_heads=2, inner_width=40))
    assert message.count(", not [32") == 4  # weight and bias of both projections
    assert "t5_proj_loc.weight is [24, 128], not [32, 128]" in message


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_everything_that_is_wrong_is_listed_at_once(released: State, data: st.DataObject) -> None:
    state = dict(released)
    names = sorted(name for name in state if not name.endswith("position_ids"))
    lost, bent = (set(data.draw(st.lists(st.sampled_from(names), max_size=4))) for _ in range(2))
    extra = set(
        data.draw(st.lists(st.sampled_from(["a", "Qformer.b", "ln_visio.weight", "opt_proj.bias"]), max_size=3))
    )
    for name in lost:
        del state[name]
    for name in bent - lost:
        state[name] = torch.zeros(7, 7, 7)
    state |= {name: torch.zeros(1) for name in extra}
    if lost | bent | extra:
        message = refusal(state, SIZES)
        kinds = message.removeprefix("file.pth: not loaded: ").split("; ")
        for word, names in (("missing ", lost), ("unexpected ", extra)):
            found = [kind.removeprefix(word).split(", ") for kind in kinds if kind.startswith(word)]
            assert set().union(*found) == names
        assert message.count(" is [7, 7, 7], not ") == len(bent - lost)
        assert all(f"{name} is [7, 7, 7], not" in message for name in bent - lost)
    else:
        assert len(heads_from(state, "file.pth", SIZES)) == 2


def test_no_head_at_all() -> None:
    assert "holds no head" in refusal({"model.weight": torch.zeros(2)})
    assert "sizes cannot be told" in refusal({"query_tokens": torch.zeros(1, 3, 128)})


def test_attention_heads_that_cannot_be_told(released: State) -> None:
    odd = {name: t for name, t in released.items() if "_loc" not in name}
    for name, tensor in odd.items():
        for axis, size in enumerate(tensor.shape):
            odd[name] = odd[name].narrow(axis, 0, 100) if size == 128 else odd[name]
    assert "say how many attention heads" in refusal(odd)
    assert head_sizes(odd, "answerer", attention_heads=5).attention_heads == 5


# -- the whole model ----------------------------------------------------------------------------------------


def test_the_whole_model(whole: State) -> None:
    blip2 = blip2_from(whole, "file")
    attention = blip2.vision_model.encoder.layers[1].self_attn
    bias = attention.qkv.bias
    assert torch.equal(bias[:88], whole["visual_encoder.blocks.1.attn.q_bias"])
    assert bias[88:176].abs().max() == 0
    assert torch.equal(bias[176:], whole["visual_encoder.blocks.1.attn.v_bias"])
    assert torch.equal(blip2.vision_model.post_layernorm.weight, whole["ln_vision.weight"])
    assert torch.equal(blip2.query_tokens, whole["query_tokens"])
    language, config = blip2.language_model, blip2.config
    assert torch.equal(language.lm_head.weight, whole["t5_model.lm_head.weight"])
    for table in (language.shared, language.encoder.embed_tokens, language.decoder.embed_tokens):
        assert torch.equal(table.weight, whole["t5_model.shared.weight"])
    assert config.vision_config.image_size == 6
    assert (config.text_config.d_kv, config.text_config.num_heads) == (6, 2)
    assert config.text_config.dense_act_fn == "gelu"
    assert not any(p.is_meta for p in blip2.parameters())


def test_a_saved_backbone_loads_to_the_same_numbers(whole: State, shared: Path, tmp_path: Path) -> None:
    """A LAVIS state dict, as a folder in transformers' format, through the loader every entry point uses."""
    words = shared / "t5_tokenizer" / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(words), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    imported = backbone_from(whole, tokenizer, "file")
    blip2_from(whole, "file").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = backbones.load(str(tmp_path))
    assert loaded.fingerprint == imported.fingerprint
    ours, theirs = loaded.state_dict(), imported.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(loaded.language.lm_head.weight, loaded.language.shared.weight)
    pixels, said = torch.randn(2, 3, 6, 6), torch.zeros(2, 1, dtype=torch.long)
    patches = imported.encode(pixels)
    assert torch.equal(loaded.encode(pixels), patches)
    soft, mask = imported.zeroshot(patches), torch.ones(2, 3)
    logits = [b.logits(b.run_decoder(b.run_encoder(soft, mask), mask, said)) for b in (imported, loaded)]
    assert torch.equal(*logits)


def test_pictures_of_another_size_are_taken(whole: State) -> None:
    blip2 = blip2_from(whole, "file")
    backbone = assemble_backbone(blip2, tokenizer=None, source="file")
    assert backbone.encode(torch.randn(2, 3, 6, 6)).shape == (2, 1 + 9, 88)
    assert backbone.encode(torch.randn(2, 3, 8, 8)).shape == (2, 1 + 16, 88)
    small = backbone.encode(torch.zeros(1, 3, 4, 4))
    assert small.shape == (1, 1 + 4, 88)
    blip2.vision_model.embeddings.position_embedding.data[:, -1] += 5  # a corner that the small picture feels, too
    assert not torch.allclose(backbone.encode(torch.zeros(1, 3, 4, 4)), small, atol=1e-3)


def test_a_whole_model_is_checked_whole(whole: State) -> None:
    del whole["visual_encoder.blocks.1.attn.v_bias"]
    del whole["t5_model.lm_head.weight"]
    whole["visual_encoder.blocks.0.norm1.bias"] = torch.zeros(3)
    whole["opt_proj.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        blip2_from(whole, "file.pth")
    assert str(caught.value) == (
        "file.pth: not loaded: missing visual_encoder.blocks.1.attn.v_bias, t5_model.lm_head.weight; "
        "unexpected opt_proj.bias; visual_encoder.blocks.0.norm1.bias is [3], not [88]"
    )


def test_heads_alone_are_no_backbone(released: State) -> None:
    with pytest.raises(UserError, match=r"file.pth: no visual_encoder\.patch_embed\.proj\.weight"):
        blip2_from(released, "file.pth")
