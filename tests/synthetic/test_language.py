"""The words of the drawn world."""

from __future__ import annotations

import re
from random import Random

from sevila.model.prompts import EventPrompts, QuestionPrompts, moment_prompt
from sevila.synthetic.stories import ACTORS, SLOTS, Scene, ask, moment_queries, tell, vocabulary


def test_a_scene_in_words_and_as_a_sentence() -> None:
    holds = Scene(("red", "star"), "holds", "cup", "left", "sand")
    assert holds.words == ("red", "star", "holds", "cup", "left", "sand")
    assert holds.sentence == "a red star holds a cup on the sand"
    glows = Scene(("white", "moon"), "glows", None, "right", "sea")
    assert glows.words == ("white", "moon", "glows", "nothing", "right", "sea")
    assert glows.sentence == "a white moon glows on the sea"
    lies = Scene(None, "lies", "fork", "right", "brick")
    assert lies.words == ("no", "one", "lies", "fork", "right", "brick")
    assert lies.sentence == "a fork lies on the brick"
    empty = Scene(None, "empty", None, "left", "night")
    assert empty.words == ("no", "one", "empty", "nothing", "left", "night")
    assert empty.sentence == "nothing on the night"
    assert SLOTS == 6 and len(set(ACTORS)) == len(ACTORS) == 48


def test_the_vocabulary_holds_every_word_of_questions_prompts_and_scenes() -> None:
    words = vocabulary()
    assert len(set(words)) == len(words)
    texts = []
    for seed in range(40):
        rng = Random(seed)
        story = tell(rng)
        texts += [" ".join(scene.words) + " " + scene.sentence for scene in story.shots]
        for asked in ask(rng, story):
            texts += [QuestionPrompts().answer(asked.question, asked.options)]
            texts += [QuestionPrompts().localize(asked.question, asked.options)]
            texts += [EventPrompts().answer("", asked.options), EventPrompts().localize("", asked.options)]
        texts += [moment_prompt(query) for query, _ in moment_queries(rng, story)]
    used = set(re.findall(r"[A-Za-z]+", " ".join(texts)))
    assert used - set(words) == set()
