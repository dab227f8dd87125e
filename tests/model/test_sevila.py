"""The chain over one video: results that are no numbers are refused, whatever made them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sevila import api
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.sevila import SeViLA


@pytest.fixture(scope="module")
def model() -> SeViLA:
    return api.SeViLA.load().model


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_and_logits_that_are_no_numbers(model: SeViLA, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    patches = torch.randn(3, 17, 128, generator=torch.Generator().manual_seed(0))
    calls: dict[str, Callable[[], object]] = {
        "a frame's score": lambda: model.relevance(patches, ["is it red?"]),
        "an option's logit": lambda: model.option_logits(patches, [[0, 2]], ["is it red?"], [2]),
        "an option's logit ": lambda: model.single_frame_logits(patches, ["is it red?"], [2]),
    }
    for call in calls.values():
        call()
    logits = Backbone.logits

    def spoilt(self: Backbone, states: Tensor, ids: object = None) -> Tensor:
        found = logits(self, states, ids)
        found[..., 0] = value
        return found

    monkeypatch.setattr(Backbone, "logits", spoilt)
    for what, call in calls.items():
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == (
            f"{what.strip()} is NaN or infinite for the prompt 'is it red?'; "
            "run the model in float32 or bfloat16 (float16 overflows in T5)"
        )


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/no/such/home")
    with pytest.raises(UserError, match=r"^model\.source=/no/such/home/blip2: "):
        api.SeViLA.load("~/blip2")
    with pytest.raises(UserError, match=r"^localizer=/no/such/home/R1: "):
        api.SeViLA.load(localizer="~/R1")
