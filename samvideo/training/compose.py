"""What a generated clip shows: which pictures and objects, how each moves, what covers or replaces them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from samvideo.training.library import Floats, Library, Shot
from samvideo.training.render import Layer, Placement
from samvideo.types import BoolArray

LARGEST_ZOOM = 3.0  # pixels of the output for one of a picture: larger ones show nothing new
BEND_CELLS = 7  # of the coarse grid that bends a picture
SMALLER = 1.5  # exponent of a uniform number that chooses a size between its bounds, on a log scale
SEEN = 40  # pixels in its picture that an object has at least to be chosen


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of clips, and how often things happen in them: probabilities of a clip.

    Attributes:
        side: width and height of the frames in pixels, a multiple of 8.
        length: frames of a clip.
        batch: clips of a batch.
        objects: object slots of a clip.
        smallest, largest: bounds of the longer side of the target on the first frame, as shares of `side`; larger
            than the lower one where its picture would not fill the frame otherwise.
        still: the target is from a still picture, if there are clips too.
        apart: it is cut out and moves over another picture.
        second: another annotated object of the picture has a slot.
        rival: another object is pasted, from the same set or anywhere.
        twin: a rival is the target itself, once more.
        labelled: a rival has a slot, if one is free.
        occluder: an object passes over the target.
        leaves: a target that moves apart, or else the camera, leaves for some frames.
        elsewhere: another scene is shown for some frames.
        bend: pictures and cut-out objects of stills change their form.
        fast: motion is three times as large.
        grey, gamma, blur, motion_blur, noise, compression: of all frames of the clip.
    """

    side: int = 320
    length: int = 4
    batch: int = 8
    objects: int = 2
    smallest: float = 1 / 12
    largest: float = 1.0
    still: float = 0.65
    apart: float = 0.35
    second: float = 0.6
    rival: float = 0.55
    twin: float = 0.35
    labelled: float = 0.65
    occluder: float = 0.25
    leaves: float = 0.25
    elsewhere: float = 0.2
    bend: float = 0.7
    fast: float = 0.25
    grey: float = 0.06
    gamma: float = 0.3
    blur: float = 0.2
    motion_blur: float = 0.06
    noise: float = 0.25
    compression: float = 0.3


@dataclass(frozen=True, eq=False)
class Target:
    """An object of a shot on the frames of a clip.

    Attributes:
        shot: its source.
        number: its id there.
        frames: the frame of the shot for each of the clip; the first shows the object.
    """

    shot: Shot
    number: int
    frames: tuple[int, ...]

    @property
    def box(self) -> Floats:
        """Left, top, right, bottom on the first frame."""
        return self.shot.boxes[self.frames[0], self.number - 1]

    @property
    def path(self) -> Floats:
        """Centre of the box on each frame (T, 2); where it is absent, as on the frame before."""
        boxes = self.shot.boxes[list(self.frames), self.number - 1]
        centres: Floats = (boxes[:, :2] + boxes[:, 2:]) / 2
        for t in range(1, len(centres)):
            if not boxes[t, 2]:
                centres[t] = centres[t - 1]
        return centres


class Chooser:
    """Chooses shots and objects: sets by the square root of their size, so that no large one dominates."""

    def __init__(self, library: Library, rng: np.random.Generator) -> None:
        self.library, self.rng = library, rng

    def shot(self, groups: Mapping[str, Sequence[Shot]], group: str | None = None) -> Shot:
        """Choose a shot of some groups, or of one."""
        if group is None:
            weights = np.sqrt([len(shots) for shots in groups.values()])
            group = str(self.rng.choice(list(groups), p=weights / weights.sum()))
        shots = groups[group]
        return shots[int(self.rng.integers(len(shots)))]

    def target(self, length: int, still: float, *, whole: bool = False, group: str | None = None) -> Target:
        """Choose an object and, of a clip, frames at strides of 1 to 8, forwards or backwards.

        Args:
            length: frames of the clip.
            still: probability of a still, if there are clips too.
            whole: prefer an object that the edge of its picture does not cut off.
            group: of stills and clips that it is from, or None.
        """
        stills, clips = self.library.stills, self.library.clips
        groups = self.library.groups if group else stills if stills and (not clips or self.chance(still)) else clips
        for _ in range(20):
            shot = self.shot(groups, group)
            seen = shot.areas >= SEEN
            if whole:
                seen &= ~shot.cut
            places = np.argwhere(seen)
            if not len(places):
                continue
            start, row = self.rng.choice(places)
            return Target(shot, int(row) + 1, self._frames(shot, int(start), length))
        return self.scene(length, groups)  # hardly any shot has an object that is large enough

    def scene(self, length: int, groups: Mapping[str, Sequence[Shot]] | None = None) -> Target:
        """Choose any picture, with any of its objects."""
        shot = self.shot(groups or self.library.groups)
        start, row = self.rng.choice(np.argwhere(shot.areas))
        return Target(shot, int(row) + 1, self._frames(shot, int(start), length))

    def chance(self, probability: float) -> bool:
        """Return whether something happens."""
        return bool(self.rng.random() < probability)

    def _frames(self, shot: Shot, start: int, length: int) -> tuple[int, ...]:
        if len(shot) == 1:
            return (0,) * length
        stride = int(np.exp(self.rng.uniform(0, np.log(8.99))))
        step = stride if self.chance(0.5) else -stride
        places = start + step * np.arange(length)
        last = len(shot) - 1
        places = last - np.abs(places % (2 * last) - last)  # turn around at the ends
        return tuple(int(place) for place in places)


@dataclass(frozen=True, eq=False)
class Composer:
    """Composes the layers of one clip."""

    choose: Chooser
    config: ClipConfig
    side: int
    length: int

    def clip(self) -> list[Layer]:
        """Compose a clip whose slot 0 is the target; the lowest layer comes first."""
        config, chance = self.config, self.choose.chance
        target = self.choose.target(self.length, config.still)
        whole = not target.shot.cut[target.frames[0], target.number - 1]
        free = list(range(1, config.objects))
        leaves = chance(config.leaves)
        if whole and chance(config.apart):
            size = self._size(config.smallest, 0.8 * config.largest) * self.side
            layers = [self.picture(self.choose.scene(self.length))]
            main = self.pasted(target, size, slot=0, leaves=leaves)
        else:
            layers, main = [], self.picture(target, {target.number: 0}, free, leaves=leaves)
            size = self._longer_side(main, target)
        if chance(config.rival):
            rival = self._rival(target, main, size, free)
            layers += [rival, main] if layers and chance(0.5) else [main, rival]
        else:
            layers.append(main)
        if chance(config.occluder) and self.length > 1:
            layers.append(self._occluder(target, main, size))
        if chance(config.elsewhere) and self.length > 1:
            layers.append(replace(self.picture(self.choose.scene(self.length)), shown=self._some_frames()))
        return layers

    def picture(
        self,
        target: Target,
        slots: dict[int, int] | None = None,
        free: list[int] | None = None,
        *,
        leaves: bool = False,
    ) -> Layer:
        """Draw a whole picture, cropped so that the target has a random size.

        Args:
            target: what it is centred on, about.
            slots: slot of the target, if it has one.
            free: slots for further objects; those that are used are removed.
            leaves: move the target out of view for some frames, as far as the picture allows.
        """
        rng, side = self.choose.rng, self.side
        x1, y1, x2, y2 = target.box
        size_wh = np.array(target.shot.size_wh, np.float64)
        squeeze = (size_wh[0] / size_wh[1]) ** rng.uniform(0, 0.6) * math.exp(rng.normal(0, 0.05))
        stretch = np.array([squeeze**-0.5, squeeze**0.5])
        longest = float(max((x2 - x1) * stretch[0], (y2 - y1) * stretch[1]))
        least = float((side / size_wh / stretch).max())
        wanted = self._size(max(self.config.smallest * side, least * longest), self.config.largest * side)
        zoom = min(max(wanted / longest, least), max(least, LARGEST_ZOOM))
        half = np.minimum(np.array([x2 - x1, y2 - y1]) * stretch * zoom / 2, side / 2)
        centre = rng.uniform(half, side - half)
        amount = 1.0 if len(target.shot) == 1 else 0.4
        place = self._moved(target, centre, zoom * stretch, half, amount, leaves)
        place = _within(place, size_wh, side)
        slots = dict(slots or {})
        if free and self.choose.chance(self.config.second):
            areas = target.shot.areas[target.frames[0]]
            others = [k for k in (np.flatnonzero(areas >= SEEN) + 1).tolist() if k != target.number]
            for number in rng.permutation(others)[: len(free)].tolist():
                slots[int(number)] = free.pop(0)
        return Layer(target.shot, target.frames, place, slots, bend=self._bend(target, float(half.max())))

    def placed(self, target: Target, centre: Floats, zoom: Floats) -> Placement:
        """Place a picture with the centre of the target's box at `centre`, as far as the picture reaches."""
        half = np.zeros(2)
        size_wh = np.array(target.shot.size_wh, np.float64)
        return _within(self._moved(target, centre, zoom, half, 1.0, False), size_wh, self.side)

    def pasted(self, target: Target, size: float, slot: int | None = None, *, leaves: bool = False) -> Layer:
        """Cut an object out, with its longer side `size` pixels on the first frame, somewhere in view."""
        x1, y1, x2, y2 = target.box
        zoom = min(size / float(max(x2 - x1, y2 - y1)), LARGEST_ZOOM)
        half = np.minimum(np.array([x2 - x1, y2 - y1]) * zoom / 2, self.side / 2)
        centre = self.choose.rng.uniform(half, self.side - half)
        return self._cut_out(target, self._moved(target, centre, np.full(2, zoom), half, 1.0, leaves), slot, size)

    def _cut_out(self, target: Target, place: Placement, slot: int | None, size: float) -> Layer:
        slots = {} if slot is None else {target.number: slot}
        gain = np.exp(self.choose.rng.normal(0, 0.08, 3)) * math.exp(self.choose.rng.normal(0, 0.1))
        red, green, blue = gain.tolist()
        return Layer(
            target.shot, target.frames, place, slots, target.number,
            bend=self._bend(target, size / 2), gain=(red, green, blue),
        )  # fmt: skip

    def _rival(self, target: Target, main: Layer, size: float, free: list[int]) -> Layer:
        """Paste an object beside the target: the target again, one of its set, or any."""
        rng, chance = self.choose.rng, self.choose.chance
        first = target.frames[0]
        if chance(self.config.twin) and not target.shot.cut[first, target.number - 1]:
            other = target
        else:
            group = target.shot.group if chance(0.5) else None
            other = self.choose.target(self.length, self.config.still, whole=True, group=group)
        size = float(np.clip(size * math.exp(rng.normal(0, 0.35)), self.side / 14, 0.8 * self.side))
        slot = free.pop(0) if free and chance(self.config.labelled) else None
        away = main.place.to_output(target.path)[0]
        tries = [self.pasted(other, size, slot) for _ in range(4)]
        return max(tries, key=lambda layer: float(np.abs(layer.place.centre[0] - away).max()))

    def _occluder(self, target: Target, main: Layer, size: float) -> Layer:
        """Paste an object that passes over the target on a later frame, and is beside it on the first."""
        rng = self.choose.rng
        other = self.choose.target(self.length, self.config.still, whole=True)
        large = float(np.clip(size * rng.uniform(0.6, 2.0), self.side / 14, 1.2 * self.side))
        layer = self.pasted(other, large)
        when = int(rng.integers(1, self.length))
        over = main.place.to_output(target.path)[when]
        turn = rng.uniform(0, 2 * math.pi)
        speed = (size + large) / 2 * rng.uniform(1.0, 1.4) / when
        times = np.arange(self.length)[:, None] - when
        centre = over + times * speed * np.array([math.cos(turn), math.sin(turn)])
        return replace(layer, place=replace(layer.place, centre=centre))

    def _moved(
        self, target: Target, centre: Floats, zoom: Floats, half: Floats, amount: float, leaves: bool
    ) -> Placement:
        """Move a target along a random path from `centre`: shifts, zoom, rotation and shear, all smooth.

        Args:
            target: what moves; a clip's camera may follow it.
            centre: where the centre of its box is on the first frame.
            zoom: output pixels for one of the source, in x and y.
            half: half its width and height in the output.
            amount: of motion, 1 for a still.
            leaves: it is out of view for some frames.
        """
        rng, side = self.choose.rng, self.side
        amount = amount * (3.0 if self.choose.chance(self.config.fast) else 1.0)
        reach = 0.03 * side + 0.12 * float(half.max())  # pixels a frame
        shift = self._walk(2) * reach * amount
        scale = np.exp(self._walk(1)[:, 0] * 0.04 * amount + rng.normal(0, 0.02))
        angle = self._walk(1)[:, 0] * 0.06 * amount + rng.normal(0, 0.1)  # radians
        shear = self._walk(1)[:, 0] * 0.03 * amount + rng.normal(0, 0.03)
        mirror = np.array([-1.0 if self.choose.chance(0.5) else 1.0, 1.0])
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.stack([cosine, -sine, sine, cosine], -1).reshape(-1, 2, 2)
        skew = np.tile(np.eye(2), (self.length, 1, 1))
        skew[:, 0, 1] = shear
        matrix = turn @ skew * scale[:, None, None] * (zoom * mirror)
        margin = 0.5 * half
        centre = np.clip(centre + shift, margin, side - margin)
        if leaves:
            gone = self._some_frames()
            axis, sign = int(rng.integers(2)), rng.choice([-1, 1])
            centre[gone, axis] = side / 2 + sign * (side / 2 + 1.5 * math.hypot(*half))
        start, follow = target.path[0], rng.uniform(0, 1)
        return Placement(centre, matrix, start + follow * (target.path - start))

    def _walk(self, count: int) -> Floats:
        """Return smooth random paths (T, count) from zero, about one a frame in the beginning."""
        rng = self.choose.rng
        speed, place = rng.normal(0, 1, count), np.zeros((self.length, count))
        for t in range(1, self.length):
            place[t] = place[t - 1] + speed
            speed = 0.7 * speed + 0.5 * rng.normal(0, 1, count)
        return place

    def _bend(self, target: Target, half: float) -> Floats | None:
        """Return a field that bends stills, changing over time, stronger for large objects; see `Layer`."""
        rng = self.choose.rng
        if len(target.shot) > 1 or not self.choose.chance(self.config.bend):
            return None
        amount = rng.uniform(0, 0.12) * min(half, self.side / 4)
        begin, end = rng.normal(0, amount, (2, 2, BEND_CELLS, BEND_CELLS))
        share = np.linspace(0, 1, self.length)[:, None, None, None]
        return np.asarray(begin + share * (end - begin))

    def _some_frames(self) -> BoolArray:
        """Choose consecutive frames after the first; half of the time up to the end."""
        rng = self.choose.rng
        chosen = np.zeros(self.length, bool)
        if self.length > 1:
            start = int(rng.integers(1, self.length))
            stop = self.length if self.choose.chance(0.5) else int(rng.integers(start, self.length)) + 1
            chosen[start:stop] = True
        return chosen

    def _size(self, low: float, high: float) -> float:
        """Choose a size on a log scale, small ones more often than large ones."""
        return float(low * max(1.0, high / low) ** (self.choose.rng.random() ** SMALLER))

    def _longer_side(self, layer: Layer, target: Target) -> float:
        """Return the longer side of a target on the first frame, in output pixels."""
        x1, y1, x2, y2 = target.box
        return float((np.abs(layer.place.matrix[0]) @ (x2 - x1, y2 - y1)).max())


def _within(place: Placement, size_wh: Floats, side: int) -> Placement:
    """Move a picture so that the frames lie in it as far as they can."""
    inverse = np.linalg.inv(place.matrix)
    middle = place.anchor + np.einsum("tij,tj->ti", inverse, side / 2 - place.centre)
    reach = np.minimum(np.abs(inverse).sum(2) * side / 2, size_wh / 2)
    moved = np.clip(middle, reach, size_wh - reach)
    return replace(place, centre=side / 2 - np.einsum("tij,tj->ti", place.matrix, moved - place.anchor))
