"""SeViLA: find the few frames of a video that answer a question, and answer it from them.

Nothing heavy is imported here: the names below are loaded on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevila.api import SeViLA
    from sevila.data.records import Moment, Question
    from sevila.errors import UserError
    from sevila.model.sevila import Answer, EncodedVideo, Localization

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "EncodedVideo",
    "Localization",
    "Moment",
    "Question",
    "SeViLA",
    "UserError",
    "__version__",
]

_HOME = {
    "Answer": "sevila.model.sevila",
    "EncodedVideo": "sevila.model.sevila",
    "Localization": "sevila.model.sevila",
    "Moment": "sevila.data.records",
    "Question": "sevila.data.records",
    "SeViLA": "sevila.api",
    "UserError": "sevila.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
