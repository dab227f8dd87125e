"""Features, files and scores of trained selectors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sevila import api
from sevila.checkpoints.heads import save_head
from sevila.data.records import Question
from sevila.errors import UserError
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection import build_scorer
from sevila.selection.trained import Network, frame_features, load_network, new_network, text_features

NODES = [
    {"name": "atp", "width": 16, "attention_heads": 2},
    {"name": "perturbed", "width": 8, "sigma": 0.1, "decay": True},
]


@pytest.fixture(autouse=True)
def _quiet(one_thread: None) -> None: ...


def test_features(sevila: SeViLA, patches: Tensor, questions: list[Question]) -> None:
    backbone = sevila.backbone
    seen = frame_features(backbone, patches)
    torch.testing.assert_close(seen, backbone.zeroshot(patches).mean(1))
    assert seen.shape == (10, backbone.language.config.d_model)
    both = text_features(backbone, questions)
    for question, row in zip(questions, both, strict=True):  # padding does not count
        torch.testing.assert_close(text_features(backbone, [question])[0], row, atol=1e-5, rtol=0)
    assert not torch.allclose(both[0], both[2], atol=1e-4)
    before = set(backbone.truncated)
    text_features(backbone, [Question("1", "v", "word " * 200, ("a", "b"))])
    assert backbone.truncated == before  # the warning about prompts is not about this


def saved(sevila: SeViLA, node: dict, path: Path) -> Network:
    network = new_network(node, sevila.backbone, seed=3)
    save_head(path, network, sevila.backbone, "selector", {"step": 1})
    return network


@pytest.mark.parametrize("node", NODES)
def test_a_file_brings_back_the_scores(
    sevila: SeViLA, encoded: EncodedVideo, patches: Tensor, questions: list[Question], tmp_path: Path, node: dict
) -> None:
    network = saved(sevila, node, tmp_path / "selector.safetensors").eval()
    scorers = [
        build_scorer({"name": node["name"], "file": str(place)}, sevila)
        for place in (tmp_path, tmp_path / "selector.safetensors")
    ]
    scores = scorers[0].score(encoded, questions).tolist()
    seen = frame_features(sevila.backbone, patches)[None]
    with torch.no_grad():
        mask = torch.ones(1, 10, dtype=torch.bool)
        alone = [network(seen, text_features(sevila.backbone, [q]), mask)[0].tolist() for q in questions]
    for row, expected in zip(scores, alone, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    assert scorers[1].score(encoded, questions).tolist() == scores
    assert len({round(score, 6) for score in scores[0]}) == 10
    assert load_network(str(tmp_path), node["name"], sevila.backbone).config.to_dict() == network.config.to_dict()


@pytest.mark.parametrize("node", NODES)
def test_picks_are_exact_under_autocast(sevila: SeViLA, node: dict) -> None:
    """bfloat16 cannot count to 500."""
    network, width = new_network(node, sevila.backbone, seed=0), sevila.backbone.zeroshot.config.language_width
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        scores = network(torch.randn(2, 6, width), torch.randn(2, width), torch.ones(2, 6, dtype=torch.bool))
        picked = network.pick(scores, 3)
    assert scores.dtype == picked.dtype == torch.float32
    torch.testing.assert_close(picked.sum(-1), torch.ones(2, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("node", NODES)
def test_in_float64_nothing_is_rounded_to_float32(tmp_path: Path, questions: list[Question], node: dict) -> None:
    exact = api.SeViLA.load(dtype=torch.float64).model
    backbone = exact.backbone
    with torch.no_grad():
        patches = backbone.encode(torch.randn(1, 6, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        seen, text = frame_features(backbone, patches), text_features(backbone, questions[:1])
        scores = saved(exact, node, tmp_path / "selector.safetensors").eval()(seen, text, torch.ones(1, 6) > 0)
    for numbers in (seen, text, scores):
        assert numbers.dtype == torch.float64
        assert not torch.equal(numbers, numbers.float().double())
    with torch.no_grad():
        again = load_network(str(tmp_path), node["name"], backbone)(seen, text, torch.ones(1, 6) > 0)
    torch.testing.assert_close(again, scores, atol=0, rtol=1e-12)


def test_the_seed_makes_the_network(sevila: SeViLA) -> None:
    state = torch.get_rng_state()
    first, again, other = (new_network(NODES[0], sevila.backbone, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.logit.weight, again.logit.weight)
    assert not torch.equal(first.logit.weight, other.logit.weight)
    with pytest.raises(UserError, match=r"task\.network\.name=topk: unknown; choose from: atp, perturbed"):
        new_network({"name": "topk"}, sevila.backbone, 0)


def test_files_that_do_not_fit(sevila: SeViLA, tmp_path: Path) -> None:
    path = tmp_path / "selector.safetensors"
    saved(sevila, NODES[0], path)
    description = json.loads(path.with_suffix(".json").read_text())

    def fails(match: str, name: str = "atp", place: Path = path, **changes: object) -> None:
        path.with_suffix(".json").write_text(json.dumps({**description, **changes}))
        with pytest.raises(UserError, match=match):
            load_network(str(place), name, sevila.backbone)

    fails(r"no selector file or run folder that holds selector\.safetensors", place=tmp_path / "none")
    fails("holds a trained atp; choose that scorer", name="perturbed")
    fails("does not describe a trained selector", role="localizer")
    fails("made for the backbone big", backbone={"source": "big", "fingerprint": "0" * 12})
    fails("does not fit", head={**description["head"], "width": 32})
    fails("unknown key .*depth", head={**description["head"], "depth": 3})
    network = saved(sevila, {"name": "perturbed", "width": 8}, tmp_path / "old.safetensors")
    file = tmp_path / "old.json"
    old = json.loads(file.read_text())
    del old["head"]["decay"]  # written before there was a decay
    file.write_text(json.dumps(old))
    assert load_network(str(tmp_path / "old.safetensors"), "perturbed", sevila.backbone).sigma == network.sigma
    fails(r"holds other weights than selector\.json describes", sha256="0" * 64)
