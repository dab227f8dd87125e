"""A data set of one's own, with a video as telephones and screen recorders make them, from its files to its outputs."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sevila import eval as evaluation


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None: ...


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """monday.MP4: 30 frames in the first second, then 60, one a second; a question about 10 to 20 s of it."""
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos/monday.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.codec_context.time_base = Fraction(1, 1000)
        for n in range(90):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 2 * n, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 33 * n if n < 30 else 1000 * (n - 28), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "videos/monday.mp4").rename(tmp_path / "videos/monday.MP4")
    (tmp_path / "q.csv").write_text("video,question,a0,a1,answer,start,end\nmonday,what?,a cup,a key,1.0,10,20\n")
    keys = {"name": "custom", "root": tmp_path, "train": "q.csv", "val": "q.csv", "test": "q.csv", "videos": "videos"}
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/mine.yaml").write_text("# Mine.\n" + "".join(f"{k}: {v}\n" for k, v in keys.items()))
    chosen = ["split=val", "selector=uniform", "selector.k=2", "frames.n=4"]
    return ["--config-dir", str(tmp_path / "conf"), "data=mine", *chosen, f"run_dir={tmp_path / 'run'}"]


@pytest.mark.parametrize("store", [False, True])
def test_a_question_about_a_part_is_answered_from_it(
    own: list[str], tmp_path: Path, store: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keyframes.json"
    kept = [f"store.folder={tmp_path / 'store'}"] * store
    assert evaluation.cli([*own, *kept, f"export={file}"]) == 0
    row = json.loads((tmp_path / "run/predictions.jsonl").read_text())
    assert [frame["index"] for frame in row["frames"]] == [39, 41, 44, 46]
    assert [frame["time"] for frame in row["frames"]] == [11.0, 13.0, 16.0, 18.0]
    assert row["answer"] == 1
    printed = capsys.readouterr()
    assert f"written: {file} (frame_time: seconds since a video's first frame)" in printed.out
    assert "sevila: warning: the tiny backbone knows the drawn world alone" in printed.err
    (exported,) = json.loads(file.read_text())
    assert exported["frame_time"] == [frame["time"] for frame in row["keyframes"]]
