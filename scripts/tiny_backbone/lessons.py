"""What the tiny language model reads while it is made: frames as words, and something asked about them.

A lesson is a list of scenes (each stands where a frame's soft tokens will stand), a text and an answer. The model
meets every question family of the world as multiple choice and as an open question, and both of SeViLA's prompts.
It never meets the Localizer's prompt with a benchmark family (`hold`, `colour`, `ground`, `before`, `after`, `why`)
or with a moment query that says what somebody does: that is left to the Localizer's own training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sevila.model.prompts import QuestionPrompts, letters, moment_prompt, target
from sevila.synthetic import stories
from sevila.synthetic.stories import ACTORS, EMPTY, Asked, Cast, Scene, Story, ask_more, tell

PROMPTS = QuestionPrompts()
CAST = Cast(plain=2, temporal=2, causal=2, standing=2, lying=2, lengths=(45, 40, 15))  # all kinds alike
FRAMES = (1, 2, 3, 4, 6, 8)  # numbers of frames in an Answerer's lesson, and how often
FRAMES_WEIGHTS = (22, 18, 14, 32, 7, 7)
HARD = {"colour": 3, "ground": 3}  # families that are learned last, and how often they are asked (the others: 1)


@dataclass(frozen=True)
class Lesson:
    """`numbered` frames stand behind "Frame 1: ", "Frame 2: ", ...; a lone one behind "Frame: "."""

    kind: str
    scenes: tuple[Scene, ...]
    numbered: bool
    text: str
    answer: str


def _punctuated(question: str, options: tuple[str, ...]) -> tuple[str, list[str]]:
    """As the NExT-QA reader hands them over."""
    return f"{question}?", [f"{option}." for option in options]


def pick_shots(rng: Random, story: Story, asked: Asked, k: int) -> tuple[Scene, ...]:
    """k scenes in time order that hold what tells the answer, most often all that is needed, and others."""
    events = list(asked.telling)
    events += [e for e in asked.needed if e not in events and rng.random() < 0.9]
    chosen = {rng.randint(event.first, event.last) for event in events[:k]}
    busy = [i for i, scene in enumerate(story.shots) if scene.action != EMPTY]
    while len(chosen) < k:
        chosen.add(rng.choice(busy) if rng.random() < 0.7 else rng.randrange(len(story.shots)))
    return tuple(story.shots[i] for i in sorted(chosen))


def _fewer(rng: Random, asked: Asked) -> tuple[tuple[str, ...], int]:
    """The options, now and then only some of them."""
    if rng.random() < 0.75:
        return asked.options, asked.answer
    wrong = [o for i, o in enumerate(asked.options) if i != asked.answer]
    options = [asked.options[asked.answer], *rng.sample(wrong, rng.randint(1, len(wrong)))]
    rng.shuffle(options)
    return tuple(options), options.index(asked.options[asked.answer])


def _one(rng: Random, story: Story) -> Asked:
    """One of the questions about a story."""
    asked = ask_more(rng, story)
    return rng.choices(asked, [HARD.get(question.family, 1) for question in asked])[0]


def choose(rng: Random, story: Story, k: int) -> Lesson:
    """A benchmark question as multiple choice: say the letter."""
    asked = _one(rng, story)
    options, answer = _fewer(rng, asked)
    text = PROMPTS.answer(*_punctuated(asked.question, options))
    numbered = k > 1 or rng.random() < 0.5  # a frame asked alone stands behind plain "Frame: "
    return Lesson(f"letter/{asked.family}", pick_shots(rng, story, asked, k), numbered, text, target(answer))


def look_up(rng: Random, story: Story, k: int) -> Lesson:
    """Which letter has the option that is named? Or: which option has the letter? No frame is needed for it."""
    asked = rng.choice(ask_more(rng, story))
    options, _ = _fewer(rng, asked)
    index = rng.randrange(len(options))
    scenes = tuple(rng.choice(story.shots) for _ in range(k))
    if rng.random() < 0.3:
        text = PROMPTS.answer(f"what is option {letters(len(options))[index]}?", [f"{o}." for o in options])
        return Lesson("look_up/option", scenes, True, text, options[index])
    text = PROMPTS.answer(f"which option is {options[index]}?", [f"{o}." for o in options])
    return Lesson("look_up/letter", scenes, True, text, target(index))


def say(rng: Random, story: Story, k: int) -> Lesson:
    """The same question without options: say the word."""
    asked = _one(rng, story)
    text = f"Question: {asked.question}? {rng.choice(('Short answer:', 'answer in one word.', 'say it.'))}"
    answer = asked.options[asked.answer]
    return Lesson(f"word/{asked.family}", pick_shots(rng, story, asked, k), True, text, answer)


def _simple(rng: Random, scene: Scene) -> tuple[str, tuple[str, ...], str, str]:
    """A simple question that `scene` answers: (family, options, question, answer)."""
    kinds = []
    if scene.actor:
        name = " ".join(scene.actor)
        kinds.append(("side", stories.SIDES, f"which side is the {name} on", scene.side))
        kinds.append(("action", stories.ACTIONS, f"what does the {name} do", scene.action))
        kinds.append(("shade", stories.COLOURS, f"what is the color of the {scene.actor[1]}", scene.actor[0]))
        kinds.append(("form", stories.SHAPES, f"what shape is the {scene.actor[0]} one", scene.actor[1]))
    if scene.thing:
        kinds.append(("thing_side", stories.SIDES, f"which side is the {scene.thing} on", scene.side))
    family, words, question, answer = rng.choice(kinds)
    wrong = rng.sample([w for w in words if w != answer], min(len(words) - 1, rng.randint(1, 4)))
    options = [answer, *wrong]
    rng.shuffle(options)
    return family, tuple(options), question, answer


def _speaking(rng: Random, story: Story) -> Scene:
    """A scene that shows somebody or something."""
    return rng.choice(story.events).scene


def _silent(rng: Random, story: Story, about: Scene, family: str) -> Scene | None:
    """A scene of the same story in which a simple question about `about` has no answer, None if none is found."""

    def answers(scene: Scene) -> bool:
        if family == "thing_side":
            return scene.thing == about.thing
        if family == "shade":
            return scene.actor is not None and scene.actor[1] == about.actor[1]
        if family == "form":
            return scene.actor is not None and scene.actor[0] == about.actor[0]
        return scene.actor == about.actor

    others = [scene for scene in story.shots if not answers(scene)]
    near = [s for s in others if s.actor and about.actor and set(s.actor) & set(about.actor)]
    pool = near if near and rng.random() < 0.6 else others
    return rng.choice(pool) if pool else None


def choose_simple(rng: Random, story: Story, k: int) -> Lesson:
    scene = _speaking(rng, story)
    family, options, question, answer = _simple(rng, scene)
    others = [s for s in (_silent(rng, story, scene, family) for _ in range(k - 1)) if s]
    scenes = [scene, *others]
    rng.shuffle(scenes)
    if rng.random() < 0.4:
        return Lesson(f"word/{family}", tuple(scenes), True, f"Question: {question}? Short answer:", answer)
    text = PROMPTS.answer(*_punctuated(question, options))
    return Lesson(f"letter/{family}", tuple(scenes), True, text, target(options.index(answer)))


def relevant(rng: Random, story: Story, _: int) -> Lesson:
    """The Localizer's prompt with a simple question: is the frame enough to answer it?"""
    about = _speaking(rng, story)
    family, options, question, _answer = _simple(rng, about)
    scene, answer = (about, "yes") if rng.random() < 0.5 else (_silent(rng, story, about, family), "no")
    if scene is None:
        return relevant(rng, story, 1)
    text = PROMPTS.localize(*_punctuated(question, options))
    return Lesson(f"relevant/{family}", (scene,), False, text, answer)


def relevant_statement(rng: Random, story: Story, _: int) -> Lesson:
    """The wording of the moment queries, about what is there, never about what is done."""
    about = _speaking(rng, story)
    family = "actor" if about.actor and (not about.thing or rng.random() < 0.6) else "thing_side"
    name = " ".join(about.actor) if family == "actor" else about.thing
    scene, answer = (about, "yes") if rng.random() < 0.5 else (_silent(rng, story, about, family), "no")
    if scene is None:
        return relevant_statement(rng, story, 1)
    query = rng.choice((f"there is a {name}", f"a {name}", f"this is a {name}", f"we see a {name}"))
    return Lesson(f"statement/{family}", (scene,), False, moment_prompt(query), answer)


def yes_or_no(rng: Random, story: Story, k: int) -> Lesson:
    """Plain yes/no questions in many wordings, about one or several frames."""
    about = _speaking(rng, story)
    scenes = [about, *(rng.choice(story.shots) for _ in range(k - 1))]
    actor = about.actor or rng.choice(ACTORS)
    if rng.random() < 0.5:
        actor = rng.choice([a for a in ACTORS if set(a) & set(actor)])
    name = " ".join(actor)
    if about.thing and rng.random() < 0.5:
        thing = about.thing if rng.random() < 0.6 else rng.choice(stories.THINGS)
        if about.actor:
            question = rng.choice((f"does the {name} hold the {thing}", f"is the {thing} held by the {name}"))
            true = any(s.actor == actor and s.thing == thing for s in scenes)
        else:
            question = rng.choice((f"is there a {thing}", f"can you see a {thing} here"))
            true = any(s.thing == thing for s in scenes)
    else:
        question = rng.choice((f"is there a {name}", f"can you see a {name} here", f"does the video show a {name}"))
        true = any(s.actor == actor for s in scenes)
    rng.shuffle(scenes)
    text = f"Question: {question}? {rng.choice(('Short answer:', 'yes or no', 'is this true'))}"
    return Lesson("yes_or_no", tuple(scenes), True, text, "yes" if true else "no")


def caption(rng: Random, story: Story, _: int) -> Lesson:
    scene = _speaking(rng, story) if rng.random() < 0.9 else rng.choice(story.shots)
    text = rng.choice(("describe the frame.", "a picture of", "what is shown?", "what happens in the frame?"))
    return Lesson("caption", (scene,), False, text, scene.sentence)


Maker = Callable[[Random, Story, int], Lesson]
READING: tuple[tuple[Maker, int], ...] = ((choose, 50), (say, 22), (choose_simple, 10), (yes_or_no, 8), (look_up, 10))
LOOKING: tuple[tuple[Maker, int], ...] = (
    (relevant, 45),
    (relevant_statement, 15),
    (caption, 20),
    (yes_or_no, 10),
    (say, 10),
)


def exam_seed(seed: int, number: int) -> Random:
    """Draws what no training step draws. Seeded by a text: Python seeds -n as it seeds n, a step's own number."""
    return Random(f"exam:{seed}:{number}")


def batch(rng: Random, size: int, per_story: int = 6) -> list[Lesson]:
    """Lessons of one length: two thirds of the batches read numbered frames, one third looks at a lone frame."""
    makers, k = (READING, rng.choices(FRAMES, FRAMES_WEIGHTS)[0]) if rng.random() < 0.7 else (LOOKING, 1)
    lessons: list[Lesson] = []
    while len(lessons) < size:
        story = tell(rng, CAST)
        for make in rng.choices([m for m, _ in makers], [w for _, w in makers], k=per_story):
            lessons.append(make(rng, story, k))
    return lessons[:size]
