"""`sevila convert` as a user meets it: from official files to the official numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from official.golden import Golden
from sevila import api, convert
from sevila.model.language import Official

REPOSITORY = Path(__file__).resolve().parents[1]


def test_help_names_every_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert convert.cli(["--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("sevila_pretrained.pth", "checkpoint_best.pth", "eva_vit_g.pth", "HUB_ID", "--backbone PLACE"):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 120


def test_as_a_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "sevila.convert", "sevila_pretrained.pth"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    remedy = "sevila convert --help says more"
    assert done.stderr == f"sevila: error: the following arguments are required: --out; {remedy}\n"


def test_the_output_is_no_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "blip2").mkdir()
    (tmp_path / "head.pth").write_bytes(b"weights")
    (tmp_path / "link").symlink_to(tmp_path / "blip2")
    for source, out in (("head.pth", "head.pth"), ("blip2", "blip2"), ("blip2", "link")):
        assert convert.cli([str(tmp_path / source), "--out", str(tmp_path / out)]) == 2
        told = f"--out={tmp_path / out}: is the input SOURCE={tmp_path / source}; name another file"
        assert capsys.readouterr().err == f"sevila: error: {told}\n"
    out = str(tmp_path / "out")
    assert convert.cli([str(tmp_path / "head.pth"), "--out", out, "--backbone", out]) == 2
    assert (tmp_path / "head.pth").read_bytes() == b"weights"


def test_from_official_files_to_official_numbers(shared: Path, tmp_path: Path) -> None:
    """A whole official state dict, converted and loaded as a user would, answers as the official code did."""
    golden = Golden(shared / "golden" / "model64", shared / "t5_tokenizer", fused=True)
    torch.save({"model": golden.weights}, tmp_path / "official.pth")
    config = golden.meta["config"]
    heads = (
        f"--qformer-heads={config['bert']['num_attention_heads']}",
        f"--vision-heads={config['vit']['num_heads']}",
    )
    out = tmp_path / "out"
    words = [str(tmp_path / "official.pth"), "--out", str(out), f"--tokenizer={shared / 't5_tokenizer'}", *heads]
    assert convert.cli(words) == 0
    direct = golden.model()
    loaded = api.SeViLA.load(str(out / "backbone"), str(out), str(out), dtype=torch.float64).model
    loaded.answerer.decoding = Official()
    loaded.prompts = golden.prompts
    assert loaded.backbone.fingerprint == direct.backbone.fingerprint
    assert loaded.backbone.prefix(None) == direct.backbone.prefix(None)
    for row, pixels in enumerate(golden.pixels):
        localize, answer = golden.prompts.localize(str(row), ()), golden.prompts.answer(str(row), ())
        patches = loaded.backbone.encode(pixels)
        assert torch.equal(patches, direct.backbone.encode(pixels))
        relevance = loaded.relevance(patches, [localize])[0]
        assert torch.equal(relevance, direct.relevance(patches, [localize])[0])
        assert (relevance - golden.tensors["a_loc.yes"][row]).abs().max() < 1e-9
        keyframes = golden.tensors["b_chain_k2.frame_idx"][row].tolist()
        assert sorted(relevance.topk(2).indices.tolist()) == keyframes
        (logits,) = loaded.option_logits(patches, [keyframes], [answer], [golden.options])
        assert torch.equal(logits, direct.option_logits(patches, [keyframes], [answer], [golden.options])[0])
        assert (logits - golden.tensors["b_chain_k2.step_logits_ids"][row, 1]).abs().max() < 1e-9
