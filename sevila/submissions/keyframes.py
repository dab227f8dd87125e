"""Keyframes for other programs: which frames of which video, as another model's evaluation reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sevila.errors import UserError
from sevila.files import json_line, write_text


def keyframe_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The keyframes of a line of predictions.jsonl.

    frame_idx    numbers of frames in the video file, counted from 0 over the whole of it, in time order: what
                 decord's `VideoReader(file).get_batch(frame_idx)` takes
    frame_time   their times in seconds since the video's first frame. Where a file's sound begins before its pictures,
                 a player's clock, which starts with the sound, shows more

    UserError for a row without keyframes.
    """
    keyframes = sorted(row.get("keyframes") or (), key=lambda frame: frame["index"])
    if not keyframes:
        raise UserError(f"question {row.get('qid')!r}: its prediction has no keyframes to export")
    return {
        "qid": row["qid"],
        "video": row["video"],
        "frame_idx": [frame["index"] for frame in keyframes],
        "frame_time": [frame["time"] for frame in keyframes],
    }


def write_keyframes(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the keyframes of predictions, in their order, as a json list of `keyframe_row`s; atomically.

    This is the form in which AKS and its followers run lmms-eval: the task's documents carry `frame_idx`, and the
    model decodes those frames instead of uniform ones. With documents in the order of the data set,

        rows = json.load(open("keyframes.json"))
        for doc, row in zip(docs, rows, strict=True):
            doc["frame_idx"] = row["frame_idx"]

    and where the order differs, `{row["qid"]: row["frame_idx"] for row in rows}`. A plain list of lists, as other
    programs take it, is `[row["frame_idx"] for row in rows]`. Without a row a UserError: nothing is written.
    """
    lines = [json_line(keyframe_row(row)).rstrip("\n") for row in rows]
    if not lines:
        raise UserError(f"{path}: there are no predictions whose keyframes could be exported")
    write_text(Path(path), "[\n" + ",\n".join(lines) + "\n]\n")
