"""The words of the drawn world, and the scene that a frame shows.

A scene is one actor (a colour and a shape) doing something with at most one thing, on a side of a ground.
Everything else speaks through it: `draw` paints it, `stories` strings scenes into videos and questions, and
the tiny backbone learns to read it back as six words, one soft token each.
"""

from __future__ import annotations

from dataclasses import dataclass

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
