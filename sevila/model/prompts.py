"""Every prompt, once: what Localizer and Answerer are asked (paper, section 3.2), as the official code words it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter, ascii_uppercase
from typing import Protocol

from sevila.errors import UserError

_ANSWER = "Considering the information presented in the frame, select the correct answer from the options."
_LOCALIZE = (
    "Does the information within the frame provide the necessary details to accurately answer the given question?"
)
_EVENT = "Upon observing the provided frames, what is the most probable subsequent event?"
_LOCALIZE_EVENT = "Does the information within the frame provide the necessary details to predict next event?"


def letters(n_options: int) -> tuple[str, ...]:
    """The letters of n options. Raises UserError below 2 or above 26."""
    if not 2 <= n_options <= len(ascii_uppercase):
        raise UserError(f"a question needs 2 to {len(ascii_uppercase)} options, got {n_options}")
    return tuple(ascii_uppercase[:n_options])


def _lettered(options: Sequence[str]) -> str:
    return " ".join(f"Option {letter}: {option}" for letter, option in zip(letters(len(options)), options, strict=True))


def target(answer: int) -> str:
    """The Answerer's training target (section 3.3), and what `Direct` decoding takes as its first word: "Option B"."""
    return f"Option {ascii_uppercase[answer]}"


class Prompts(Protocol):
    """What the Answerer and the Localizer are asked about a question."""

    def answer(self, question: str, options: Sequence[str]) -> str:
        """Which option is right? UserError for fewer than 2 options or more than 26, here and below."""
        ...

    def localize(self, question: str, options: Sequence[str]) -> str:
        """Does this frame help to answer?"""
        ...


@dataclass(frozen=True)
class QuestionPrompts:
    """Question answering: NExT-QA, STAR, How2QA, TVQA."""

    def answer(self, question: str, options: Sequence[str]) -> str:
        return f"Question: {question} {_lettered(options)} {_ANSWER}"

    def localize(self, question: str, options: Sequence[str]) -> str:
        letters(len(options))
        return f"Question: {question} Options: ({''.join(option + ' ' for option in options)}) {_LOCALIZE}"


@dataclass(frozen=True)
class EventPrompts:
    """Prediction of the next event: VLEP, whose rows hold no question."""

    def answer(self, question: str, options: Sequence[str]) -> str:
        return f"{_EVENT} {_lettered(options)}"

    def localize(self, question: str, options: Sequence[str]) -> str:
        return f"{self.answer(question, options)} {_LOCALIZE_EVENT}"


@dataclass(frozen=True)
class TemplatePrompts:
    """A wording of one's own. In both texts {question}, {lettered} ("Option A: a Option B: b") and {options} ("a b ").

    Raises UserError for another placeholder.
    """

    answers: str = f"Question: {{question}} {{lettered}} {_ANSWER}"
    localizes: str = f"Question: {{question}} Options: ({{options}}) {_LOCALIZE}"

    def __post_init__(self) -> None:
        known = ("question", "lettered", "options")
        for key, text in (("answers", self.answers), ("localizes", self.localizes)):
            try:
                strange = [name for _, name, _, _ in Formatter().parse(text) if name is not None and name not in known]
            except ValueError as error:
                raise UserError(f"prompts.{key}={text!r}: {error}; write {{{{ for a brace") from None
            if strange:
                raise UserError(f"prompts.{key}: unknown placeholder {{{strange[0]}}}; there are {', '.join(known)}")

    def answer(self, question: str, options: Sequence[str]) -> str:
        return self._fill(self.answers, question, options)

    def localize(self, question: str, options: Sequence[str]) -> str:
        return self._fill(self.localizes, question, options)

    @staticmethod
    def _fill(text: str, question: str, options: Sequence[str]) -> str:
        listed = "".join(f"{option} " for option in options)
        return text.format(question=question, lettered=_lettered(options), options=listed)


PROMPTS: dict[str, type[Prompts]] = {"question": QuestionPrompts, "event": EventPrompts, "template": TemplatePrompts}


def moment_prompt(query: str) -> str:
    """The Localizer's question about a moment query (QVHighlights); a full stop is added where it is missing."""
    sentence = query if query.endswith(".") else f"{query}."
    return f"Question: {sentence} Option A: yes. Option B: no. {_LOCALIZE}"


def open_prompt(text: str) -> str:
    """The Localizer's question where there are no options: about a question, or about a sentence as a moment query.

    The paper asks neither of an open question; its wording without the options is this project's.
    """
    text = text.strip()
    return f"Question: {text} {_LOCALIZE}" if text.endswith("?") else moment_prompt(text)
