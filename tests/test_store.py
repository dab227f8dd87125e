"""python -m sevila.store, and what a configuration makes of `store`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sevila import build, schema
from sevila.checkpoints import backbone as backbones
from sevila.config import load
from sevila.data.sampling import PLAIN
from sevila.data.store import RULES, Misses, Place, Store
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.model.backbone import Backbone
from sevila.store import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store", {"tower": "a", "size": "8"}, torch.float32, note={"backbone": "tiny"})
    store.write([Misses(Place("0123", PLAIN), (1, 2), (0.0, 1.0))], torch.ones(2, 10, 100))
    store.flush()
    return tmp_path / "store"


def test_stats_and_clear(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli(["stats", "--folder", str(folder)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    (name,) = (sub.name for sub in (folder / "patches").iterdir())
    assert first.startswith(f"store {folder}: ") and first.endswith(" kB")
    assert second.startswith(f"patches {name}: 2 frames of 1 videos, ")
    assert f"(backbone tiny, at rest float32, dtype float32, rules {RULES}, size 8, tower a)" in second
    assert cli(["clear", name, "--folder", str(folder)]) == 0
    assert f"store {folder}: {name} removed, " in capsys.readouterr().out
    assert cli(["clear", "--folder", str(folder), "tables"]) == 2  # a name may stand behind options
    assert "holds no tables" in capsys.readouterr().err
    assert cli(["clear", "--folder", str(folder)]) == 0 and not (folder / "patches").exists()
    assert "everything removed" in capsys.readouterr().out


def test_bad_input(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli(["stats", "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"sevila: error: {tmp_path}: is no store (no store.json in it); name the folder that store.folder named\n"
    )
    for words in (["wipe"], [], ["stats", "x"], ["stats", "--fold"]):
        assert cli(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("sevila: error: ") and line.endswith("; sevila store --help says more")
    assert cli(["clear", "nothing", "--folder", str(folder)]) == 2
    assert "holds no nothing; it has: " in capsys.readouterr().err
    assert cli(["--help"]) == 0


@pytest.mark.parametrize("entry", ["train", "refine", "eval"])
def test_every_entry_point_takes_a_store(entry: str) -> None:
    exp = {"train": "synthetic_forward", "refine": "synthetic_reverse", "eval": "synthetic_eval"}[entry]
    words = [f"+exp={exp}"]
    assert load(entry, words).store == schema.Store()
    given = load(entry, [*words, "store.folder=here", "store.max_gb=0.5", "store.dtype=bf16", "store.views=2"])
    assert given.store == schema.Store("here", 0.5, "bf16", 2)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("store.dtype=fp8", "store.dtype=fp8: expected"),
        ("store.max_gb=0", "store.max_gb=0.0: must be more than 0"),
        ("store.views=0", "store.views=0: must be at least 1"),
        ("store.size=3", "unknown key 'store.size'"),
    ],
)
def test_wrong_values(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("eval", ["+exp=synthetic_eval", "store.folder=here", word])


def test_rounding_needs_a_store() -> None:
    with pytest.raises(UserError, match=r"store\.dtype=bf16: nothing is stored; give store\.folder=FOLDER"):
        load("eval", ["+exp=synthetic_eval", "store.dtype=bf16"])


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return backbones.load()


def test_a_maker_is_all_that_patches_depend_on(tmp_path: Path, tiny: Backbone) -> None:
    def made(backbone: Backbone = tiny, size: int = 64, dtype: str | None = None, **more: object) -> str:
        return build.store(schema.Store(str(tmp_path / "s"), dtype=dtype, **more), backbone, CachedVideos(size)).id

    plain = made()
    assert made(max_gb=3.0, views=2) == plain  # how much, and of what, changes no patches
    others = [made(size=32), made(dtype="bf16"), made(backbones.load(dtype=torch.bfloat16))]
    changed = backbones.load()
    with torch.no_grad():
        list(changed.tower.parameters())[-1][-1] += 1e-3
    assert changed.fingerprint == tiny.fingerprint  # a layer norm that is used as the head's copy alone
    others.append(made(changed))
    with torch.no_grad():
        changed.language.lm_head.weight[0] += 1.0
    assert made(changed) == others[-1]  # the language model sees patches, it makes none
    assert len({plain, *others}) == 5


def test_no_folder_no_store(tiny: Backbone) -> None:
    assert build.store(schema.Store(views=2), tiny, CachedVideos(64)) is None


def test_pictures_are_decoded_for_the_scorer_that_needs_them(small_world: list[str], tiny: Backbone) -> None:
    config = load("eval", ["+exp=synthetic_eval", *small_world])
    data, model = build.benchmark(config), SimpleNamespace(backbone=tiny)
    for needed in (True, False):
        assert build.source(config, model, data, SimpleNamespace(needs_pictures=needed)).pictures == needed
    assert not build.source(config, model, data).pictures
