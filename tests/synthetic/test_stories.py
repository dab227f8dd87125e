"""Stories and their questions: each right answer is found again from the story's shots alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.data.sampling import uniform_indices
from sevila.metrics.keyframes import true_positions
from sevila.synthetic.stories import (
    BUSY,
    CALM,
    COLOURS,
    EFFECTS,
    GROUNDS,
    OPTIONS,
    SHOTS,
    THINGS,
    Asked,
    Cast,
    Event,
    Scene,
    Story,
    ask,
    ask_more,
    moment_queries,
    tell,
)
from sevila.synthetic.world import FPS, LENGTH, seeded, window

HUGE = 10**40
seeds = st.integers(-HUGE, HUGE)
casts = st.sampled_from((BUSY, CALM))


@dataclass(frozen=True)
class Seen:
    """A run of the same scene in a video, read off its shots."""

    scene: Scene
    first: int
    last: int


def read(shots: tuple[Scene, ...]) -> list[Seen]:
    """The runs of shots that are one scene, in order, empty ground left out."""
    runs: list[Seen] = []
    for place, scene in enumerate(shots):
        if runs and runs[-1].scene is scene:
            runs[-1] = Seen(scene, runs[-1].first, place)
        else:
            runs.append(Seen(scene, place, place))
    return [run for run in runs if run.scene.action != "empty"]


def of(runs: list[Seen], name: str) -> list[Seen]:
    return [run for run in runs if run.scene.actor and " ".join(run.scene.actor) == name]


def solve(question: str, runs: list[Seen]) -> tuple[str, list[Seen]]:
    """The answer to a question, by its words, and the runs that one must see to know it."""
    words = question.split()
    if question.startswith("what does the ") and words[-1] == "hold":
        (run,) = of(runs, " ".join(words[3:5]))
        return run.scene.thing, [run]
    if question.startswith("what is the color of the one that holds the "):
        (run,) = [run for run in runs if run.scene.action == "holds" and run.scene.thing == words[-1]]
        return run.scene.actor[0], [run]
    if question.startswith("where is the "):
        (run,) = of(runs, " ".join(words[3:]))
        return run.scene.ground, [run]
    if question.startswith("why does the "):
        line, effect = of(runs, " ".join(words[3:5])), EFFECTS[words[5]]
        (at,) = [i for i, run in enumerate(line) if run.scene.action == effect]
        return f"the {line[at - 1].scene.thing}", [line[at - 1], line[at]]
    order, known = words[6], words[8]
    line = of(runs, " ".join(words[3:5]))
    (at,) = [i for i, run in enumerate(line) if run.scene.thing == known]
    sought = at + {"after": 1, "before": -1}[order]
    assert sought >= 0
    return line[sought].scene.thing, [line[min(at, sought)], line[max(at, sought)]]


def span(event: Event | Seen) -> tuple[int, int]:
    return event.first, event.last


@given(seeds, casts)
def test_a_story_is_consistent(seed: int, cast: Cast) -> None:
    story = tell(seeded(seed), cast)
    assert len(story.shots) == SHOTS == 32
    runs = read(story.shots)
    assert [(run.scene, *span(run)) for run in runs] == [(e.scene, *span(e)) for e in story.events]
    held = [run.scene.thing for run in runs if run.scene.thing]
    assert len(set(held)) == len(held)
    assert sorted(story.shown_things) == sorted(held)
    assert sum(scene.action == "empty" for scene in story.shots) >= 4
    assert all(1 <= run.last - run.first + 1 <= len(cast.lengths) for run in runs)
    assert len(story.plain) == cast.plain
    assert len(story.temporal) >= cast.temporal and len(story.causal) >= cast.causal
    assert len(story.temporal) + len(story.causal) == cast.temporal + cast.causal + cast.either
    actors = [{e.scene.actor for e in line} for line in (*story.plain, *story.temporal, *story.causal)]
    assert all(len(names) == 1 for names in actors) and len(set().union(*actors)) == len(actors)
    for line in (*story.plain, *story.temporal, *story.causal):
        assert list(line) == [e for e in story.events if e.scene.actor == line[0].scene.actor]
        assert all(a.last < b.first for a, b in pairwise(line))
    assert all(len(line) == 1 for line in story.plain) and all(len(line) in (2, 3) for line in story.temporal)
    for line in story.causal:
        assert line[0].scene.action == "holds" and line[1].scene.action in EFFECTS.values()
        assert [e.scene.action for e in line[2:]] in ([], ["holds"])


@given(seeds)
def test_every_answer_is_right_and_no_other_option_is(seed: int) -> None:
    rng = seeded(seed)
    story = tell(rng)
    asked = ask_more(rng, story)
    runs = read(story.shots)
    assert len({q.question for q in asked}) == len(asked)
    for q in asked:
        assert len(q.options) == len(set(q.options)) == OPTIONS == 5
        answer, needed = solve(q.question, runs)
        assert q.options[q.answer] == answer
        assert [span(event) for event in q.needed] == [span(run) for run in needed]
        assert set(q.telling) <= set(q.needed)
        assert all(answer.removeprefix("the ") in event.scene.words for event in q.telling)


@given(seeds)
def test_options_come_from_the_answers_kind_and_hold_the_trap(seed: int) -> None:
    rng = seeded(seed)
    story = tell(rng)
    lines = {line[0].scene.actor: line for line in (*story.temporal, *story.causal)}
    for q in ask_more(rng, story):
        words = {option.removeprefix("the ") for option in q.options}
        assert words <= set({"colour": COLOURS, "ground": GROUNDS}.get(q.family, THINGS))
        assert q.qtype == {"after": "temporal", "before": "temporal", "why": "causal"}.get(q.family, "descriptive")
        if q.qtype == "descriptive":
            continue
        held = {e.scene.thing for e in lines[q.needed[0].scene.actor] if e.scene.thing}
        named = {word for word in q.question.split() if word in THINGS}
        assert words & held == held - named  # every other thing of the same actor is there to mislead
        assert not words & named


@pytest.mark.parametrize(
    "asks, families",
    [(ask, {"hold", "after", "before", "why"}), (ask_more, {"hold", "colour", "ground", "after", "before", "why"})],
)
def test_every_family_occurs_and_answers_take_every_place(
    asks: Callable[[Random, Story], list[Asked]], families: set[str]
) -> None:
    asked: list[Asked] = []
    for seed in range(60):
        rng = Random(seed)
        asked += asks(rng, tell(rng))
    assert {q.family for q in asked} == families
    share = [sum(q.answer == place for q in asked) / len(asked) for place in range(OPTIONS)]
    assert min(share) > 0.14 and max(share) < 0.26


@given(seeds, casts)
def test_moment_queries_hold_in_one_run_each(seed: int, cast: Cast) -> None:
    rng = seeded(seed)
    story = tell(rng, cast)
    queries = moment_queries(rng, story)
    runs = read(story.shots)
    assert [span(event) for _, event in queries] == [span(run) for run in runs if run.scene.actor]
    for query, event in queries:
        fitting = [
            run
            for run in runs
            if run.scene.actor
            and (
                run.scene.sentence.startswith(query)
                or (query.endswith(" is held") and query == f"a {run.scene.thing} is held")
            )
        ]
        assert [span(run) for run in fitting] == [span(event)]


@given(seeds)
def test_the_32_sampled_frames_are_the_shots_and_windows_hold_the_needed_ones(seed: int) -> None:
    rng = seeded(seed)
    story = tell(rng)
    indices = uniform_indices(LENGTH, FPS, SHOTS)
    assert [index * SHOTS // LENGTH for index in indices] == list(range(SHOTS))
    times = [index / FPS for index in indices]
    for q in ask(rng, story):
        _, needed = solve(q.question, read(story.shots))
        shots = [shot for run in needed for shot in range(run.first, run.last + 1)]
        assert true_positions(times, [window(event) for event in q.needed]) == shots


def test_a_story_is_a_function_of_its_generator() -> None:
    def told(seed: int) -> tuple[Story, list[Asked]]:
        rng = seeded(seed, "x")
        story = tell(rng)
        return story, ask(rng, story)

    assert told(-3) == told(-3) and told(-3) != told(3)
    assert seeded(1, "a", 2).random() != seeded(1, "a", 3).random()
