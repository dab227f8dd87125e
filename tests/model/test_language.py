"""T5 as this library runs it, against transformers' own stacks, in float64: other orders of adding differ by 1e-15."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sevila.checkpoints import backbone as backbones
from sevila.model.backbone import Backbone
from sevila.model.language import Compared, FusedNorm, passes
from sevila.model.sevila import SeViLA

TOLERANCE = 1e-9


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return backbones.load(attention=request.param, dtype=torch.float64)


@pytest.fixture
def rows(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Embeddings and mask of three rows of different lengths."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(11) < torch.tensor([[11], [6], [9]])
    width = backbone.language.config.d_model
    return torch.randn(3, 11, width, generator=generator, dtype=torch.float64), mask.long()


@torch.no_grad()
def test_reading_is_that_of_transformers(backbone: Backbone, rows: tuple[Tensor, Tensor]) -> None:
    embeds, mask = rows
    theirs = backbone.language.encoder(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
    seen = mask.bool()
    assert torch.allclose(backbone.run_encoder(embeds, mask)[seen], theirs[seen], atol=TOLERANCE)
    whole = torch.ones_like(mask)
    theirs = backbone.language.encoder(inputs_embeds=embeds, attention_mask=whole).last_hidden_state
    assert torch.allclose(backbone.run_encoder(embeds, whole), theirs, atol=TOLERANCE)


@pytest.mark.parametrize("said", [[[0]] * 3, [[0, 5, 9]] * 3])
def test_decoding_is_that_of_transformers(
    backbone: Backbone, rows: tuple[Tensor, Tensor], said: list[list[int]]
) -> None:
    embeds, mask = rows
    hidden = embeds.clone().requires_grad_(True)
    ours = backbone.run_decoder(hidden, mask, torch.tensor(said))
    (slope,) = torch.autograd.grad(ours.square().sum(), hidden)
    theirs = backbone.language.decoder(
        input_ids=torch.tensor(said), encoder_hidden_states=hidden, encoder_attention_mask=mask, use_cache=False
    ).last_hidden_state
    (their_slope,) = torch.autograd.grad(theirs.square().sum(), hidden)
    assert torch.allclose(ours, theirs, atol=TOLERANCE)
    assert torch.allclose(slope, their_slope, atol=TOLERANCE * float(their_slope.abs().max()))
    assert slope[1, 6:].abs().max() == 0  # nobody looks at padding


@torch.no_grad()
def test_half_precision_keeps_the_sum_of_the_layers_in_float32() -> None:
    exact = backbones.load()
    half = copy.deepcopy(exact).bfloat16()
    embeds = torch.randn(4, 20, exact.language.config.d_model, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(4, 20, dtype=torch.long)
    true = exact.run_encoder(embeds, mask)
    ours = half.run_encoder(embeds, mask)
    plain = half.language.encoder(inputs_embeds=embeds.bfloat16(), attention_mask=mask).last_hidden_state
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - true).square().mean() < 0.8 * (plain.float() - true).square().mean()


def test_norms_keep_their_names_and_weights() -> None:
    backbone = backbones.load()
    norms = [module for module in backbone.language.modules() if isinstance(module, FusedNorm)]
    config = backbone.language.config
    assert len(norms) == 2 * config.num_layers + 3 * config.num_decoder_layers + 2
    assert "encoder.block.0.layer.0.layer_norm.weight" in backbone.language.state_dict()


@torch.no_grad()
def test_answers_do_not_depend_on_the_memory_budget() -> None:
    backbone = backbones.load(dtype=torch.float64)
    model = SeViLA(backbone, backbone.zeroshot, backbone.zeroshot)
    patches = backbone.encode(torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    texts = ["is it red?", "what does the red star hold after the blue moon breaks?", "is it red or blue?"]
    picked, options = [[0, 2], [1, 3, 4], [2, 4]], [2, 4, 3]
    scores, logits = model.relevance(patches, texts), model.option_logits(patches, picked, texts, options)
    alone = torch.cat([model.relevance(patches, [text]) for text in texts])
    assert torch.allclose(scores, alone, atol=TOLERANCE)
    backbone.tokens = 60
    assert torch.allclose(model.relevance(patches, texts), scores, atol=TOLERANCE)
    for few, many in zip(model.option_logits(patches, picked, texts, options), logits, strict=True):
        assert torch.allclose(few, many, atol=TOLERANCE)
    assert model.rows == 1


# -- rows in passes: every row once, within the budget, with little padding ---


@given(st.lists(st.integers(1, 120), max_size=200), st.integers(1, 4000))
def test_every_row_comes_once_and_a_pass_fits(lengths: list[int], tokens: int) -> None:
    parts = list(passes(lengths, tokens))
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= tokens
    order = [lengths[row] for part in parts for row in part]
    assert order == sorted(order)


def test_rows_of_one_length_stay_in_order_and_among_themselves() -> None:
    assert list(passes([5, 5, 5, 5], 10)) == [[0, 1], [2, 3]]
    assert list(passes([90] * 4 + [100] * 4, 8 * 360)) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # enough work without padding
    assert list(passes([90] * 2 + [100] * 2, 8 * 360)) == [[0, 1, 2, 3]]
    assert list(passes([], 10)) == []


# -- the rules that read an option letter, and the count of how often two of them agree ---


class Fixed:
    def __init__(self, rows: list[list[float]]) -> None:
        self.rows = torch.tensor(rows)

    def logits(self, backbone: object, hidden: Tensor, mask: Tensor, letter_ids: list[int]) -> Tensor:
        return self.rows[: len(hidden)]


def test_compared_gives_the_first_rules_logits_and_counts_equal_choices() -> None:
    first = Fixed([[0.0, 1.0], [2.0, 1.0], [0.0, 5.0]])
    compared = Compared(first, Fixed([[0.0, 9.0], [0.0, 1.0], [4.0, 5.0]]))
    hidden = torch.zeros(3, 1, 1)
    assert torch.equal(compared.logits(None, hidden, hidden, [0, 1]), first.rows)
    assert compared.agreement == 66.67
    compared.logits(None, hidden[:1], hidden[:1], [0, 1])
    assert (compared.equal, compared.rows, compared.agreement) == (3, 4, 75.0)
