"""Painting scenes: every frame of the drawn world, in any of its visual styles.

Shapes and things are signed distances on a small canvas, so that position, size, tilt, stroke and blur are numbers.
Coordinates: x to the right, y downwards, both -1..1 over the canvas. A `Style` says how the numbers are drawn;
a `Look` holds them for N frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sevila.synthetic.stories import COLOURS, EFFECTS, GROUNDS, SHAPES, SIDES, THINGS, Scene

SIZE = 64  # pixels a side
ACTOR_RADIUS, THING_RADIUS = 0.42, 0.32
SIDE_X = 0.46  # distance of an actor's or a thing's centre from the middle

COLOUR_RGB = {
    "red": (0.86, 0.16, 0.15), "yellow": (0.95, 0.85, 0.16), "green": (0.14, 0.70, 0.24),
    "blue": (0.16, 0.36, 0.92), "purple": (0.66, 0.22, 0.78), "white": (0.96, 0.96, 0.96),
}  # fmt: skip
GROUND_RGB = {
    "sand": (0.80, 0.68, 0.45), "sea": (0.20, 0.52, 0.62), "grass": (0.36, 0.50, 0.20),
    "snow": (0.76, 0.80, 0.86), "night": (0.08, 0.08, 0.16), "brick": (0.50, 0.26, 0.20),
}  # fmt: skip

Distance = Callable[[Tensor, Tensor], Tensor]  # local x, y -> signed distance, negative inside


def _box(x: Tensor, y: Tensor, cx: float, cy: float, hx: float, hy: float) -> Tensor:
    return torch.maximum((x - cx).abs() - hx, (y - cy).abs() - hy)


def _disc(x: Tensor, y: Tensor, cx: float, cy: float, r: float) -> Tensor:
    return torch.hypot(x - cx, y - cy) - r


def _hoop(x: Tensor, y: Tensor, cx: float, cy: float, r: float, width: float) -> Tensor:
    return _disc(x, y, cx, cy, r).abs() - width


def _wedge(x: Tensor, y: Tensor, cx: float, top: float, bottom: float, half: float) -> Tensor:
    """A triangle with its tip at (cx, top) and a base of half-width `half` at y = bottom (upside down if lower)."""
    share = (y - top) / (bottom - top)
    return torch.maximum((x - cx).abs() - half * share, torch.maximum(-share, share - 1) * abs(bottom - top))


def _any(*parts: Tensor) -> Tensor:
    out = parts[0]
    for part in parts[1:]:
        out = torch.minimum(out, part)
    return out


SHAPE_DISTANCE: dict[str, Distance] = {
    "circle": lambda x, y: _disc(x, y, 0, 0, 0.85),
    "square": lambda x, y: _box(x, y, 0, 0, 0.76, 0.76),
    "triangle": lambda x, y: _wedge(x, y, 0, -0.95, 0.75, 0.98),
    "star": lambda x, y: torch.hypot(x, y) - (0.62 + 0.36 * torch.cos(5 * torch.atan2(x, -y))),
    "cross": lambda x, y: _any(_box(x, y, 0, 0, 0.28, 0.95), _box(x, y, 0, 0, 0.95, 0.28)),
    "ring": lambda x, y: _hoop(x, y, 0, 0, 0.68, 0.22),
    "heart": lambda x, y: _any(
        _disc(x, y, -0.42, -0.3, 0.46), _disc(x, y, 0.42, -0.3, 0.46), _wedge(x, y, 0, 0.95, -0.12, 0.86)
    ),
    "moon": lambda x, y: torch.maximum(_disc(x, y, 0, 0, 0.9), -_disc(x, y, 0.48, -0.12, 0.72)),
}
THING_DISTANCE: dict[str, Distance] = {
    "cup": lambda x, y: _any(_box(x, y, -0.2, 0.1, 0.5, 0.65), _hoop(x, y, 0.4, 0.05, 0.36, 0.12)),
    "key": lambda x, y: _any(
        _hoop(x, y, -0.55, 0, 0.3, 0.15),
        _box(x, y, 0.3, 0, 0.62, 0.12),
        _box(x, y, 0.55, 0.25, 0.1, 0.25),
        _box(x, y, 0.85, 0.25, 0.1, 0.25),
    ),
    "flag": lambda x, y: _any(_box(x, y, -0.65, 0, 0.1, 0.95), _box(x, y, 0.1, -0.45, 0.7, 0.42)),
    "fish": lambda x, y: _any(_disc(0.62 * (x + 0.2), y, 0, 0, 0.42), _wedge(y, x, 0, 0.3, 0.95, 0.5)),
    "hat": lambda x, y: _any(_box(x, y, 0, 0.5, 0.95, 0.16), _box(x, y, 0, -0.15, 0.5, 0.55)),
    "lamp": lambda x, y: _any(
        _wedge(x, y, 0, -1.3, 0.0, 0.85).maximum(-0.85 - y),
        _box(x, y, 0, 0.4, 0.09, 0.5),
        _box(x, y, 0, 0.85, 0.45, 0.1),
    ),
    "bell": lambda x, y: _any(
        _disc(x, y, 0, -0.25, 0.52),
        _box(x, y, 0, 0.1, 0.52, 0.35),
        _box(x, y, 0, 0.48, 0.85, 0.12),
        _disc(x, y, 0, 0.75, 0.18),
    ),
    "book": lambda x, y: _any(
        _box(x, y + 0.25 * x.abs(), -0.5, 0.1, 0.4, 0.6), _box(x, y + 0.25 * x.abs(), 0.5, 0.1, 0.4, 0.6)
    ),
    "tree": lambda x, y: _any(_disc(x, y, 0, -0.35, 0.58), _box(x, y, 0, 0.5, 0.14, 0.45)),
    "boat": lambda x, y: _any(_wedge(x, y, 0, 1.7, 0.3, 0.95).maximum(y - 0.8), _wedge(x, y, 0.1, -0.95, 0.15, 0.6)),
    "bone": lambda x, y: _any(
        _box(x, y, 0, 0, 0.6, 0.16), *(_disc(x, y, cx, cy, 0.26) for cx in (-0.68, 0.68) for cy in (-0.22, 0.22))
    ),
    "fork": lambda x, y: _any(
        _box(x, y, 0, 0.45, 0.1, 0.5),
        _box(x, y, 0, 0.0, 0.5, 0.12),
        *(_box(x, y, cx, -0.45, 0.1, 0.5) for cx in (-0.4, 0.0, 0.4)),
    ),
}


@dataclass(frozen=True)
class Look:
    """How N frames are drawn. Shapes [N] unless said otherwise."""

    actor_x: Tensor  # offsets from the side's centre, canvas units
    actor_y: Tensor
    actor_scale: Tensor
    actor_tilt: Tensor  # radians
    thing_x: Tensor
    thing_y: Tensor
    thing_scale: Tensor
    thing_tilt: Tensor
    colour_shift: Tensor  # [N, 3], added to the actor's colour
    ground_shift: Tensor  # [N, 3]
    thing_grey: Tensor  # brightness of a thing
    hollow: Tensor  # 0 = filled, 1 = only a stroke of the colour
    stripes: Tensor  # depth of stripes across an actor
    texture: Tensor  # depth of the ground's texture
    frequency: Tensor  # its waves a canvas
    angle: Tensor  # its direction, radians
    phase: Tensor
    noise: Tensor  # standard deviation of the grain

    def take(self, rows: Tensor) -> Look:
        """The looks of some frames, by index."""
        return Look(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class Style:
    """A way of drawing: ranges from which a look is drawn (uniform from -r to r, or from low to high)."""

    name: str
    wander: float = 0.07  # positions
    scale: tuple[float, float] = (0.85, 1.1)
    tilt: float = 0.2
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)  # a constant added to every actor's colour
    colour: float = 0.06
    ground: float = 0.05
    thing: tuple[float, float] = (0.75, 1.0)
    hollow: tuple[float, float] = (0.0, 0.0)
    stripes: tuple[float, float] = (0.0, 0.0)
    texture: tuple[float, float] = (0.0, 0.04)
    frequency: tuple[float, float] = (2.0, 6.0)
    noise: tuple[float, float] = (0.0, 0.02)

    def look(self, n: int, generator: torch.Generator) -> Look:
        """Draw the looks of n frames."""

        def spread(reach: float, *shape: int) -> Tensor:
            return reach * (2 * torch.rand(n, *shape, generator=generator) - 1)

        def between(bounds: tuple[float, float]) -> Tensor:
            return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(n, generator=generator)

        return Look(
            actor_x=spread(self.wander), actor_y=spread(2 * self.wander), actor_scale=between(self.scale),
            actor_tilt=spread(self.tilt), thing_x=spread(self.wander), thing_y=spread(2 * self.wander),
            thing_scale=between(self.scale), thing_tilt=spread(self.tilt),
            colour_shift=spread(self.colour, 3) + torch.tensor(self.tint), ground_shift=spread(self.ground, 3),
            thing_grey=between(self.thing), hollow=between(self.hollow), stripes=between(self.stripes),
            texture=between(self.texture), frequency=between(self.frequency), angle=spread(math.pi),
            phase=spread(math.pi), noise=between(self.noise),
        )  # fmt: skip


def _cover(distance: Tensor, pixel: Tensor | float) -> Tensor:
    """Signed distance -> coverage 0..1 with one soft pixel at the rim."""
    return (0.5 - distance / pixel).clamp(0, 1)


def _distances(names: Sequence[str | None], table: dict[str, Distance], x: Tensor, y: Tensor) -> Tensor:
    """Signed distance of each frame's named figure at local coordinates x, y [N, S, S]; far outside for None."""
    out = torch.full_like(x, 9.0)
    for name in sorted({name for name in names if name}):
        rows = torch.tensor([i for i, other in enumerate(names) if other == name])
        out[rows] = table[name](x[rows], y[rows])
    return out


def _local(centre_x: Tensor, centre_y: Tensor, radius: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
    """Canvas -> coordinates of a figure: its centre at 0, its radius 1, its tilt undone. [N] -> two of [N, S, S]."""
    axis = (torch.arange(SIZE) + 0.5) * (2 / SIZE) - 1
    dx = (axis[None, None, :] - centre_x[:, None, None]) / radius[:, None, None]
    dy = (axis[None, :, None] - centre_y[:, None, None]) / radius[:, None, None]
    cos, sin = tilt.cos()[:, None, None], tilt.sin()[:, None, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def _ground(scenes: Sequence[Scene], look: Look) -> Tensor:
    """The empty ground with its texture, [N, 3, S, S]."""
    base = torch.tensor([GROUND_RGB[scene.ground] for scene in scenes]) + look.ground_shift
    zeros = torch.zeros(len(scenes))
    x, y = _local(zeros, zeros, torch.ones(len(scenes)), look.angle)
    turns = math.pi * look.frequency[:, None, None]
    wave = torch.sin(turns * x + look.phase[:, None, None]) * torch.sin(0.7 * turns * y - look.phase[:, None, None])
    return base[:, :, None, None] + (look.texture[:, None, None] * wave)[:, None]


def _blend(image: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    return image + cover[:, None] * (colour[:, :, None, None] - image)


def _actor(image: Tensor, scenes: Sequence[Scene], look: Look) -> Tensor:
    """Paint the actors, with what their effects do to them."""
    n = len(scenes)
    acts = [scene.action for scene in scenes]

    def doing(verb: str) -> Tensor:
        return torch.tensor([float(act == EFFECTS[verb]) for act in acts])

    side = torch.tensor([-1.0 if scene.side == SIDES[0] else 1.0 for scene in scenes])
    radius = ACTOR_RADIUS * look.actor_scale * (1 - 0.55 * doing("shrink"))
    x, y = _local(SIDE_X * side + look.actor_x, look.actor_y, radius, look.actor_tilt)
    pixel = (2 / SIZE / radius)[:, None, None]
    broken = doing("break")[:, None, None]
    shifted = y + 0.22 * broken * x.sign()  # the two halves slide apart
    names = [scene.actor[1] if scene.actor else None for scene in scenes]
    distance = _distances(names, SHAPE_DISTANCE, x, shifted)
    gap = (x + 0.25 * torch.sin(6 * y)).abs() - 0.13
    distance = torch.where(broken > 0, torch.maximum(distance, -gap), distance)

    present = torch.tensor([float(scene.actor is not None) for scene in scenes])
    reach = torch.hypot(x, y)
    rays = 0.6 + 0.4 * torch.cos(8 * torch.atan2(y, x))
    halo = (1.7 - reach).clamp(0, 1) * rays * (doing("glow") * present)[:, None, None]
    image = _blend(image, torch.tensor([[1.0, 0.95, 0.6]]).expand(n, 3), 0.9 * halo)

    colour = torch.tensor([COLOUR_RGB[scene.actor[0]] if scene.actor else (0.0, 0.0, 0.0) for scene in scenes])
    image = _blend(image, torch.zeros(n, 3), _cover(distance - 0.16, pixel))  # a dark rim keeps white off snow
    cover = _cover(distance, pixel)
    inside = _cover(distance + 0.3, pixel)
    cover = cover * (1 - look.hollow[:, None, None] * inside)
    cover = cover * (1 - look.stripes[:, None, None] * (0.5 + 0.5 * torch.sign(torch.sin(9 * (x + y)))))
    image = _blend(image, colour + look.colour_shift, cover)

    ice = (torch.maximum(x.abs(), y.abs()) - 1.12).abs() - 0.14
    frozen = _cover(ice, pixel) * (doing("freeze") * present)[:, None, None]
    return _blend(image, torch.tensor([[0.6, 0.95, 1.0]]).expand(n, 3), frozen)


def _thing(image: Tensor, scenes: Sequence[Scene], look: Look) -> Tensor:
    """Paint the things: beside their holder, or lying on their own side."""
    side = torch.tensor([-1.0 if scene.side == SIDES[0] else 1.0 for scene in scenes])
    held = torch.tensor([-1.0 if scene.actor else 1.0 for scene in scenes])
    radius = THING_RADIUS * look.thing_scale
    x, y = _local(SIDE_X * side * held + look.thing_x, look.thing_y, radius, look.thing_tilt)
    pixel = (2 / SIZE / radius)[:, None, None]
    distance = _distances([scene.thing for scene in scenes], THING_DISTANCE, x, y)
    image = _blend(image, torch.zeros(len(scenes), 3), _cover(distance - 0.2, pixel))
    grey = look.thing_grey[:, None] * torch.tensor([[1.0, 0.97, 0.9]])
    return _blend(image, grey, _cover(distance, pixel))


def paint(scenes: Sequence[Scene], look: Look, generator: torch.Generator) -> Tensor:
    """Paint one frame a scene: uint8 [N, 3, SIZE, SIZE]."""
    image = _thing(_actor(_ground(scenes, look), scenes, look), scenes, look)
    image = image + look.noise[:, None, None, None] * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


# What the backbone reads; what its ViT has seen besides; what moment queries are about; the benchmark, which goes
# further the same way, so that pre-training is of use and leaves something to refine.
PLAIN = Style("plain", tilt=0.25, colour=0.08, thing=(0.6, 1.0), texture=(0.0, 0.08), noise=(0.0, 0.03))
WIDE = Style(
    "wide", wander=0.08, scale=(0.8, 1.15), tilt=0.35, colour=0.2, ground=0.1, thing=(0.4, 1.0), hollow=(0.0, 0.5),
    stripes=(0.0, 0.4), texture=(0.0, 0.14), frequency=(2.0, 9.0), noise=(0.0, 0.05),
)  # fmt: skip
COLLAGE = Style(
    "collage", wander=0.08, tilt=0.25, tint=(0.0, 0.19, -0.24), colour=0.1, ground=0.06, thing=(0.51, 0.86),
    hollow=(0.03, 0.42), stripes=(0.0, 0.4), texture=(0.05, 0.12), frequency=(2.0, 8.0), noise=(0.01, 0.04),
)  # fmt: skip
SKETCH = Style(
    "sketch", wander=0.08, tilt=0.3, tint=(0.0, 0.4, -0.46), colour=0.1, ground=0.06, thing=(0.4, 0.7),
    hollow=(0.3, 0.8), stripes=(0.0, 0.5), texture=(0.06, 0.14), frequency=(3.0, 9.0), noise=(0.02, 0.05),
)  # fmt: skip

assert set(SHAPE_DISTANCE) == set(SHAPES) and set(THING_DISTANCE) == set(THINGS)
assert set(COLOUR_RGB) == set(COLOURS) and set(GROUND_RGB) == set(GROUNDS)
