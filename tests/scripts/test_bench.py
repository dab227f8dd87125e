"""The benchmark at tiny sizes: what it compares is equal, and its cost model counts what the model does."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import answers, cost, decoding, gpu, training
from benchmarks.baseline import Plain
from benchmarks.subject import SMALL, Subject, pictures, questions, subject
from benchmarks.timing import machine
from sevila.model import precision
from sevila.model.language import Direct

SIZES = cost.Sizes(
    patches=17, vision_width=64, vision_inner=256, vision_layers=2, queries=4, qformer_width=64, qformer_layers=2,
    language_width=64, attention_width=64, attention_heads=1, language_inner=128, language_layers=2, vocabulary=424,
)  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Subject:
    torch.set_num_threads(1)
    return subject(SMALL)


@pytest.fixture(scope="module")
def plain(small: Subject) -> Plain:
    return Plain.of(small.blip2, small.sevila)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoding.made_videos(tmp_path_factory.mktemp("films"), 40, ((96, 64),))[0]


def test_generating_question_by_question_gives_the_same_answers(small: Subject, plain: Plain) -> None:
    pixels, asked = pictures(12, 56, seed=3), questions(5, seed=3)
    true = answers.plainly(plain, small.sevila, pixels, asked)
    ours = answers.together(small.sevila, pixels, asked)
    assert ours.equals(true), ours.difference(true)
    assert true.scores.std(1).min() > 0.1 and len(set(true.choices)) > 1
    wrong = answers.Result(true.scores, true.keyframes, true.logits + 2e-4)
    assert not wrong.equals(true)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_rows_have_what_the_table_prints(small: Subject, plain: Plain, dtype: torch.dtype) -> None:
    fast = small.fastest(dtype)
    agreed = answers.agreement(small.sevila, fast, 6)
    assert agreed["agreement_questions"] == 6 and sum(agreed["answers_by_letter"]) == 6
    rows = answers.measure("nine_questions", small, plain, plain, fast, 9, 1, (3.5, 6.0), agreed)
    assert [row.name for row in rows] == ["nine_questions", "nine_questions_fastest"]
    written = rows[0].to_json()
    assert written["equal"] and written["runs"] == 1
    assert written["ratio"] == pytest.approx(written["baseline_s"] / written["ours_s"], rel=0.02)
    assert rows[1].notes["precision"] == str(dtype) and {p.dtype for p in fast.parameters()} == {dtype}
    if dtype == torch.float32:  # only the letters are read in another way
        assert agreed["equal_keyframes_percent"] == 100


@pytest.mark.parametrize(
    ("cpuinfo", "told"),
    [
        (
            "model name\t: Some Xeon\nflags\t\t: avx512f avx512_bf16 amx_bf16\n",
            "Some Xeon: bfloat16 units: amx_bf16, avx512_bf16; precision=auto takes bfloat16",
        ),
        (
            "model name\t: Old Xeon\nflags\t\t: avx512f\nmodel name\t: Old Xeon\n",
            "Old Xeon: bfloat16 units: none; precision=auto takes float32",
        ),
    ],
)
def test_the_processor_is_named(cpuinfo: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")
    assert machine() == told
    (tmp_path / "cpuinfo").unlink()
    assert machine().endswith(": bfloat16 units: none; precision=auto takes float32")


def test_epochs_with_a_warm_store_lose_nothing(small: Subject, plain: Plain, film: Path, tmp_path: Path) -> None:
    rows = [
        *training.forward(plain, small.sevila, [film], tmp_path / "store", each=2, runs=1, n=8),
        *training.refine(plain, small.sevila, [film], tmp_path / "store", each=2, runs=1),
    ]
    assert [row.name for row in rows] == ["forward_epoch_warm", "forward_epoch_stored_choices", "refine_epoch_warm"]
    assert all(row.equal for row in rows)
    assert training.close([1.0, 2.0], [1.0, 2.00005]) and not training.close([1.0], [1.001])
    assert not training.close([1.0], [1.0, 2.0])


def test_evaluation_from_files_is_evaluation_from_memory(small: Subject, film: Path) -> None:
    (row,) = training.evaluation(small.sevila, [film], each=2, runs=1, n=8)
    assert row.equal and row.notes["questions"] == 2


@pytest.mark.parametrize("stage", ["vision tower", "Localizer", "Answerer"])
def test_the_cost_model_counts_what_is_done(small: Subject, stage: str) -> None:
    model = copy.deepcopy(small.sevila)
    model.answerer.decoding = Direct()
    model.backbone.language.set_attn_implementation("eager")  # the counter does not know every fused kernel
    asked = questions(3, seed=9)
    localize, answer = answers.prompts_of(model, asked)
    patches = model.backbone.encode(pictures(8, 56))
    keyframes = [[0, 2], [1, 3], [4, 6]]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if stage == "vision tower":
            model.backbone.encode(pictures(8, 56))
        elif stage == "Localizer":
            model.relevance(patches, localize)
        else:
            model.option_logits(patches, keyframes, answer, [5, 5, 5])
    texts = [sum(model.backbone.lengths(part)) / 3 for part in (localize, answer)]
    sizes = gpu._with_texts(SIZES, *texts)
    parts = {"vision tower": slice(0, 1), "Localizer": slice(1, 4), "Answerer": slice(4, 7)}[stage]
    predicted = sum(row.operations for row in cost.stages(8, 2, 3, sizes)[parts])
    assert counter.get_total_flops() == pytest.approx(predicted, rel=0.1)


def test_the_published_size_costs_what_its_parameters_say() -> None:
    counted = cost.weights(cost.Sizes())
    assert counted["tower"] == pytest.approx(985e6, rel=0.01)
    assert counted["encoder"] + counted["decoder"] + 2 * 32128 * 2048 == pytest.approx(2_849_757_184, rel=0.01)
    nine, one = (sum(stage.operations for stage in cost.stages(32, 4, q)) for q in (9, 1))
    assert 3 < nine / one < 9
    assert cost.days(1e7, 8) == pytest.approx(cost.days(1e7, 1) / 8)
    assert cost.stored_bytes(32) == 32 * 257 * 1408 * 2


def test_the_time_line_of_stages_runs_anywhere(small: Subject) -> None:
    report = gpu.measure(small.sevila, SIZES, torch.float32, runs=1, side=64)
    assert [row["name"] for row in report["stages"]] == ["vision tower", "Localizer", "Answerer", "forward chain"]
    assert report["questions_a_second"] == pytest.approx(9 / report["seconds"])
