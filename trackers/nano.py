"""The bundled tracker: the evidence of the weight-free one, fused by a small trained network on a crop."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from samvideo.cues.crop import Window
from samvideo.cues.motion import own_speed
from samvideo.cues.patch import Patch
from samvideo.cues.redetection import PresenceConfig
from samvideo.cues.target import Evidence, Passage, Scene, Target, TargetConfig
from samvideo.cues.warp import warp
from samvideo.nano.network import EVIDENCE, EXACT, LOGITS, MOTION, VALID
from samvideo.nano.runtime import Networks, load
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.nano import NanoSegmenter
from samvideo.trackers.cue_tracker import CueTracker
from samvideo.types import FloatArray

# log-odds of the evidence planes are divided by these, to be of order one
_SCALES = (4.0, 3.0, 3.0, 4.0, 2.0, 3.0)
_NOWHERE = -8.0
_SURE = 6.0  # bound of the log-odds that are summed
_NETWORK, _COLOURS = 0.4, 20.0  # what its presence and the likeness of colours count
_CERTAIN = 0.88  # likeness at which a lost object is found again whatever the network says
_ELSEWHERE = 0.92  # and that it needs after a cut, or a little less than usual
_SLACK = 0.04  # how much less like itself than usual it may be there
_UNLIKE = 0.1  # less like itself than usual: then a mask is not it where
_REMNANT, _SWOLLEN = 0.2, 1.4  # its share of the usual area is not between these
_REST, _FAST, _STOPPED = 0.6, 2.0, 0.2  # (or this, if what went fast, in pixels a frame, has all but stopped)
_VOUCHED, _VAST = 2.0, 2.2  # and the network's presence is below this, or where the share is above that
_RATE = 0.1  # at which the usual likeness and speed follow
_TRIED = 8  # frames after a prompt on which the network is tried
_USELESS, _USEFUL = 0.4, 0.7  # overlap with the mask carried along below which it is not heard, and above wholly
_COARSEST = 1.4  # pixels of the working picture in one of the crop


@dataclass(frozen=True)
class NanoConfig:
    """Settings of `NanoTracker`.

    Attributes:
        longest, stride, words: as in `samvideo.trackers.flow.FlowConfig`.
        target: settings of the models that gather evidence.
        refresh: frames after which the memory of the latest looks is renewed.
        sides: of the crop; the first at which a window is not shrunk too much is taken.
        heard: weight, of two in all, of the network's answer beside the evidence weighed by hand: on scenes unlike
            those that it learned, less does better than all.
        by_motion: whether masks are drawn from boxes and clicks by how things move until the next frame, too.
            Further frames tell less.
    """

    longest: int = 428
    stride: int = 4
    words: int = 64
    target: TargetConfig = field(
        default_factory=lambda: replace(TargetConfig(), presence=PresenceConfig(find=0.7, smallest=0.1))
    )
    refresh: int = 4
    sides: tuple[int, ...] = (144, 192)
    heard: float = 1.0
    by_motion: bool = True


class NanoTracker(CueTracker):
    """Tracks any number of objects with two small networks; implements `samvideo.trackers.base.Tracker`.

    Args:
        weights: a file made by `samvideo train nano`, networks, or None for the bundled ones.
        config: settings.
        segmenter: infers masks from boxes and clicks; by default its own network.

    Raises:
        WeightsError: the file cannot be used.
    """

    def __init__(
        self,
        weights: Path | Networks | None = None,
        config: NanoConfig | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.config = config or NanoConfig()
        self._networks = weights if isinstance(weights, Networks) else load(weights)
        segmenter = segmenter or NanoSegmenter(self._networks, self.config.longest, self.config.by_motion)
        super().__init__(self.config.longest, self.config.stride, self.config.words, segmenter)

    def new_target(self) -> Target:
        """The models of a new object."""
        return NanoTarget(self.config, self._networks)

    def shared(self) -> Mapping[str, Any]:
        """See `CueTracker.shared`."""
        return {"networks": self._networks}


class NanoTarget(Target):
    """One object whose evidence is fused by a network, which also tells whether the object is in view."""

    def __init__(self, config: NanoConfig, networks: Networks) -> None:
        super().__init__(config.target)
        self._refresh, self._sides = config.refresh, config.sides
        self._heard, self._networks = config.heard, networks
        self._age, self._usually = 0, 1.0
        self._speed = self._usual_speed = 0.0
        self._overlaps: list[float] = []
        self.presence = self.quality = _NOWHERE

    def teach(self, scene: Scene, mask: FloatArray, exact: bool = True) -> None:
        """Learn from a prompt; see `Target.teach`."""
        super().teach(scene, mask, exact)
        self.window = _window(mask)
        self.planes = self._planes(scene, self.window)
        self._first = self._recent = self._networks.remember(self.planes, self.belief_crop())
        self._age, self._usually, self._overlaps = 0, 1.0, []
        self._speed = self._usual_speed = 0.0

    def expect(self, scene: Scene, passage: Passage) -> Patch:
        """Where the object may be in a new frame, and the log-odds there."""
        if self.present:
            carried = warp(self.belief, passage.places)
            self._speed = own_speed(passage.backward, carried)
            window = _window(carried)
            if not self._cut(passage, window.region):
                evidence = self.gather(scene, passage, window.region, carried)
                weighed = np.clip(self.weigh(evidence, scene.view.lab[window.region]), -_SURE, _SURE)
                asked = self.ask(window, self._near(scene, passage, window, carried, evidence))
                heard = self._trust(asked, window.cut(carried, len(asked)))
                near = self._join(window, heard * np.clip(asked, -_SURE, _SURE), (2 - heard) * weighed)
                shrunk = self.belief.sum() < _REST * self._usual_area
                return self._or_better(scene, near) if shrunk else near
        self._speed = self._usual_speed  # unknown
        return self._search(scene)

    def _or_better(self, scene: Scene, near: Patch) -> Patch:
        """What the whole picture holds, where the network prefers it: the rest of what was half hidden."""
        kept = self.presence, self.quality, self.window, self.planes, self._reach
        found = self._search(scene)
        if self.presence > kept[0] and self.quality > kept[1]:
            self._speed = self._usual_speed  # of what was near, which is a part of it at best
            return found
        self.presence, self.quality, self.window, self.planes, self._reach = kept
        return near

    def _trust(self, asked: FloatArray, carried: FloatArray) -> np.float32:
        """What the network's answer weighs: it may never have seen a scene like this one.

        Just after a prompt, its mask carried along is nearly true: a network that does not find it there will not
        later.
        """
        if len(self._overlaps) < _TRIED:
            here, there = asked > 0, carried > 0.5
            self._overlaps.append(float((here & there).sum() / max((here | there).sum(), 1)))
        share = (np.mean(self._overlaps) - _USELESS) / (_USEFUL - _USELESS)
        return np.float32(self._heard * np.clip(share, 0, 1))

    def _join(self, window: Window, asked: FloatArray, weighed: FloatArray) -> Patch:
        """The sum of what the network and the evidence weighed by hand say, at the finer resolution of the two."""
        size = max(len(asked), window.side)
        return window.patch(cv2.resize(asked, (size, size)) + window.resample(weighed, size))

    def _side(self, window: Window) -> int:
        return next((side for side in self._sides if window.side <= _COARSEST * side), self._sides[-1])

    def _near(
        self, scene: Scene, passage: Passage, window: Window, carried: FloatArray, evidence: Evidence
    ) -> FloatArray:
        """The network's input where the object was a frame ago."""
        region = window.region
        flow = passage.backward[region]
        weight = carried[region][..., None]
        relative = flow - (flow * weight).sum((0, 1)) / max(float(weight.sum()), 1.0)
        relative *= np.float32(1 / max(1.0, 2 * float(np.abs(relative).mean())))
        shown = self._colour.logits(scene.bins[region], keep=1.0)
        motion = np.dstack([passage.trust[region], np.clip(relative, -1.5, 1.5)])
        odds = np.dstack([*_ordered(evidence), shown])
        return self._planes(scene, window, odds, motion)

    def _planes(
        self, scene: Scene, window: Window, odds: FloatArray | None = None, motion: FloatArray | None = None
    ) -> FloatArray:
        """The network's input float32 (EVIDENCE, side, side).

        Lab, six log-odds, trust, relative flow (2), whether the first mask was exact, whether it is in the picture.
        """
        side = self._side(window)
        planes = np.zeros((EVIDENCE, side, side), np.float32)
        lab = cv2.cvtColor(window.cut(scene.view.full, side), cv2.COLOR_RGB2LAB).astype(np.float32)
        planes[:3] = (lab.transpose(2, 0, 1) - 128) * np.float32(1 / 48)
        if odds is not None:
            planes[LOGITS] = window.resample(odds, side).transpose(2, 0, 1)
            planes[LOGITS] /= np.array(_SCALES, np.float32)[:, None, None]
        if motion is not None:
            planes[MOTION] = window.resample(motion, side).transpose(2, 0, 1)
        planes[VALID] = window.resample(np.ones_like(scene.view.gray[window.region], np.float32), side)
        planes[:3] *= planes[VALID]
        planes[EXACT] = planes[VALID] * self.exact
        return planes

    def _search(self, scene: Scene) -> Patch:
        """Let the network judge the most likely place in the whole picture."""
        colour, learned = self.looks_like(scene)
        odds = np.float32(0.5) * (colour + learned)
        found = self._find(scene, odds)
        if found is None:
            self.presence = self.quality = _NOWHERE
            return Patch((0, 0, 1, 1), np.full((2, 2), np.float32(_NOWHERE)))
        window = _window(found.astype(np.float32))
        region, nothing = window.region, np.zeros_like(odds[window.region])
        shown = self._colour.logits(scene.bins[region], keep=1.0)
        odds = np.dstack([nothing, colour[region], nothing, learned[region], nothing, shown])
        return window.patch(self.ask(window, self._planes(scene, window, odds)))

    def ask(self, window: Window, planes: FloatArray) -> FloatArray:
        """Log-odds (S, S) that the network gives for a window, from planes (EVIDENCE, S, S)."""
        self.window, self.planes = window, planes
        logits, self.presence, self.quality = self._networks.segment(planes, [self._first, self._recent])
        return logits

    def follow(self, scene: Scene, belief: FloatArray, objects: int = 1) -> None:
        """Adapt to a frame after all objects competed; see `Target.follow`."""
        super().follow(scene, belief, objects)
        self._age += 1
        if self.present and self.presence > 1 and self._age >= self._refresh:
            self._recent, self._age = self._networks.remember(self.planes, self.belief_crop()), 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_first": self._first.numpy(), "_recent": self._recent.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.from_numpy(state[name]) for name in ("_first", "_recent")}
        self.__dict__.update(state | tensors)

    def belief_crop(self) -> FloatArray:
        """float32 (S, S): the belief in the window."""
        return self.window.cut(self.belief, self.planes.shape[1])

    def _judge(self, scene: Scene) -> None:
        """Set `present` and `score`: the network and the colours must agree that the object is gone."""
        inside = self.belief > 0.5
        alike = self._likeness.of(scene.view.levels, inside)
        large_enough = inside.sum() >= min(4.0, 0.1 * self._usual_area)
        seen = _NETWORK * float(np.clip(self.presence, -_SURE, _SURE)) + _COLOURS * (
            alike - self.config.presence.lose
        )
        if not self.present and alike < _CERTAIN:  # to be found again takes more than to be kept
            seen = min(seen - 1, self.presence - 1)
        stopped = self._speed < _STOPPED * self._usual_speed and self._usual_speed > _FAST
        share = inside.sum() / max(self._usual_area, 1.0)
        odd = not (_REST if stopped else _REMNANT) <= share <= _SWOLLEN and self.presence < _VOUCHED
        if alike < self._usually - _UNLIKE and (odd or share > _VAST):
            seen = min(seen, -1.0)  # its mask clings to what stays when it leaves, or to what comes before it
        if np.isinf(self._reach) and alike < min(_ELSEWHERE, self._usually - _SLACK):
            seen = min(seen, -1.0)  # any other scene holds something of nearly its colours
        self.present = bool(large_enough and seen > 0)
        self.score = float(_sigmoid(self.quality) * _sigmoid(2 * seen)) if inside.any() else 0.0
        if self.present:
            self._usually += _RATE * (alike - self._usually)
            self._usual_speed += _RATE * (self._speed - self._usual_speed)
            self._likeness.follow(scene.view.levels, inside)


def _ordered(evidence: Evidence) -> tuple[FloatArray, ...]:
    return evidence.history, evidence.colour, evidence.local_colour, evidence.learned, evidence.motion


def _window(belief: FloatArray) -> Window:
    return Window.around((belief > 0.3).view(np.uint8), 1.5, 24, 64)


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
