"""predict by the actors of a Ray cluster, here of this machine: the bytes of plain predict."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sevila import predict

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install .[ray]")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@pytest.mark.usefixtures("_ray", "one_thread")
def test_actors_write_the_bytes_of_plain_predict(
    small_world: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One actor and two; rows of no video cost themselves only; a part that is there is not made again."""
    (videos,) = Path(small_world[0].removeprefix("data.root=")).glob("seed_0-*/videos")
    monkeypatch.chdir(tmp_path)
    names = ["val_0000.mp4"] * 3 + ["none.mp4"] * 2 + ["val_0001.mp4"] * 4
    for name in set(names) - {"none.mp4"}:
        shutil.copy(videos / name, name)
    asked = {"question": "what does the red star hold", "options": ["cup", "key"]}
    Path("q.jsonl").write_text("".join(json.dumps({"video": name, **asked}) + "\n" for name in names))
    words = ["--questions=q.jsonl", "--k=2", "--n-frames=4", "--precision=fp32", "--window=2"]
    assert predict.cli([*words, "--out=plain"]) == 2
    whole = Path("plain/predictions.jsonl").read_bytes()

    def parts() -> list[Path]:
        return sorted(Path("many/parts").iterdir())

    assert predict.cli([*words, "--out=many", "--actors=2"]) == 2
    printed = capsys.readouterr()
    assert "written: many/parts, 7 answers\n" in printed.out and "2 of 9 questions have no answer" in printed.err
    assert printed.err.endswith("; remove the parts that hold an error, and the same command asks again\n")
    assert "--actors=2: --window" not in printed.err
    assert [len(part.read_bytes().splitlines()) for part in parts()] == [2, 2, 2, 2, 1]
    assert b"".join(part.read_bytes() for part in parts()) == whole
    first, *_, last = parts()
    first.unlink()
    last.write_bytes(b"")
    assert predict.cli([*words, "--out=many", "--actors=6"]) == 2
    assert "--actors=6: --window=2 makes 5 parts of 9 rows; as many actors are at work" in capsys.readouterr().err
    assert b"".join(part.read_bytes() for part in parts()) == b"".join(whole.splitlines(keepends=True)[:-1])
    shutil.rmtree("many/parts")
    Path("many/parts").touch()
    assert predict.cli([*words, "--out=many", "--actors=1"]) == 2
    assert "sevila: error: many/parts" in capsys.readouterr().err.splitlines()[-1]
    assert predict.cli([*words, "--out=many"]) == 2
    assert "--out=many: was begun with by=Ray, now by=sevila" in capsys.readouterr().err


@pytest.mark.usefixtures("_ray")
def test_an_address_that_ray_cannot_read_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    Path("q.jsonl").write_text('{"video": "v.mp4", "question": "x"}\n')
    assert predict.cli(["--questions=q.jsonl", "--out=many", "--actors=1"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("sevila: error: RAY_ADDRESS=nonsense: ")
    assert told.endswith("; name the HOST:PORT of a cluster that runs, or unset it for this machine alone")


def test_actors_need_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--questions=q.jsonl"], ["--questions=q.jsonl", "--out=a.jsonl"], ["v.mp4", "what?"]):
        assert predict.cli([*words, "--actors=2"]) == 2
        assert "--actors=2: write parts of many answers; name --questions FILE --out FOLDER" in capsys.readouterr().err
    assert predict.cli(["--questions=q.jsonl", "--out=many", "--actors=0"]) == 2
    assert "--actors=0: must be at least 1" in capsys.readouterr().err
