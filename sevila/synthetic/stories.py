"""The words of the drawn world, the scene that a frame shows, and what happens in a video.

A scene is one actor (a colour and a shape) doing something with at most one thing, on a side of a ground.
Everything else speaks through it: `draw` paints it, stories string scenes into videos and questions, and
the tiny backbone learns to read it back as six words, one soft token each.

A story has `SHOTS` shots. A thread is one actor's own line of events (an event lasts one to three shots):
plain threads hold one thing once, temporal threads hold two or three things in turn, causal threads hold a thing
and later show its effect. Threads are interleaved with shots that answer nothing: actors that just stand, things
that lie about, empty ground. No thing is held twice in a video, so what a wrong moment shows is a wrong option.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "moon")
THINGS = ("cup", "key", "flag", "fish", "hat", "lamp", "bell", "book", "tree", "boat", "bone", "fork")
EFFECTS = {"glow": "glows", "break": "breaks", "shrink": "shrinks", "freeze": "freezes"}
SIDES = ("left", "right")
GROUNDS = ("sand", "sea", "grass", "snow", "night", "brick")

HOLDS, STANDS, LIES, EMPTY = "holds", "stands", "lies", "empty"
NO, ONE, NOTHING = "no", "one", "nothing"  # the words for an absent actor (colour, shape) and an absent thing
ACTIONS = (HOLDS, STANDS, LIES, EMPTY, *EFFECTS.values())

Actor = tuple[str, str]  # colour, shape
ACTORS: tuple[Actor, ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True)
class Scene:
    """What one shot shows. `actor` is None where nobody is there, `thing` None where there is no thing."""

    actor: Actor | None
    action: str
    thing: str | None
    side: str
    ground: str

    @property
    def words(self) -> tuple[str, str, str, str, str, str]:
        """The six words that name the scene: colour, shape, action, thing, side, ground."""
        colour, shape = self.actor or (NO, ONE)
        return colour, shape, self.action, self.thing or NOTHING, self.side, self.ground

    @property
    def sentence(self) -> str:
        """The scene as a caption."""
        subject = " ".join(self.actor) if self.actor else None
        place = f"on the {self.ground}"
        if self.action == EMPTY:
            return f"nothing {place}"
        if self.action == LIES:
            return f"a {self.thing} lies {place}"
        if self.action == HOLDS:
            return f"a {subject} holds a {self.thing} {place}"
        return f"a {subject} {self.action} {place}"


SLOTS = len(Scene(None, EMPTY, None, SIDES[0], GROUNDS[0]).words)


def vocabulary() -> list[str]:
    """Every word the tiny backbone's tokenizer holds whole; anything else falls apart into characters."""
    prompts = (
        "Frame Question Options Option Considering the information presented in frame select correct answer from "
        "options Does within provide necessary details to accurately given question Upon observing provided frames "
        "what is most probable subsequent event predict next"
    )
    wordings = (
        "a an the is are there any does do did what which who whose where why how when of on in at with by one it "
        "hold held holds holding color shape side thing after before because made make happens show shows see seen "
        "picture describe short say word caption this that can you here not or and first last during then next "
        "turn now only still name tell me true was video we Short shown seems look looks option"
    )
    words = [*COLOURS, *SHAPES, *THINGS, *EFFECTS, *ACTIONS, *SIDES, *GROUNDS, NO, ONE, NOTHING, "yes"]
    words += prompts.split() + wordings.split() + list("ABCDEFGHIJ") + [str(i) for i in range(1, 65)]
    return list(dict.fromkeys(words))


# -- stories, and what one can ask about them ---

SHOTS = 32
OPTIONS = 5


@dataclass(frozen=True)
class Event:
    """A scene that lasts from shot `first` to shot `last`, both included."""

    scene: Scene
    first: int
    last: int


@dataclass(frozen=True)
class Asked:
    """A question about a story; `needed` are the events that answer it, `telling` those that show the answer."""

    family: str
    qtype: str
    question: str
    options: tuple[str, ...]
    answer: int
    needed: tuple[Event, ...]
    telling: tuple[Event, ...]


@dataclass(frozen=True)
class Story:
    """The shots of a video in order, and its threads: for each actor the events it appears in, in order."""

    shots: tuple[Scene, ...]
    events: tuple[Event, ...]
    plain: tuple[tuple[Event, ...], ...]
    temporal: tuple[tuple[Event, ...], ...]
    causal: tuple[tuple[Event, ...], ...]

    @property
    def shown_things(self) -> list[str]:
        return [event.scene.thing for event in self.events if event.scene.thing]


@dataclass(frozen=True)
class Cast:
    """How many threads of each kind a story has, and how long its events are (weights of 1, 2, 3, ... shots)."""

    plain: int
    temporal: int
    causal: int
    standing: int  # actors that do nothing else
    lying: int  # things that nobody holds
    lengths: tuple[int, ...]
    either: int = 0  # further threads, temporal or causal by a coin

    @property
    def actors(self) -> int:
        return self.plain + self.temporal + self.causal + self.either + self.standing


# For questions. Those that need two events are a minority: from the event that such a question names alone nobody can
# answer, so that refinement's label is "no", against a language model that sees in it just what the question names.
BUSY = Cast(plain=6, temporal=0, causal=0, standing=2, lying=2, lengths=(45, 40, 15), either=1)
# For moments: everybody is seen once, as queries that ask for more than who and what would need a language model that
# weighs verbs too; the tiny one has only read such sentences about what is there.
CALM = Cast(plain=4, temporal=0, causal=0, standing=2, lying=1, lengths=(0, 5, 25, 30, 25, 15))


def _actors(rng: Random, n: int) -> list[Actor]:
    """n different actors; most share their colour or their shape with an earlier one, so that both must be read."""
    chosen = [rng.choice(ACTORS)]
    while len(chosen) < n:
        colour, shape = rng.choice(chosen)
        near = [a for a in ACTORS if (a[0] == colour) != (a[1] == shape)]
        actor = rng.choice(near if rng.random() < 0.7 else ACTORS)
        if actor not in chosen:
            chosen.append(actor)
    return chosen


def _lengths(rng: Random, n: int, room: int, weights: tuple[int, ...]) -> list[int]:
    """n event lengths in shots that fit into `room` shots."""
    lengths = rng.choices(range(1, len(weights) + 1), weights, k=n)
    while sum(lengths) > room:
        lengths[max(range(n), key=lengths.__getitem__)] -= 1
    return lengths


def tell(rng: Random, cast: Cast = BUSY) -> Story:
    """Draw one story."""
    turns = sum(rng.random() < 0.5 for _ in range(cast.either))
    temporal, causal = cast.temporal + turns, cast.causal + cast.either - turns
    actors = iter(_actors(rng, cast.actors))
    things = rng.sample(THINGS, len(THINGS))

    def scene(actor: Actor | None, action: str, thing: str | None = None) -> Scene:
        return Scene(actor, action, thing, rng.choice(SIDES), rng.choice(GROUNDS))

    threads = [[scene(next(actors), HOLDS, things.pop())] for _ in range(cast.plain)]
    for _ in range(temporal):
        actor = next(actors)
        threads.append([scene(actor, HOLDS, things.pop()) for _ in range(rng.choice((2, 2, 3)))])
    for _ in range(causal):
        actor = next(actors)
        thread = [scene(actor, HOLDS, things.pop()), scene(actor, EFFECTS[rng.choice(list(EFFECTS))])]
        if rng.random() < 0.3:  # another thing once it is over: held, but not the cause
            thread.append(scene(actor, HOLDS, things.pop()))
        threads.append(thread)
    threads += [[scene(actor, STANDS)] for actor in actors]
    threads += [[scene(None, LIES, thing)] for thing in things[: cast.lying]]

    order = [t for t, thread in enumerate(threads) for _ in thread]
    rng.shuffle(order)
    lengths = _lengths(rng, len(order), SHOTS - 4, cast.lengths)
    gaps = sorted(rng.randrange(len(order) + 1) for _ in range(SHOTS - sum(lengths)))  # empty shots

    told: list[list[Event]] = [[] for _ in threads]
    shots: list[Scene] = []
    for place, (t, length) in enumerate(zip(order, lengths, strict=True)):
        shots += [scene(None, EMPTY) for _ in range(gaps.count(place))]
        told[t].append(Event(threads[t][len(told[t])], len(shots), len(shots) + length - 1))
        shots += [told[t][-1].scene] * length
    shots += [scene(None, EMPTY) for _ in range(gaps.count(len(order)))]

    lines = [tuple(line) for line in told]
    events = sorted((event for line in lines for event in line), key=lambda event: event.first)
    first, second, third = cast.plain, cast.plain + temporal, cast.plain + temporal + causal
    speaking = lines[:first], lines[first:second], lines[second:third]
    return Story(tuple(shots), tuple(events), *map(tuple, speaking))


def _with_options(rng: Random, answer: str, wrong: list[str], likely: list[str]) -> tuple[tuple[str, ...], int]:
    """Five options in random order: the answer, up to three wrong ones from `likely`, the rest from `wrong`."""
    likely = [word for word in dict.fromkeys(likely) if word != answer]
    chosen = rng.sample(likely, min(3, len(likely)))
    rest = [word for word in wrong if word != answer and word not in chosen]
    options = [answer, *chosen, *rng.sample(rest, OPTIONS - 1 - len(chosen))]
    rng.shuffle(options)
    return tuple(options), options.index(answer)


def _thing_options(
    rng: Random, story: Story, answer: str, without: str = "", always: str = ""
) -> tuple[tuple[str, ...], int]:
    """Things as options; `without` is named in the question, `always` is the trap that must be among them."""
    wrong = [thing for thing in THINGS if thing != without]
    likely = [thing for thing in story.shown_things if thing != without]
    options, index = _with_options(rng, answer, wrong, likely)
    if always and always not in options:
        swap = rng.choice([i for i in range(OPTIONS) if i != index])
        options = (*options[:swap], always, *options[swap + 1 :])
    return options, index


def _name(event: Event) -> str:
    return " ".join(_actor(event))


def _actor(event: Event) -> Actor:
    return event.scene.actor or (NO, ONE)


def _thing(event: Event) -> str:
    return event.scene.thing or NOTHING


def ask_plain(rng: Random, story: Story, thread: tuple[Event, ...]) -> list[Asked]:
    """Descriptive: what is held. One event answers it."""
    options, answer = _thing_options(rng, story, _thing(thread[0]))
    return [Asked("hold", "descriptive", f"what does the {_name(thread[0])} hold", options, answer, thread, thread)]


def ask_looks(rng: Random, story: Story, thread: tuple[Event, ...]) -> list[Asked]:
    """What colour the holder of a thing has, and where it is."""
    (event,) = thread
    scene = event.scene
    colours = [e.scene.actor[0] for e in story.events if e.scene.actor]
    colour = _with_options(rng, _actor(event)[0], list(COLOURS), colours)
    ground = _with_options(rng, scene.ground, list(GROUNDS), [e.scene.ground for e in story.events])
    whose = f"what is the color of the one that holds the {scene.thing}"
    return [
        Asked("colour", "descriptive", whose, *colour, thread, thread),
        Asked("ground", "descriptive", f"where is the {_name(event)}", *ground, thread, thread),
    ]


def ask_temporal(rng: Random, story: Story, thread: tuple[Event, ...]) -> list[Asked]:
    """What the same actor holds right after, or right before, another thing. Two events answer it."""
    asked = []
    for first, second in pairwise(thread):
        word, known, sought = rng.choice((("after", first, second), ("before", second, first)))
        others = [e.scene.thing for e in thread if e not in (known, sought)]
        trap = others[0] or "" if others else ""
        options, answer = _thing_options(rng, story, _thing(sought), without=_thing(known), always=trap)
        question = f"what does the {_name(sought)} hold {word} the {known.scene.thing}"
        asked.append(Asked(word, "temporal", question, options, answer, (first, second), (sought,)))
    return asked


def ask_causal(rng: Random, story: Story, thread: tuple[Event, ...]) -> list[Asked]:
    """Why an effect came about: the thing held before it. The effect does not show its cause."""
    cause, effect = thread[:2]
    verb = next(verb for verb, action in EFFECTS.items() if action == effect.scene.action)
    trap = thread[2].scene.thing or "" if len(thread) > 2 else ""
    options, answer = _thing_options(rng, story, _thing(cause), always=trap)
    options = tuple(f"the {thing}" for thing in options)
    question = f"why does the {_name(cause)} {verb}"
    return [Asked("why", "causal", question, options, answer, (cause, effect), (cause,))]


def ask(rng: Random, story: Story) -> list[Asked]:
    """All questions about a story that the benchmark asks."""
    asked = [q for thread in story.plain for q in ask_plain(rng, story, thread)]
    return asked + _ask_of_several(rng, story)


def ask_more(rng: Random, story: Story) -> list[Asked]:
    """Those, and questions about looks, which the tiny backbone is taught as text.

    The benchmark does not ask them: every other shot shows the right colour or ground of somebody else, so that an
    answer is right from frames that have nothing to do with the question.
    """
    asked = []
    for thread in story.plain:
        asked += rng.sample([*ask_plain(rng, story, thread), *ask_looks(rng, story, thread)], 2)
    return asked + _ask_of_several(rng, story)


def _ask_of_several(rng: Random, story: Story) -> list[Asked]:
    asked = [q for thread in story.temporal for q in ask_temporal(rng, story, thread)]
    return asked + [q for thread in story.causal for q in ask_causal(rng, story, thread)]


def moment_queries(rng: Random, story: Story) -> list[tuple[str, Event]]:
    """A sentence for every event with an actor, and the event in which it holds."""
    queries = []
    for event in story.events:
        if event.scene.action == HOLDS:
            thing = event.scene.thing
            queries.append((rng.choice((f"a {_name(event)} holds a {thing}", f"a {thing} is held")), event))
        elif event.scene.actor:
            queries.append((f"a {_name(event)} {event.scene.action}", event))
    return queries
