from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import sevila
from sevila.data.records import Moment, Question

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = "sevila/synthetic/tiny_blip2"


def python(code: str, cwd: Path, path: Path) -> str:
    """What a fresh interpreter in the folder `cwd`, with `path` first on its path, prints."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_prediction_loads_what_it_needs(small_world: list[str], tmp_path: Path) -> None:
    """Neither the benchmarks nor the trainings, which take seconds to import."""
    (video,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos/val_0001.mp4")
    code = (
        f"import sys; from sevila.predict import cli; assert cli([{str(video)!r}, 'what?', 'a cup', 'a key']) == 0; "
        "print({f'sevila.{room}' for room in ('build', 'benchmarks', 'tasks', 'training')} & {*sys.modules})"
    )
    assert python(code, tmp_path, REPOSITORY).splitlines()[-1] == "set()"


def test_the_import_brings_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import sevila; sevila.__version__; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = python(code, tmp_path, REPOSITORY)
    heavy = (
        "torch",
        "transformers",
        "hydra",
        "omegaconf",
        "av",
        "numpy",
        "matplotlib",
        "accelerate",
        "wandb",
    )
    assert "'sevila'" in loaded and [name for name in heavy if f"'{name}'" in loaded] == []


def test_names_are_loaded_on_first_use() -> None:
    from sevila.api import SeViLA
    from sevila.model.sevila import Answer

    assert sevila.Question is Question and sevila.Moment is Moment
    assert sevila.SeViLA is SeViLA and sevila.Answer is Answer
    assert {"SeViLA", "Question", "Moment", "Answer"} <= set(dir(sevila))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sevila' has no attribute 'Sevilla'"):
        _ = sevila.Sevilla  # type: ignore[attr-defined]


@pytest.mark.skipif(find_spec("hatchling") is None, reason="needs hatchling (pip install -e .[dev])")
def test_a_wheel_works_by_itself_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob(f"sevila-{sevila.__version__}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    for folder, inside in (("configs", "sevila/configs"), (TINY, TINY)):
        files = [file for file in (REPOSITORY / folder).rglob("*") if file.is_file()]
        assert {f"{inside}/{file.relative_to(REPOSITORY / folder).as_posix()}" for file in files} <= shipped
    for name in ("sevila/configs/exp/synthetic_pretrain.yaml", "sevila/py.typed", "sevila/report/templates/page.css"):
        assert name in shipped
    code = "import sevila.config as c; print(c.own_folder()); print(c.load('train', ['+exp=synthetic_pretrain']).task)"
    (tmp_path / "elsewhere").mkdir()
    own, task = python(code, tmp_path / "elsewhere", tmp_path / "site").splitlines()
    assert Path(own) == (tmp_path / "site" / "sevila" / "configs").resolve()
    assert task == "{'name': 'pretrain', 'frames': 8, 'crop': False}"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_names_the_python_it_takes(tmp_path: Path) -> None:
    stub = tmp_path / "python"  # this one, but it makes no environment
    stub.write_text(f'#!/bin/sh\n[ "$1" = -m ] && exit 3\nexec {sys.executable} "$@"\n')
    stub.chmod(0o755)
    words = ["make", "env", f"PYTHON={stub}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    named = f"Setting up {tmp_path / 'venv'} with Python {platform.python_version()} ({sys.executable}):"
    assert named in done.stdout.splitlines()
