from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.selection import SELECTORS, build
from sevila.selection.rules import Candidates, LocalizerTopK, Oracle, Random, Uniform, spread


def candidates(n=8, scores=None, windows=None, qid="q1"):
    return Candidates(qid, [float(i) for i in range(n)], [10 * i for i in range(n)], scores, windows)


def test_localizer_takes_the_best_and_of_equals_the_earlier():
    assert LocalizerTopK(2).select(candidates(4, [0.1, 3.0, -1.0, 2.0])) == [1, 3]
    assert LocalizerTopK(3).select(candidates(5, [1.0, 2.0, 1.0, 1.0, 2.0])) == [0, 1, 4]
    assert LocalizerTopK(2).select(candidates(4, [0.0] * 4)) == [0, 1]
    assert LocalizerTopK(1).select(candidates(3, [float("-inf"), -5.0, float("-inf")])) == [1]


def test_localizer_without_usable_scores():
    with pytest.raises(UserError, match="question q1: the score of frame 20 is nan"):
        LocalizerTopK(1).select(candidates(3, [0.0, 1.0, float("nan")]))
    with pytest.raises(ValueError, match="needs scores"):
        LocalizerTopK(1).select(candidates(3))


def test_which_rules_need_scores():
    needy = {name for name, cls in SELECTORS.items() if cls.needs_scores}
    assert needy == {"localizer", "topk", "aks", "bolt"}
    assert SELECTORS["topk"] is LocalizerTopK


@pytest.mark.parametrize("name", ["localizer", "topk", "aks", "bolt"])
def test_scores_that_are_no_numbers(name):
    with pytest.raises(UserError, match="question q1: the score of frame 20 is nan; run the model in float32"):
        build(name, {"k": 1}).select(candidates(3, [0.0, 1.0, float("nan")]))
    with pytest.raises(ValueError, match="needs scores"):
        build(name, {"k": 1}).select(candidates(3))


def test_uniform_takes_the_middles_of_equal_parts():
    assert Uniform(4).select(candidates(32)) == [4, 12, 20, 28]
    assert Uniform(3).select(candidates(8)) == [1, 3, 6]  # edges 0, 2, 5, 8
    assert Uniform(1).select(candidates(32)) == [16]
    assert Uniform(5).select(candidates(5)) == [0, 1, 2, 3, 4]


def test_uniform_follows_the_sampling_rule_of_videos(shared):
    """Choosing k of n positions is the rule that samples k frames of an n-frame video."""
    for case in json.loads((shared / "golden/model64/aux.json").read_text())["sampling"]:
        if case["clip"] is None and case["n_frms"] <= case["vlen"]:
            assert spread(case["vlen"], case["n_frms"]) == case["uniform"]


def test_random_depends_on_seed_and_question_alone():
    first = Random(4, seed=0).select(candidates(32, qid="a"))
    Random(4, seed=0).select(candidates(32, qid="b"))
    assert Random(4, seed=0).select(candidates(32, qid="a")) == first == [21, 24, 25, 31]
    others = {tuple(Random(4, seed=s).select(candidates(32, qid=q))) for s in range(5) for q in "abcde"}
    assert len(others) == 25


def test_random_is_fair():
    counts = [0] * 8
    for i in range(2000):
        for position in Random(2).select(candidates(8, qid=f"q{i}")):
            counts[position] += 1
    assert sum(counts) == 4000 and all(abs(count - 500) < 80 for count in counts)


def test_oracle():
    assert Oracle(2).select(candidates(windows=[(3.0, 4.0)])) == [3, 4]
    assert Oracle(2).select(candidates(windows=[(2.0, 7.0)])) == [3, 6]  # six true: spread over 2..7
    assert Oracle(1).select(candidates(windows=[(5.0, 5.0)])) == [5]
    # one true frame, three of the uniform four (1, 3, 5, 7) beside it
    assert Oracle(4).select(candidates(windows=[(0.0, 0.5)])) == [0, 1, 3, 7]
    assert Oracle(4).select(candidates(windows=[(1.0, 1.0), (3.0, 3.0)])) == [1, 3, 5, 7]


def test_oracle_without_a_true_frame_is_uniform():
    for windows in ([], [(2.2, 2.8)]):
        assert Oracle(3).select(candidates(windows=windows)) == Uniform(3).select(candidates())
    with pytest.raises(UserError, match="question q1: selector=oracle needs the true windows"):
        Oracle(3).select(candidates())


def test_more_keyframes_than_frames():
    with pytest.raises(UserError) as raised:
        Uniform(9).select(candidates(8))
    assert str(raised.value) == (
        "question q1: selector.k=9 keyframes asked for, but only n=8 frames were sampled; "
        "lower selector.k to at most 8 or sample more frames"
    )


def test_candidates_of_unequal_lengths():
    with pytest.raises(ValueError, match=r"2 times, but {'indices': 1, 'scores': 3}"):
        Candidates("q", [0.0, 1.0], [0], [1.0, 2.0, 3.0])


windows = st.lists(st.tuples(st.floats(-1, 40), st.floats(0, 10)).map(lambda p: (p[0], p[0] + p[1])), max_size=4)


@given(st.data(), st.integers(1, 75), windows, st.sampled_from(sorted(set(SELECTORS) - {"stored", "windows"})))
def test_every_selector_gives_exactly_k_sorted_different_positions(data, n, windows, name):
    k = data.draw(st.integers(1, n))
    scores = data.draw(st.lists(st.floats(-5, 5), min_size=n, max_size=n))
    given = candidates(n, scores, windows, data.draw(st.text(max_size=5)))
    chosen = build(name, {"k": k}).select(given)
    assert build(name, {"k": k}).select(given) == chosen
    assert len(chosen) == k and chosen == sorted(set(chosen))
    assert all(type(i) is int and 0 <= i < n for i in chosen)
    if name in ("localizer", "topk"):
        assert min(scores[i] for i in chosen) >= max((s for i, s in enumerate(scores) if i not in chosen), default=-9)
    if name == "oracle":
        true = {i for i in range(n) if any(a <= i <= b for a, b in windows)}
        assert len(true & set(chosen)) == min(k, len(true)) or not true


@given(st.data(), st.integers(1, 75), st.sampled_from(["topk", "aks", "bolt"]))
def test_rules_by_scores_know_no_zero_and_no_unit(data, n, name):
    """Whole numbers, moved by whole numbers and scaled by powers of two: the arithmetic stays exact."""
    k = data.draw(st.integers(1, n))
    scores = data.draw(st.lists(st.integers(-20, 20), min_size=n, max_size=n))
    shift, scale = data.draw(st.integers(-100, 100)), 2.0 ** data.draw(st.integers(-10, 10))
    moved = [(score + shift) * scale for score in scores]
    selector = build(name, {"k": k})
    assert selector.select(candidates(n, moved)) == selector.select(candidates(n, scores))


@given(st.data(), st.integers(1, 75), st.sampled_from(["aks", "bolt"]))
def test_equal_scores_give_uniform_frames(data, n, name):
    k = data.draw(st.integers(1, n))
    assert build(name, {"k": k}).select(candidates(n, [data.draw(st.floats(-5, 5))] * n)) == spread(n, k)


@pytest.mark.parametrize("name", ["topk", "aks", "bolt"])
def test_one_frame_and_all_frames(name):
    assert build(name, {"k": 1}).select(candidates(1, [-3.0])) == [0]
    assert build(name, {"k": 6}).select(candidates(6, [5.0, -1.0, 0.0, 2.0, 2.0, 9.0])) == [0, 1, 2, 3, 4, 5]


@given(st.integers(1, 3000), st.data())
def test_spread_is_even(n, data):
    k = data.draw(st.integers(1, n))
    chosen = spread(n, k)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert len(chosen) == k and chosen[0] >= 0 and chosen[-1] < n and min(gaps, default=1) >= 1
    assert max(gaps, default=0) - min(gaps, default=0) <= 2


def test_build():
    assert build("localizer", {"k": 4}) == LocalizerTopK(4)
    assert build("random", {"k": 2, "seed": 3}) == Random(2, seed=3)
    with pytest.raises(FrozenInstanceError):
        build("uniform", {"k": 4}).k = 5


@pytest.mark.parametrize(
    ("name", "params", "parts"),
    [
        ("unifrom", {"k": 4}, ["selector.name=unifrom", "did you mean 'uniform'?"]),
        ("random", {"k": 4, "sede": 1}, ["'selector.sede'", "did you mean 'seed'?"]),
        ("uniform", {"k": 4, "seed": 1}, ["'selector.seed'", "selector uniform has: name, k"]),
        ("uniform", {}, ["selector.k has no value"]),
        ("uniform", {"k": 0}, ["selector.k=0: must be a whole number of keyframes, at least 1"]),
        ("uniform", {"k": 2.0}, ["selector.k=2.0: expected a whole number"]),
        ("uniform", {"k": True}, ["selector.k=True: expected a whole number"]),
        ("random", {"k": 2, "seed": "a"}, ["selector.seed=a: expected a whole number"]),
        ("aks", {"k": 2, "threshold": "high"}, ["selector.threshold=high: expected a number"]),
        ("aks", {"k": 2, "depth": -1}, ["selector.depth=-1: must be a whole number of halvings, at least 0"]),
        ("bolt", {"k": 2, "power": 0}, ["selector.power=0: must be a number above 0"]),
        ("bolt", {"k": 2, "power": float("nan")}, ["selector.power=nan: must be a number above 0"]),
        ("windows", {"k": 2}, ["selector.file has no value"]),
    ],
)
def test_build_bad_input(name, params, parts):
    with pytest.raises(UserError) as raised:
        build(name, params)
    assert all(part in str(raised.value) for part in parts) and "\n" not in str(raised.value)


def test_stored_keyframes_come_back_by_frame_number(tmp_path):
    file = tmp_path / "predictions.jsonl"
    file.write_text(
        '{"qid": "q1", "keyframes": [{"index": 30}, {"index": 10}]}\n'
        '{"qid": "q2", "keyframes": [{"index": 7}, {"index": 10}]}\n'
        '{"qid": "short", "keyframes": [{"index": 10}, {"index": 10}]}\n'
    )
    four = candidates(4)
    selector = build("stored", {"k": 2, "file": str(file)})
    assert not selector.needs_scores
    assert selector.select(four) == [1, 3]
    with pytest.raises(UserError, match="question q2: frame 7 is not among the sampled ones"):
        selector.select(Candidates("q2", [0.0, 1.0], [0, 10]))
    assert selector.select(Candidates("short", [0.0, 1.0, 1.0, 1.0], [0, 10, 10, 10])) == [1, 2]
    with pytest.raises(UserError, match="question short: frame 10 is sampled less often than it is named"):
        selector.select(Candidates("short", [0.0, 1.0], [0, 10]))
    with pytest.raises(UserError, match="has no keyframes for question q3"):
        selector.select(Candidates("q3", [0.0, 1.0], [0, 10]))
    with pytest.raises(UserError, match=r"question q1: 2 keyframes, but selector\.k=3"):
        build("stored", {"k": 3, "file": str(file)}).select(four)
    with pytest.raises(UserError, match="no such file"):
        build("stored", {"k": 2, "file": str(tmp_path / "none.jsonl")})
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"qid": "q1"}\n')
    with pytest.raises(UserError, match=r'bad\.jsonl, line 1: expected "qid" and "keyframes"'):
        build("stored", {"k": 2, "file": str(bad)})
