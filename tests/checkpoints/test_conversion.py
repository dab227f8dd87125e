"""`sevila convert` over small checkpoints of every kind: what it writes, says and refuses."""

from __future__ import annotations

import json
import math
import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sevila import convert, predict
from sevila.checkpoints import backbone as backbones
from sevila.checkpoints import conversion
from sevila.checkpoints.heads import load_head
from sevila.checkpoints.lavis import head_name, heads_from
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.model.head import HeadConfig

State = dict[str, Tensor]
Files = Callable[[State], tuple[State, State, State]]
ROLES = ("localizer", "answerer")


@pytest.fixture
def backbone(whole: State, words: Path, tmp_path: Path) -> Path:
    """A backbone folder of the small sizes."""
    torch.save(whole, tmp_path / "whole.pth")
    assert run(tmp_path / "whole.pth", "--out", tmp_path / "base", "--tokenizer", words) == 0
    (tmp_path / "whole.pth").unlink()
    return tmp_path / "base" / "backbone"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(*argv: object) -> int:
    return convert.cli([str(word) for word in argv])


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


BOTH = {f"{role}{suffix}" for role in ROLES for suffix in (".safetensors", ".json")}


def holds(place: Path, role: str, state: State, official: str, backbone: Backbone) -> bool:
    """Whether a head file loads over the backbone and holds the tensors of an official head."""
    head = load_head(str(place), role, backbone).state_dict()
    return all(torch.equal(tensor, state[head_name(name, official)]) for name, tensor in head.items())


def refusal(capsys: pytest.CaptureFixture[str], out: Path, *argv: object) -> str:
    """The one line of a refused conversion, which wrote nothing."""
    before = names(out.parent)
    capsys.readouterr()
    code = run(*argv)
    printed = capsys.readouterr()
    assert code == 2 and printed.out == "" and names(out.parent) == before
    (line,) = printed.err.splitlines()
    assert line.startswith("sevila: error: ")
    return line.removeprefix("sevila: error: ")


# -- the released checkpoint --------------------------------------------------------------------------------


def test_the_released_checkpoint(
    released: State, backbone: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": released}, tmp_path / "sevila_pretrained.pth")
    capsys.readouterr()
    assert run(tmp_path / "sevila_pretrained.pth", "--out", out, "--backbone", backbone) == 0
    printed = capsys.readouterr()
    assert names(out) == BOTH
    loaded = backbones.load(str(backbone))
    assert holds(out, "localizer", released, "localizer", loaded)
    assert holds(out, "answerer", released, "answerer", loaded)
    assert not holds(out, "answerer", released, "localizer", loaded)
    count = sum(math.prod(t.shape) for n, t in released.items() if "_loc" in n and "position_ids" not in n)
    assert printed.out.splitlines() == [
        "found: both heads of SeViLA",
        "left out: counters of BERT's positions: Qformer.bert.embeddings.position_ids, "
        "Qformer_loc.bert.embeddings.position_ids",
        f"backbone: {backbone}, fingerprint {loaded.fingerprint}; it stays where it is",
        f"written: {out}/localizer.safetensors, {count:,} parameters; localizer.json describes it",
        f"written: {out}/answerer.safetensors, {count:,} parameters; answerer.json describes it",
        f'use: sevila predict VIDEO "question" option option --model {backbone} --localizer {out} --answerer {out}',
    ]
    assert printed.err == ""
    described = json.loads((out / "localizer.json").read_text())
    assert described["backbone"] == {"source": str(backbone), "fingerprint": loaded.fingerprint}
    assert described["training"] == {"converted_from": ["sevila_pretrained.pth"], "weights": "both heads of SeViLA"}


def test_heads_need_a_backbone(released: State, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(released, tmp_path / "r.pth")
    assert refusal(capsys, out, tmp_path / "r.pth", "--out", out) == (
        "r.pth: no whole model (no vision tower (eva_vit_g.pth), no language model (flan-t5)), so say which backbone "
        "these heads belong to: --backbone Salesforce/blip2-flan-t5-xl, or a folder; or name the missing files too"
    )
    assert "blip2_flan_t5_xl: neither a folder" in refusal(
        capsys, out, tmp_path / "r.pth", "--out", out, "--backbone", "blip2_flan_t5_xl"
    )
    message = refusal(capsys, out, tmp_path / "r.pth", "--out", out, "--backbone", "tiny")  # a backbone of other sizes
    assert "query_tokens is [1, 3, 128], not [1, 6, 128]" in message and "t5_proj_loc.bias is [24]" in message


@pytest.mark.parametrize("fault", ["missing", "extra", "misshaped", "renamed"])
def test_one_wrong_tensor(
    released: State, backbone: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    name = "Qformer_loc.bert.encoder.layer.2.crossattention.self.key.weight"
    shape = list(released[name].shape)
    tensor = released.pop(name)
    added = {"missing": {}, "extra": {name: tensor, "more": tensor}, "misshaped": {name: tensor[1:]}}
    released |= added.get(fault, {f"{name}_old": tensor})
    torch.save({"model": released}, tmp_path / "r.pth")
    wanted = {
        "missing": f"r.pth: not loaded: missing {name}",
        "extra": "r.pth: not loaded: unexpected more",
        "misshaped": f"r.pth: not loaded: {name} is {[shape[0] - 1, shape[1]]}, not {shape}",
        "renamed": f"r.pth: not loaded: missing {name}; unexpected {name}_old",
    }
    assert refusal(capsys, out, tmp_path / "r.pth", "--out", out, "--backbone", backbone) == wanted[fault]


# -- a run of the official code -----------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "frozen"), [("answerer", "localizer"), ("localizer", "answerer")])
def test_a_checkpoint_of_an_official_run(
    released: State,
    backbone: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    role: str,
    frozen: str,
) -> None:
    suffix = {"localizer": "_loc", "answerer": ""}[frozen]
    state = {n: t for n, t in released.items() if n.split(".")[0] not in (f"query_tokens{suffix}", f"Qformer{suffix}")}
    state[f"Qformer{suffix}.bert.embeddings.position_ids"] = torch.arange(512)[None]
    for stack in ("encoder", "decoder"):
        state[f"t5_model.{stack}.embed_tokens.weight"] = torch.zeros(40, 24)
    beside = {"optimizer": {"state": {}}, "config": {"run": {"lr": 3e-5}}, "scaler": {"scale": 2.0}, "epoch": 4}
    torch.save({"model": state, **beside}, tmp_path / "checkpoint_best.pth")
    capsys.readouterr()
    assert run(tmp_path / "checkpoint_best.pth", "--out", out, "--backbone", backbone) == 0
    lines = capsys.readouterr().out.splitlines()
    assert names(out) == {f"{role}.safetensors", f"{role}.json"}
    assert holds(out, role, released, role, backbones.load(str(backbone)))
    assert lines[:5] == [
        f"found: the trained {role} of an official run",
        "left out: counters of BERT's positions: " + ", ".join(name for name in state if name.endswith("position_ids")),
        "left out: second names of T5's word vectors: "
        "t5_model.encoder.embed_tokens.weight, t5_model.decoder.embed_tokens.weight",
        f"left out: what the run kept of its frozen {frozen}: "
        + ", ".join(n for n in state if n.startswith((f"t5_proj{suffix}.", f"ln_vision{suffix}."))),
        "left out: what checkpoint_best.pth holds beside the model: optimizer, config, scaler, epoch",
    ]
    assert any(line.startswith(f"the {frozen} is not in these files: convert the checkpoint") for line in lines)
    assert f"--{role} {out}" in lines[-1] and f"--{frozen} FOLDER" in lines[-1]


# -- LAVIS's BLIP-2 -----------------------------------------------------------------------------------------


def test_lavis_files_make_a_whole_model(
    whole: State, files: Files, words: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """EVA's own file, with a block too many and a classifier; T5 in two parts; BLIP-2's own head."""
    monkeypatch.setattr(conversion, "VISION_LAYERS", 2)
    vision, language, head = files(whole)
    more = {name.replace("blocks.1", "blocks.2"): t for name, t in vision.items() if name.startswith("blocks.1")}
    more |= {"norm.weight": torch.ones(88), "norm.bias": torch.ones(88)}
    torch.save(vision | more, tmp_path / "eva_vit_g.pth")
    torch.save({"model": head}, tmp_path / "blip2.pth")
    kept = {n: t for n, t in language.items() if "embed_tokens" not in n}
    kept["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 2)
    half = list(kept)[: len(kept) // 2]
    save_file({n: kept[n] for n in half}, tmp_path / "t5-1.safetensors")
    torch.save({n: t for n, t in kept.items() if n not in half}, tmp_path / "t5-2.bin")
    sources = [tmp_path / name for name in ("eva_vit_g.pth", "blip2.pth", "t5-1.safetensors", "t5-2.bin")]
    assert run(*sources, "--out", out, "--tokenizer", words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "found: BLIP-2's own head, the start of both"
    assert lines[1].startswith("left out: blocks of the vision tower after number 2, which BLIP-2 does not use: ")
    assert "left out: what follows a ViT's last block in a classifier: " in lines[4]
    assert names(out) == {*BOTH, "backbone"}
    loaded = backbones.load(str(out / "backbone"))
    for role in ROLES:
        assert holds(out, role, whole, "answerer", loaded)
    assert len(loaded.vision.encoder.layers) == 2
    assert torch.equal(loaded.language.lm_head.weight, whole["t5_model.lm_head.weight"])
    assert torch.equal(loaded.language.shared.weight, whole["t5_model.shared.weight"])
    assert f"written: {out}/backbone, " in lines[5] and f", fingerprint {loaded.fingerprint}" in lines[5]
    modes = {file.stat().st_mode for file in (*out.glob("*.*"), *(out / "backbone").iterdir())}
    assert len(modes) == 1  # whoever may read one file may read all


def test_lavis_head_alone(released: State, backbone: Path, out: Path, tmp_path: Path) -> None:
    state = {name: t for name, t in released.items() if "_loc" not in name}
    torch.save({"model": state}, tmp_path / "blip2_pretrained.pth")
    assert run(tmp_path / "blip2_pretrained.pth", "--out", out, "--backbone", backbone) == 0
    loaded = backbones.load(str(backbone))
    assert names(out) == BOTH
    assert all(holds(out, role, state, "answerer", loaded) for role in ROLES)


def test_a_whole_state_dict_with_both_heads(
    whole: State, words: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": whole}, tmp_path / "whole.pth")
    assert run(tmp_path / "whole.pth", "--out", out, "--tokenizer", words, "--dtype", "bf16") == 0
    loaded = backbones.load(str(out / "backbone"))
    assert all(holds(out, role, whole, role, loaded) for role in ROLES)  # heads stay float32
    stored = load_file(out / "backbone" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    # the same file over a backbone that is there already: heads alone
    capsys.readouterr()
    assert run(tmp_path / "whole.pth", "--out", tmp_path / "heads", "--backbone", out / "backbone") == 0
    printed = capsys.readouterr().out
    assert names(tmp_path / "heads") == BOTH
    assert "left out: the vision tower: visual_encoder." in printed and "left out: the language model: " in printed


def test_part_of_a_model(
    whole: State, files: Files, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vision, language, head = files(whole)
    for name, part in (("vit.pth", vision), ("t5.pth", language), ("head.pth", head)):
        torch.save(part, tmp_path / name)
    message = refusal(capsys, out, tmp_path / "vit.pth", tmp_path / "head.pth", "--out", out)
    assert message.startswith("vit.pth, head.pth: no whole model (no language model (flan-t5)), so say which")
    message = refusal(capsys, out, tmp_path / "vit.pth", tmp_path / "t5.pth", "--out", out)
    assert message == "vit.pth, t5.pth: holds no head (no query_tokens, no Qformer.bert.*)"
    message = refusal(capsys, out, tmp_path / "t5.pth", tmp_path, "--out", out)
    assert message == f"{tmp_path}: is a folder; among several sources name its weight files"
    del vision["blocks.1.attn.q_bias"]
    torch.save(vision, tmp_path / "vit.pth")
    message = refusal(capsys, out, *(tmp_path / f"{name}.pth" for name in ("vit", "t5", "head")), "--out", out)
    assert message.startswith("vit.pth, t5.pth, head.pth: not loaded: missing visual_encoder.blocks.1.attn.q_bias")


def test_tokenizers(whole: State, words: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(whole, tmp_path / "w.pth")
    # Flan-T5's is asked for, and there is no connection
    message = refusal(capsys, out, tmp_path / "w.pth", "--out", out)
    assert message.startswith("--tokenizer=google/flan-t5-xl: no tokenizer there (")
    assert message.endswith("give a folder that holds its tokenizer.json, or the Hub id google/flan-t5-xl")
    assert "tokenizer=" in refusal(capsys, out, tmp_path / "w.pth", "--out", out, "--tokenizer", tmp_path)
    (tmp_path / "bad").mkdir()
    text = (words / "tokenizer.json").read_text()
    (tmp_path / "bad" / "tokenizer.json").write_text(
        text.replace('"</s>":1', '"</s>":9').replace('"</s>": 1', '"</s>": 9')
    )
    message = refusal(capsys, out, tmp_path / "w.pth", "--out", out, "--tokenizer", tmp_path / "bad")
    told = "not this T5's: it has 5 tokens, <pad> 0 and </s> 9; expected at most 40 tokens, <pad> 0 and </s> 1"
    assert message.endswith(told)
    (tmp_path / "bad" / "tokenizer.json").write_text("{")
    assert "no tokenizer there (" in refusal(
        capsys, out, tmp_path / "w.pth", "--out", out, "--tokenizer", tmp_path / "bad"
    )


# -- transformers' BLIP-2 -----------------------------------------------------------------------------------


def test_a_folder_of_transformers(backbone: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(backbone, "--out", out) == 0
    assert f"backbone: {backbone}, fingerprint " in capsys.readouterr().out
    assert names(out) == BOTH
    loaded = backbones.load(str(backbone))
    for role in ROLES:
        head = load_head(str(out), role, loaded)
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), loaded.zeroshot.parameters(), strict=True))
    message = refusal(capsys, out.parent / "new", backbone, "--out", out.parent / "new", "--backbone", "tiny")
    assert message == f"--backbone=tiny: {backbone} is its own backbone; leave the option out"
    for option, value in (("--tokenizer", "x"), ("--dtype", "bf16"), ("--vision-heads", "2")):
        message = refusal(capsys, out.parent / "new", backbone, "--out", out.parent / "new", option, value)
        assert message == f"{option}={value}: is about a backbone to write, and none is written; leave it out"


# -- what is refused, whatever the kind ---------------------------------------------------------------------


class Attack:
    """What runs code in whoever unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_malicious_file(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "touched"
    torch.save({"model": {"query_tokens": torch.zeros(1)}, "config": Attack(target)}, tmp_path / "bad.pth")
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(Attack(target), protocol=2))
    for name in ("bad.pth", "bad.bin"):
        assert "weights_only=True" in refusal(capsys, out, tmp_path / name, "--out", out, "--backbone", "tiny")
    assert not target.exists()


def test_a_tokenizer_that_brings_code_is_read_without_it(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    own = Path(shutil.copytree(words, tmp_path / "own"))
    (own / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\nclass Words: ...\n")
    asked = {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": ["own.Words", "own.Words"]}}
    (own / "tokenizer_config.json").write_text(json.dumps(asked))
    with pytest.raises(UserError, match=r"^--tokenizer=.*own: no tokenizer there \("):
        conversion.read_t5_tokenizer(str(own), 40)
    assert not (tmp_path / "mark").exists()


def test_a_place_that_is_taken(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "kept").mkdir(parents=True)
    assert refusal(capsys, out, "tiny", "--out", out) == f"--out={out}: not empty; give another folder to write to"
    (tmp_path / "file").write_text("x")
    assert "is a file; name a folder" in refusal(capsys, out, "tiny", "--out", tmp_path / "file")
    below = tmp_path / "file" / "out"
    assert (
        refusal(capsys, out, "tiny", "--out", below)
        == f"--out={below}: {tmp_path / 'file'} cannot be written to; give another folder"
    )
    assert refusal(capsys, out, "tiny").startswith("the following arguments are required: --out; ")
    assert "invalid choice: 'fp16'" in refusal(capsys, out, "tiny", "--out", tmp_path / "new", "--dtype", "fp16")
    assert refusal(capsys, out, "tiny", "--out", tmp_path / "new", "--vision-heads", "0").startswith(
        "--vision-heads=0: must"
    )
    (out / "kept").rmdir()
    assert run("tiny", "--out", out) == 0 and names(out) == BOTH  # an empty folder is as good as none


def test_the_last_line_is_a_command_that_runs(
    out: Path, small_world: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied into a shell, with a video, a question and options in the places of the words for them."""
    assert run("tiny", "--out", out.with_name("two words")) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    start = 'use: sevila predict VIDEO "question" option option '
    assert command.startswith(start)
    video = next(Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos/val_0001.mp4"))
    options = shlex.split(command.removeprefix(start))
    assert predict.cli([str(video), "what is it?", "a cup", "a key", *options, "--n-frames", "4", "--k", "1"]) == 0
    assert "a cup" in capsys.readouterr().out


def test_a_conversion_that_is_cut_short_leaves_nothing(
    released: State, backbone: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The disk is full at the second head; then somebody presses Ctrl-C."""
    torch.save(released, tmp_path / "r.pth")
    save = conversion.save_head

    def fails(error: BaseException) -> Callable[..., None]:
        def save_one(path: Path, *rest: object) -> None:
            if path.stem == "answerer":
                raise error
            save(path, *rest)

        return save_one

    monkeypatch.setattr(conversion, "save_head", fails(OSError(28, "No space left on device")))
    message = refusal(capsys, out, tmp_path / "r.pth", "--out", out, "--backbone", backbone)
    assert message == f"{out}: No space left on device; make room or raise the limit"
    before = names(tmp_path)
    monkeypatch.setattr(conversion, "save_head", fails(KeyboardInterrupt()))
    assert run(tmp_path / "r.pth", "--out", out, "--backbone", backbone) == 130
    assert names(tmp_path) == before


# -- the released checkpoint's real names and sizes ---------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared: Path) -> State:
    """520 names at full size, without memory."""
    shapes = json.loads((shared / "golden" / "model64" / "real_checkpoint_keys.json").read_text())
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("fault", ["missing", "extra", "misshaped", "renamed"])
def test_the_real_names_with_one_fault(real: State, fault: str) -> None:
    sizes = HeadConfig(1408, 2048, 32, width=768, layers=12, attention_heads=12, inner_width=3072)
    for name in [n for n in real if not n.endswith("position_ids")][::173]:
        shape = tuple(real[name].shape)
        state = {n: t for n, t in real.items() if n != name or fault == "extra"}
        if fault != "missing":
            key = name if fault == "misshaped" else f"{name}.more"
            state[key] = torch.empty((7, 7, 7) if fault == "misshaped" else shape, device="meta")
        told = {
            "missing": f"missing {name}",
            "extra": f"unexpected {name}.more",
            "misshaped": f"{name} is [7, 7, 7], not {list(shape)}",
            "renamed": f"missing {name}; unexpected {name}.more",
        }
        with pytest.raises(UserError) as caught:
            heads_from(state, "r.pth", sizes)
        assert str(caught.value) == f"r.pth: not loaded: {told[fault]}"
