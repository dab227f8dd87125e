"""Moment retrieval: both words' logits of every frame, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from official.golden import Golden
from sevila.benchmarks.spans import BinarySpans
from sevila.benchmarks.synthetic import Synthetic
from sevila.model.prompts import moment_prompt
from sevila.model.sevila import SeViLA
from sevila.tasks.chain import ForwardChain
from sevila.tasks.evaluation import retrieve


def test_binary_predictions_are_the_official_ones(shared: Path) -> None:
    """The official code's greedy choice between "yes" and "no", on random weights."""
    golden = Golden(shared / "golden" / "model64", shared / "t5_tokenizer")
    model, texts = golden.model(), golden.meta["inputs_fmr"]["loc_input"]
    logits = torch.cat([model.yes_no(p, [text])[0] for p, text in zip(golden.patches, texts, strict=True)])
    theirs = golden.tensors["f_fmr.logits_ids"][:, 0].to(logits.dtype)  # at the first word, of "yes" and "no"
    torch.testing.assert_close(logits, theirs, atol=1e-9, rtol=0)
    said = [int(yes > no) for yes, no in logits.tolist()]
    assert said == golden.tensors["f_fmr.gen.pred"].tolist() and set(said) == {0, 1}


def test_a_retrieval_keeps_both_logits(make_chain: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA) -> None:
    moments, rule = world.moments("val"), BinarySpans()
    source = make_chain().source
    found = retrieve(tiny, source, moments, rule)
    assert [retrieval.moment for retrieval in found] == moments and len(moments) > 1
    patches = {}
    for rows, sample in source.walk(moments):
        patches.update(dict.fromkeys(rows, tiny.backbone.encode(sample.pixels)))
    for row, retrieval in enumerate(found):
        (logits,) = tiny.yes_no(patches[row], [moment_prompt(moments[row].query)])
        yes, no = logits.unbind(-1)
        assert [f.score for f in retrieval.frames] == pytest.approx(yes.tolist(), abs=1e-4)
        assert list(retrieval.no) == pytest.approx(no.tolist(), abs=1e-4)
        scores, times = [f.score for f in retrieval.frames], [f.time for f in retrieval.frames]
        expected = rule.windows(scores, retrieval.no, times, moments[row].duration)
        assert list(retrieval.prediction.windows) == expected
        written = retrieval.to_json()["frames"]
        assert [frame["no"] for frame in written] == pytest.approx(list(retrieval.no), rel=1e-5)


def test_yes_is_the_relevance(make_chain: Callable[..., ForwardChain], world: Synthetic, tiny: SeViLA) -> None:
    (_, sample), *_ = make_chain().source.walk(world.moments("val"))
    patches, texts = tiny.backbone.encode(sample.pixels), ["is it here?", "is a red star anywhere in here?"]
    logits = tiny.yes_no(patches, texts)
    assert logits.shape == (2, 8, 2)
    torch.testing.assert_close(logits[..., 0], tiny.relevance(patches, texts), atol=1e-5, rtol=0)
    assert (logits[..., 0] - logits[..., 1]).abs().min() > 1e-3
