"""Prompts in a wording of one's own."""

from __future__ import annotations

import pytest

from sevila.config import load
from sevila.errors import UserError
from sevila.model.prompts import PROMPTS, QuestionPrompts, TemplatePrompts
from sevila.schema import named


def test_the_default_template_is_the_papers_wording() -> None:
    asked = "what is {this}?", ["a {cup}.", "a key."]
    ours, theirs = TemplatePrompts(), QuestionPrompts()
    assert ours.answer(*asked) == theirs.answer(*asked)
    assert ours.localize(*asked) == theirs.localize(*asked)


def test_a_template_is_filled() -> None:
    prompts = PROMPTS["template"](answers="{{x}} {question} {lettered}", localizes="{options}| {question}")
    assert prompts.answer("why", ["a", "b"]) == "{x} why Option A: a Option B: b"
    assert prompts.localize("why", ["a", "b"]) == "a b | why"


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("information_needed", "Does the frame have the information needed to answer the question correctly?"),
        (
            "necessary_information",
            "Does the provided frame contain the necessary information to accurately answer the given question?",
        ),
    ],
)
def test_the_other_prompts_of_table_16(name: str, instruction: str) -> None:
    """They differ from the default in the instruction alone."""
    asked = "what is it?", ["a cup.", "a key."]
    prompts = named("prompts", load("eval", [f"prompts={name}"]).prompts, PROMPTS)
    assert prompts.localize(*asked) == f"Question: what is it? Options: (a cup. a key. ) {instruction}"
    assert prompts.answer(*asked) == QuestionPrompts().answer(*asked)


@pytest.mark.parametrize(
    ("text", "problem"), [("{choices}", "unknown placeholder {choices}"), ("{question", "expected '}'"), ("{}", "{}")]
)
def test_a_faulty_template_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem.replace("{", r"\{").replace("}", r"\}")) as error:
        TemplatePrompts(localizes=text)
    assert "prompts.localizes" in str(error.value) and "\n" not in str(error.value)
