"""This library's outputs equal the official code's, and the comparison would notice if they did not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Blip2QFormerConfig
from transformers.activations import NewGELUActivation
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerIntermediate

import compare_official
from official.difference import Difference, compared, equal, largest
from official.golden import Golden
from official.records import chain, questions
from official.scenarios import run, scenarios
from sevila.checkpoints.lavis import head_sizes
from sevila.model import head as heads
from sevila.model.head import HeadConfig
from sevila.model.language import Direct, FusedNorm
from sevila.selection.rules import Candidates, LocalizerTopK

INFERENCE = (
    "localizer",
    "chain_k2",
    "chain_k3",
    "chain_k4",
    "best_frame",
    "uniform_video",
    "uniform_frames",
    "pseudo_labels",
    "moment_scores",
)
TRAINING = ("forward", "refinement", "pretraining", "forward_uniform_vid", "forward_uniform_frame")
STEPS = ("forward_steps", "refinement_steps", "pretraining_steps")
FACTS = ("prompts", "tokens", "frame_indices", "transforms", "schedule", "positions")


def failures(differences: list[Difference]) -> list[Difference]:
    assert differences
    return [d for d in differences if not d.passed]


def test_nothing_of_the_golden_folder_is_left_out(golden: Golden) -> None:
    assert set(scenarios(golden)) == {*INFERENCE, *TRAINING, *STEPS, *FACTS}


@pytest.mark.parametrize("name", [*INFERENCE, *TRAINING, *STEPS, *FACTS])
def test_equals_the_official_output(golden: Golden, name: str) -> None:
    assert failures(run(golden, name)) == []


def test_a_gradient_is_compared_for_every_parameter(golden: Golden) -> None:
    """Only rounding is in the biases of the keys: three, in two layers with one cross-attention."""
    norms = golden.meta["grad_norms"]["d_train_qa"]
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    vanishing = [name for name, norm in norms.items() if norm < 1e-6 * total]
    assert len(norms) == 49
    assert len(vanishing) == 3
    assert all(name.endswith("key.bias") for name in vanishing)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_with_the_librarys_own_attention(shared: Path, dtype: torch.dtype) -> None:
    """In float64 to 1e-9 again; in float32 as near as processors are to each other."""
    fused = Golden(shared / "golden" / "model64", shared / "t5_tokenizer", dtype, fused=True)
    for name in (*INFERENCE, *TRAINING, *STEPS):
        assert failures(run(fused, name)) == []


def test_direct_scoring_often_agrees_with_the_official_rule(golden: Golden, capsys: pytest.CaptureFixture) -> None:
    """Their agreement is printed; on random weights, whose first word is random, it need not be high."""
    asked = questions(golden)
    agreeing = [
        [p.prediction for p in chain(golden, golden.model(scoring), k).predict(asked)]
        for k in (2, 3, 4)
        for scoring in (None, Direct())
    ]
    same = sum(a == b for i in (0, 2, 4) for a, b in zip(agreeing[i], agreeing[i + 1], strict=True))
    with capsys.disabled():
        print(f"\ndirect and official scoring agree on {same} of 6 golden answers")
    assert 0 <= same <= 6
    assert agreeing[0::2] == [golden.tensors[f"b_chain_k{k}.pred"].tolist() for k in (2, 3, 4)]


# -- the comparison can fail --------------------------------------------------------------------------------


def other_gelu_in_t5(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    for stack in (golden.backbone.language.encoder, golden.backbone.language.decoder):
        for block in stack.block:
            patch.setattr(block.layer[-1].DenseReluDense, "act", NewGELUActivation())


def other_gelu_in_the_qformer(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Blip2QFormerIntermediate, "forward", lambda part, x: NewGELUActivation()(part.dense(x)))


def other_epsilon_in_ln_vision(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heads, "NORM_EPS", 1e-6)


def other_epsilon_in_the_qformer(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    whole = HeadConfig.qformer

    def other(sizes: HeadConfig) -> Blip2QFormerConfig:
        config = whole(sizes)
        config.layer_norm_eps = 1e-5
        return config

    patch.setattr(HeadConfig, "qformer", other)


def other_epsilon_in_t5(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    for norm in golden.backbone.language.modules():
        if isinstance(norm, FusedNorm):
            patch.setattr(norm, "variance_epsilon", 1e-5)


def other_epsilon_in_the_vit(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    for norm in golden.backbone.vision.encoder.modules():
        if isinstance(norm, nn.LayerNorm):
            patch.setattr(norm, "eps", 1e-5)


def no_bias_of_the_values(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    name = "visual_encoder.blocks.0.attn.v_bias"
    patch.setitem(golden.weights, name, torch.zeros_like(golden.weights[name]))


def no_space_after_frame(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    whole = golden.backbone.prefix
    patch.setattr(golden.backbone, "prefix", lambda number: whole(number)[:-1])


def keyframes_by_score(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    def by_score(rule: LocalizerTopK, frames: Candidates) -> list[int]:
        return sorted(range(len(frames.times)), key=lambda i: -frames.scores[i])[: rule.k]

    patch.setattr(LocalizerTopK, "select", by_score)


def norm_cast_to_float32(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(heads, "at_least_float32", torch.Tensor.float)


MISTAKES = {
    other_gelu_in_t5: "localizer.encoder",
    other_gelu_in_the_qformer: "localizer.Qformer",
    other_epsilon_in_ln_vision: "localizer.ln_vision",
    other_epsilon_in_the_qformer: "localizer.Qformer",
    other_epsilon_in_t5: "localizer.encoder",
    other_epsilon_in_the_vit: "localizer.vision",
    no_bias_of_the_values: "localizer.vision",
    no_space_after_frame: "chain_k2.inputs_embeds",
    keyframes_by_score: "chain_k4.keyframes",
    norm_cast_to_float32: "localizer.ln_vision",
}


@pytest.mark.parametrize(("plant", "noticed"), MISTAKES.items(), ids=lambda mistake: getattr(mistake, "__name__", ""))
def test_a_mistake_in_the_model_is_noticed(
    shared: Path, plant: Callable[[Golden, pytest.MonkeyPatch], None], noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = Golden(shared / "golden" / "model64", shared / "t5_tokenizer")
    plant(golden, monkeypatch)
    assert noticed in {d.what for d in failures(run(golden, noticed.partition(".")[0]))}


def test_differences() -> None:
    one = torch.ones(2)
    assert compared("x", one, one + 0.5, 1.0) == Difference("x", 0.5, 1.0)
    assert not compared("x", one, torch.ones(3), 1.0).passed
    assert not compared("x", one * torch.nan, one, 1.0).passed
    assert equal("x", [1], [1]).passed
    assert not equal("x", [1], [2]).passed
    assert largest([]) == 0.0
    assert largest([1.0, 3.0]) == 3.0
    assert not largest([float("nan"), 1.0]) <= 1.0


# -- the script ---------------------------------------------------------------------------------------------


def comparison(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["compare_official.py", *map(str, arguments)])
    return compare_official.main()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script with three scenarios, for the time's sake."""
    monkeypatch.setattr(
        compare_official,
        "scenarios",
        lambda golden: {
            name: s for name, s in scenarios(golden).items() if name in ("localizer", "chain_k2", "tokens")
        },
    )


def test_the_script_passes_with_and_without_aux_files(
    shared: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert comparison(monkeypatch, "--golden", shared / "golden" / "model64") == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["passed"] is True
    encoder = result["scenarios"]["localizer.encoder"]
    assert 0 <= encoder.pop("max_abs") <= 1e-9
    assert encoder == {"tolerance": 1e-9, "relative": False}
    assert any("chain_k2.option_logits" in line for line in lines[:-1])
    assert any(name.startswith("tokens.") for name in result["scenarios"])
    for file in ("golden.json", "state_dict.safetensors", "tensors.safetensors"):
        shutil.copy(shared / "golden" / "model64" / file, tmp_path)
    assert comparison(monkeypatch, "--golden", tmp_path, "--tokenizer", shared / "t5_tokenizer") == 0
    assert not any(
        name.startswith("tokens.") for name in json.loads(capsys.readouterr().out.splitlines()[-1])["scenarios"]
    )


def test_the_script_fails_above_a_tolerance(
    shared: Path, few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    class Other(Golden):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            self.tensors["a_loc.yes"] += 2e-9

    monkeypatch.setattr(compare_official, "Golden", Other)
    assert comparison(monkeypatch, "--golden", shared / "golden" / "model64") == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    wrong = [name for name, row in result["scenarios"].items() if row["max_abs"] > row["tolerance"]]
    assert (result["passed"], wrong) == (False, ["localizer.yes"])


def test_the_script_names_what_it_lacks(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert comparison(monkeypatch, "--golden", tmp_path) == 2
    assert "golden.json" in capsys.readouterr().err
    monkeypatch.delenv("SEVILA_SHARED", raising=False)
    assert comparison(monkeypatch, "--golden", shared / "golden" / "model64", "--tokenizer", tmp_path) == 2
    assert "--tokenizer" in capsys.readouterr().err


def test_sizes_are_told_by_the_tensors(golden: Golden) -> None:
    config = golden.meta["config"]
    sizes = head_sizes(golden.weights, "localizer", config["bert"]["num_attention_heads"])
    assert sizes == golden.backbone.zeroshot.config
    assert sizes.width == config["bert"]["hidden_size"]
    assert sizes.inner_width == config["bert"]["intermediate_size"]
    assert sizes.layers == config["bert"]["num_hidden_layers"]
    assert sizes.queries == config["num_query_token"]
