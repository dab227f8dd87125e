"""What stays on the device, what is looked up there, what comes back: the same as plain indexing, at any time."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sevila.checkpoints import backbone as backbones
from sevila.model import device
from sevila.model.backbone import Backbone
from sevila.model.device import Constants, read_back, taken


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


@pytest.fixture
def table() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(5, 3).requires_grad_(False)


def _written(table: nn.Embedding) -> None:
    with torch.no_grad():
        table.weight[1] += 1


def _loaded(table: nn.Embedding) -> None:
    table.load_state_dict({"weight": torch.ones(5, 3)})


def _assigned(table: nn.Embedding) -> None:
    table.load_state_dict({"weight": torch.ones(5, 3)}, assign=True)


def _rounded(table: nn.Embedding) -> None:
    table.bfloat16().float()


CHANGES: list[Callable[[nn.Embedding], object]] = [
    _written,
    _loaded,
    _assigned,
    _rounded,
    nn.Embedding.double,
    lambda table: table.to("meta"),
]


def test_a_constant_is_made_once(table: nn.Embedding) -> None:
    constants = Constants()

    def rows(key: str, *places: int) -> Tensor:
        return constants.of(table.weight, key, lambda: table.weight[list(places)])

    first, other = rows("a", 1, 2), rows("b", 0)
    assert torch.equal(first, table.weight[[1, 2]]) and torch.equal(other, table.weight[[0]])
    assert rows("a", 4) is first and rows("b", 4) is other


@pytest.mark.parametrize("change", CHANGES)
def test_a_constant_follows_its_table(table: nn.Embedding, change: Callable[[nn.Embedding], object]) -> None:
    constants = Constants()
    for _ in range(2):
        found = constants.of(table.weight, "row", lambda: table.weight[1])
        assert found.device == table.weight.device and found.dtype == table.weight.dtype
        assert found.is_meta or torch.equal(found, table.weight[1])
        change(table)


def test_a_constant_does_not_keep_its_table(table: nn.Embedding) -> None:
    """A row is a view: kept as it is, it would hold the gigabytes of a model that has left the device."""
    constants = Constants()
    row = constants.of(table.weight, "row", lambda: next(taken(table.weight, [[1]])))
    assert torch.equal(row, table.weight[1:2])
    memory = weakref.ref(table.weight.untyped_storage())
    table.double()
    assert memory() is None


def test_copies_have_constants_of_their_own(table: nn.Embedding) -> None:
    constants = Constants()
    constants.of(table.weight, "row", lambda: table.weight[1])
    for other in (copy.deepcopy(constants), pickle.loads(pickle.dumps(constants))):
        assert float(other.of(table.weight, "row", lambda: torch.tensor(7.0))) == 7.0


def test_a_constant_fits_into_a_later_training(table: nn.Embedding) -> None:
    """Made without gradients, and no inference tensor wherever it was made."""
    constants = Constants()
    table.requires_grad_(True)
    with torch.inference_mode():
        row = constants.of(table.weight, "row", lambda: table.weight[1] + 1)
    assert not row.requires_grad and not row.is_inference()
    with torch.inference_mode():  # torch does not say when such a table is written to: nothing is kept
        loose = torch.zeros(2, 3)
        for value in (0.0, 1.0):
            loose.fill_(value)
            assert float(constants.of(loose, "loose", lambda: loose[0])[0]) == value


def test_the_backbones_words_follow_its_weights() -> None:
    backbone = backbones.load(dtype=torch.float32)
    states = torch.randn(4, backbone.language.config.d_model, generator=torch.Generator().manual_seed(1))
    soft = torch.randn(2, 3, 2, states.shape[1], generator=torch.Generator().manual_seed(2))
    letters, others = ([backbone.token(letter) for letter in row] for row in ("ABC", "CDA"))

    def check(backbone: Backbone) -> None:
        language, dtype = backbone.language, backbone.dtype
        for asked in (letters, others):
            plain = states.to(dtype) @ language.lm_head.weight[asked].T
            assert torch.equal(backbone.logits(states.to(dtype), asked), plain.float())
        ids, mask = backbone.text(["is it red?", "is it red or blue?"])
        parts = []
        for i in range(3):
            parts += [language.shared(torch.tensor([backbone.prefix(i + 1)] * 2)), soft[:, i].to(dtype)]
        embeds, seen = backbone.assemble(soft, ["is it red?", "is it red or blue?"], numbered=True)
        assert torch.equal(embeds, torch.cat([*parts, language.shared(ids)], dim=1))
        assert torch.equal(seen, torch.cat([torch.ones(2, embeds.shape[1] - ids.shape[1], dtype=torch.long), mask], 1))

    with torch.no_grad():
        check(backbone)
        for weight in (backbone.language.lm_head.weight, backbone.language.shared.weight):
            weight.neg_()
        check(backbone)
        check(copy.deepcopy(backbone).bfloat16())
        check(backbone)
        for asked in (letters, others):
            assert torch.equal(backbone.ids(asked), torch.tensor([asked]))


def test_rows_without_padding_need_no_mask() -> None:
    backbone = backbones.load(dtype=torch.float32)
    soft = torch.zeros(2, 1, 2, backbone.language.config.d_model)
    embeds, mask = backbone.assemble(soft, ["is it red?", "is it red?"], numbered=False)
    assert mask is None
    hidden = backbone.run_encoder(embeds, mask)
    whole = torch.ones(embeds.shape[:2], dtype=torch.long)
    assert torch.equal(hidden, backbone.run_encoder(embeds, whole))
    said = backbone.ids([backbone.start]).expand(2, -1)
    torch.testing.assert_close(
        backbone.run_decoder(hidden, None, said), backbone.run_decoder(hidden, whole, said), atol=1e-5, rtol=0
    )


def test_a_word_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbones.load(dtype=torch.float32)
    first = backbone.token("yes"), backbone.prefix(2), backbone.prefix(None)
    assert first[1][:-1] == backbone.tokenizer("Frame 2:", add_special_tokens=False).input_ids != first[2][:-1]
    first[1].append(0)  # a caller's own list
    monkeypatch.setattr(type(backbone.tokenizer), "__call__", lambda *_: pytest.fail("asked again"))
    assert (backbone.token("yes"), backbone.prefix(2), backbone.prefix(None)) == (first[0], first[1][:-1], first[2])


# -- rows ---


@given(st.data(), st.integers(1, 9))
def test_rows_are_those_of_plain_indexing(data: st.DataObject, number: int) -> None:
    rows = torch.arange(number * 2).view(number, 2)
    part = st.lists(st.integers(0, number - 1), min_size=1, max_size=9)
    parts = data.draw(st.lists(part, min_size=1, max_size=4))
    for found, places in zip(taken(rows, parts), parts, strict=True):
        assert torch.equal(found, rows[places])


def test_for_neighbours_nothing_goes_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "upload", lambda *_: pytest.fail("uploaded"))
    rows = torch.arange(9)
    assert [part.tolist() for part in taken(rows, [range(9), [3, 4, 5], [8]])] == [list(range(9)), [3, 4, 5], [8]]


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=5))
def test_what_comes_back_is_what_was_there(shapes: list[list[int]]) -> None:
    tensors = [torch.randn(shape) for shape in shapes]
    found = read_back(tensors)
    assert len(found) == len(tensors) and all(map(torch.equal, found, tensors))
