"""The json that the official SeViLA preprocessing makes of every benchmark: a list of rows of one form.

    {"video", "num_option", "qid", "a0", "a1", ..., "answer", "question", "start", "end"}

Texts are final there (NExT-QA's "?" and "." are in them), start and end may be texts and may be missing, so may
the answer and, for VLEP, the question. Its qids of How2QA and TVQA are row numbers; its NExT-QA videos are paths.
"""

from __future__ import annotations

from sevila.benchmarks.rows import Row
from sevila.data.records import Question


def is_unified(row: Row) -> bool:
    return "num_option" in row.values


def question(row: Row, prefix: str = "", typed: bool = False) -> Question:
    """A row as a record.

    prefix   put before the benchmark's own qid by the preprocessing, taken off here
    typed    whether the qid begins with the question's type and "_"
    """
    values = row.values
    count = row.integer("num_option", 2, 26)
    qid = row.name("qid").removeprefix(prefix)
    return Question(
        qid=qid,
        video=row.name("video"),
        question=row.text("question") if "question" in values else "",
        options=row.texts("a{}", count),
        answer=row.integer("answer", 0, count - 1) if "answer" in values else None,
        qtype=qid.partition("_")[0] if typed else "",
        clip=row.clip("start", values["start"], values.get("end")) if "start" in values else None,
    )
