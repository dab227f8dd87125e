"""The check of every Python, without a registry: constraints, the Pythons it finds, what it makes of failures."""

from __future__ import annotations

import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import check_pythons
from check_pythons import REPOSITORY, Result, find_python, lowest, requirements

HERE = "{}.{}".format(*sys.version_info[:2])


def interpreter(path: Path, version: str) -> Path:
    """What answers as a Python of that version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version} {path}\n")
    path.chmod(0o755)
    return path


def test_every_dependency_has_a_lower_bound_to_try() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins = lowest(project["dependencies"])
    assert len(pins) == len(project["dependencies"]) and "av==18.1" in pins and "torch==2.6" in pins
    assert lowest(["pillow<14,>=10.4", "hydra-core (>=1.3.2)", 'a.b>=1 ; python_version >= "3.12"']) == [
        "pillow==10.4",
        "hydra-core==1.3.2",
        "a.b==1",
    ]
    with pytest.raises(ValueError, match="rich<16: has no lower bound"):
        lowest(["rich<16"])


def test_a_wheel_tells_what_it_needs(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        needs = "Requires-Dist: av<20,>=18.1\nRequires-Dist: torch>=2.6\nRequires-Dist: timm>=1; extra == 'timm'\n"
        archive.writestr("x-1.dist-info/METADATA", f"Metadata-Version: 2.4\nName: x\n{needs}\nRequires-Dist: none\n")
    assert requirements(wheel) == ["av<20,>=18.1", "torch>=2.6"]
    assert check_pythons.constraints(wheel, "lowest", tmp_path).read_text() == "av==18.1\ntorch==2.6\n"
    assert check_pythons.constraints(wheel, "highest", tmp_path) == REPOSITORY / "constraints.txt"


def test_the_path_comes_first_then_the_newest_of_pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert find_python("3.99") is None
    interpreter(tmp_path / "pyenv/versions/3.99.9/bin/python", "3.99")
    newest = interpreter(tmp_path / "pyenv/versions/3.99.10/bin/python", "3.99")
    assert find_python("3.99") == newest
    shim = interpreter(tmp_path / "bin/python3.99", "3.12")  # a shim that leads elsewhere
    assert find_python("3.99") == newest
    interpreter(shim, "3.99")
    assert find_python("3.99") == shim


def test_a_line_a_combination_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"lowest": "no such version", "highest": ""}
    monkeypatch.setattr(check_pythons, "build_wheel", lambda out: out / "wheel")
    monkeypatch.setattr(check_pythons, "constraints", lambda wheel, name, out: Path(name))
    monkeypatch.setattr(check_pythons, "find_python", lambda version: {HERE: Path(sys.executable)}.get(version))
    monkeypatch.setattr(
        check_pythons,
        "check",
        lambda python, folder, wheel, constraint, video: Result(
            {"av": "19.0", "click": "8"}, 61.2, failed[constraint.name]
        ),
    )
    (tmp_path / "v.mp4").write_bytes(b"")
    words = ["--video", str(tmp_path / "v.mp4"), "--pythons", HERE, "3.99"]
    assert check_pythons.main(words) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"Python {HERE} ({sys.executable}), lowest: FAILED: no such version (61 s; av 19.0)",
        f"Python {HERE} ({sys.executable}), highest: answers (61 s; av 19.0)",
        "Python 3.99: not found on the PATH or among pyenv's",
    ]
    assert check_pythons.main([*words, "--sets", "highest"]) == 0
    assert check_pythons.main([*words[:2], "--pythons", "3.99"]) == 1  # nothing was tried


def test_what_fails_is_told_by_its_last_line(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", "Name: x\nRequires-Dist: av>=18.1\n")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho one >&2\necho it broke >&2\nexit 3\n")
    broken.chmod(0o755)
    found = check_pythons.check(broken, tmp_path / "env", wheel, tmp_path / "c.txt", tmp_path / "v.mp4")
    assert found.versions == {} and found.message == f"-m venv {tmp_path / 'env'}: it broke"
    assert f"$ {broken} -m venv" in (tmp_path / "env.log").read_text()
