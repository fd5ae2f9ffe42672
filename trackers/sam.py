"""The streaming tracker of the SAM 2 family: encode once, remember little, one frame at a time; no torch.

Counterpart: facebookresearch/sam2: sam2/sam2_video_predictor.py, which needs the whole video and keeps all of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from samvideo.errors import ConfigError
from samvideo.geometry import Box4, mask_box
from samvideo.io.snapshot import dump_state, load_state
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import Choice, MemoryEntry, MemoryPolicy
from samvideo.object_prompts import ObjectPrompt, group_tracked, input_points, size_changed
from samvideo.runtime import Candidates, Features, Pick, Prediction, Runtime, SelectedMemory
from samvideo.trackers.paths import PastResult, differing, past_result, settle
from samvideo.types import FloatArray, Frame, FrameResult, Prompt, UInt8Array

T = TypeVar("T")

Corrections = Literal["pin", "published"]
BATCH = 16
"""Objects go through the networks in batches of at most this many, so that peak memory is bounded."""
CLEAR_RADIUS = 6
"""Frames around a pinned correction whose un-prompted memories are cleared, since they show the mistake."""
STATE_KIND = "sam"


@dataclass(eq=False)
class Hypothesis:
    """One interpretation of an object's past: its memory, its prediction, and its earlier results."""

    bank: MemoryBank
    prediction: Prediction | None = None
    binarise: bool = False
    past: PastResult | None = None

    @property
    def known_prediction(self) -> Prediction:
        """The prediction, which is there as soon as a frame has been processed."""
        assert self.prediction is not None
        return self.prediction


@dataclass
class TrackedObject:
    """One object: its hypotheses, best first. All policies but those that search keep a single one.

    Hypotheses that do not differ are one and the same, listed as often as the policy chose it.
    """

    hypotheses: list[Hypothesis]
    shown: PastResult | None = None

    @property
    def different(self) -> list[Hypothesis]:
        """Each hypothesis once."""
        return list(dict.fromkeys(self.hypotheses))

    @property
    def best(self) -> Hypothesis:
        """The hypothesis that is shown."""
        return self.hypotheses[0]


@dataclass
class TrackerState:
    """All that a tracker knows of a video. Bounded: it does not grow with the frames seen.

    Attributes:
        clock: frames seen, the time in which memory is measured.
        index: source index of the newest frame.
        size_wh: of every frame.
        revised: what the newest frame changed, where the policy revises results.
        objects: by the user's id.
    """

    clock: int = -1
    index: int | None = None
    size_wh: tuple[int, int] | None = None
    revised: tuple[FrameResult, ...] = ()
    objects: dict[int, TrackedObject] = field(default_factory=dict)


class SamTracker:
    """Tracks objects with a video model; see `samvideo.trackers.base.Tracker`.

    Time is measured in frames given, whatever their source index, so any stride and backwards order will do.

    Args:
        runtime: computes the stages of the model, with whose memory policy objects are tracked.
        corrections: what a prompt on an object that is already tracked becomes. "pin": prompted memory, kept like
            the first prompt, and the un-prompted memories within `CLEAR_RADIUS` frames are cleared.
            "published": ordinary memory, which has faded after six frames.
        non_overlap: give every pixel to the object with the highest logit there. Memory is not affected.
        logits: return logits with every result.
        encode: encodes frames in the runtime's place, as for trackers that share it.

    Raises:
        ConfigError: an unknown value.
    """

    lookahead = 0

    def __init__(
        self,
        runtime: Runtime,
        *,
        corrections: Corrections = "pin",
        non_overlap: bool = False,
        logits: bool = False,
        encode: Callable[[UInt8Array], Features] | None = None,
    ) -> None:
        if corrections not in get_args(Corrections):
            raise ConfigError(f'corrections must be "pin" or "published", not {corrections!r}')
        self.corrections, self.non_overlap, self.logits = corrections, non_overlap, logits
        self.runtime, self._encode = runtime, encode or runtime.encode
        self.policy: MemoryPolicy = runtime.policy
        if self.policy.revises and non_overlap:
            raise ConfigError("masks that exclude each other cannot be revised: leave non_overlap or final out")
        self.reset()

    def reset(self) -> None:
        """Drop all objects and frames, ready for another video."""
        self._state = TrackerState()
        self._features: Features | None = None

    @property
    def objects(self) -> dict[int, TrackedObject]:
        """What is tracked, by the user's id."""
        return self._state.objects

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError if it is not tracked. Its id may be used again."""
        if object_id not in self.objects:
            raise KeyError(f"object {object_id} is not tracked; tracked: {sorted(self.objects)}")
        del self.objects[object_id]

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """Process the next frame and return the mask of every tracked object on it; see `Tracker.step`."""
        state = self._state
        grouped = group_tracked(prompts, state.objects, frame.size_wh)
        if state.size_wh is not None and state.size_wh != frame.size_wh:
            raise size_changed(frame, state.size_wh)
        new = frame.index != state.index
        if new:
            state.clock, state.index, state.size_wh = state.clock + 1, frame.index, frame.size_wh
            self._features, state.revised = None, ()
        prompted = {prompt.object_id for prompt in grouped}
        changed = set(state.objects) | prompted if new else prompted
        if changed:
            if self._features is None:
                self._features = self._encode(frame.rgb)
            if new:
                self._track(self._features)
            for prompt in grouped:
                self._prompt(self._features, prompt)
        tokens = self._encode_memory(changed, prompted)
        ids = tuple(sorted(state.objects))
        shown = [self.objects[i].best.known_prediction for i in ids]
        output = self.runtime.output(shown, frame.size_wh, exclusive=self.non_overlap, logits=self.logits)
        for object_id in changed:
            mask = output.masks_khw[ids.index(object_id)]
            self._insert(self.objects[object_id], object_id in prompted, tokens, mask_box(mask))
        quality, presence = self.runtime.scores(shown)
        if self.policy.revises:
            state.revised += tuple(r for i in changed for r in self._revise(i, self.objects[i], frame))
        return FrameResult(
            index=frame.index,
            seconds=frame.seconds,
            object_ids=ids,
            masks=output.masks_khw,
            scores=quality * _sigmoid(presence),
            present=presence > self.policy.presence_threshold,
            logits=output.logits_khw,
            revised=state.revised,
        )

    def _revise(self, object_id: int, tracked: TrackedObject, frame: Frame) -> Iterable[FrameResult]:
        """Note what the paths of an object show; the earlier results that change, as another path is best now."""
        predictions = [h.known_prediction for h in tracked.different]
        masks = self.runtime.output(predictions, frame.size_wh, exclusive=False, logits=False).masks_khw
        quality, presence = self.runtime.scores(predictions)
        rows = zip(masks, quality * _sigmoid(presence), presence > self.policy.presence_threshold, strict=True)
        pasts = [
            past_result(frame, mask, float(score), bool(present), hypothesis.past)
            for hypothesis, (mask, score, present) in zip(tracked.different, rows, strict=True)
        ]
        for hypothesis, past in zip(tracked.different, pasts, strict=True):
            hypothesis.past = past
        shown, tracked.shown = tracked.shown, pasts[0]
        if shown is not None and shown.index == frame.index:
            shown = shown.before
        changed = [past.result(object_id) for past in differing(shown, pasts[0].before)]
        settle(pasts, self.policy.revises)
        return changed

    def _track(self, features: Features) -> None:
        """Find every object on a new frame, in batches of equal memory shape."""
        groups: dict[Any, list[tuple[Hypothesis, SelectedMemory]]] = defaultdict(list)
        for tracked in self.objects.values():
            for hypothesis in tracked.different:
                memory = hypothesis.bank.recall(self._state.clock)
                shape = bool(memory.frames) if self.runtime.static_shapes else memory.shape
                groups[shape].append((hypothesis, memory))
        candidates: dict[Hypothesis, Candidates] = {}
        waiting = list(self.objects.values())
        for batch in (part for group in groups.values() for part in _parts(group)):
            rows = self.runtime.track(features, [memory for _, memory in batch])
            candidates.update((hypothesis, row) for (hypothesis, _), row in zip(batch, rows, strict=True))
            ready = [o for o in waiting if all(h in candidates for h in o.hypotheses)]
            waiting = [o for o in waiting if o not in ready]
            proposed = [[candidates[h] for h in o.hypotheses] for o in ready]
            for hypothesis in (h for o in ready for h in o.different):
                del candidates[hypothesis]  # batch by batch: they hold all masks that the decoder proposed
            self._select(ready, proposed)

    def _select(self, objects: Sequence[TrackedObject], candidates: Sequence[Sequence[Candidates]]) -> None:
        """Replace the hypotheses of objects by those that the policy chooses."""
        picks: list[Pick] = []
        for tracked, proposed in zip(objects, candidates, strict=True):
            histories = [h.bank.history(self._state.clock, self._state.size_wh) for h in tracked.hypotheses]
            choices: Sequence[Choice] = (Choice(state=histories[0].state),)
            if proposed[0].ambiguous:
                choices = self.policy.select(proposed, histories)
            parents = tracked.hypotheses
            choices = [choice._replace(parent=parents.index(parents[choice.parent])) for choice in choices]
            branches = {c: self._branch(parents[c.parent], c) for c in choices}
            picks += [Pick(proposed[choice.parent], choice.mask) for choice in branches]
            tracked.hypotheses = [branches[choice] for choice in choices]
        predictions = iter(self.runtime.choose(picks, self.policy.presence_threshold))
        for hypothesis in (h for tracked in objects for h in tracked.different):
            hypothesis.prediction = next(predictions)

    def _branch(self, parent: Hypothesis, choice: Choice) -> Hypothesis:
        return Hypothesis(parent.bank.branch(choice), None, choice.binarise, parent.past)

    def _prompt(self, features: Features, prompt: ObjectPrompt) -> None:
        """Replace one object's prediction by what the user's prompts stand for."""
        clock = self._state.clock
        tracked = self.objects.setdefault(prompt.object_id, TrackedObject([Hypothesis(MemoryBank(self.policy))]))
        tracked.hypotheses = [tracked.best]
        bank = tracked.best.bank
        if prompt.mask is not None:
            tracked.best.prediction = self.runtime.use_mask_as_output(features, prompt.mask)
            return
        memory = SelectedMemory()
        if any(entry.index != clock for entry in bank.entries):
            memory = bank.recall(clock)
        size_wh = self._state.size_wh or (1, 1)
        xy, labels = input_points(prompt, size_wh, self.runtime.input_size(size_wh))
        candidates = self.runtime.prompt(features, memory, xy, labels, tracked.best.prediction)
        if prompt.box is None or not self.policy.box_as_mask:
            self._select([tracked], [[candidates]])
            tracked.hypotheses = [tracked.best]
            return
        found = self.runtime.choose([Pick(candidates)], -np.inf)  # an object that is boxed is there
        output = self.runtime.output(found, size_wh, exclusive=False, logits=False)
        tracked.best.prediction = self.runtime.use_mask_as_output(features, output.masks_khw[0])

    def _encode_memory(self, changed: set[int], prompted: set[int]) -> dict[Hypothesis, Any]:
        """Memory tokens of the changed objects' predictions."""
        todo = [(i, h) for i, tracked in self.objects.items() if i in changed for h in tracked.different]
        tokens: dict[Hypothesis, Any] = {}
        for batch in _parts(todo):
            predictions = [h.known_prediction for _, h in batch]
            binarise = [i in prompted or h.binarise for i, h in batch]
            rows = self.runtime.remember(self._features, predictions, binarise)
            tokens.update((h, row) for (_, h), row in zip(batch, rows, strict=True))
        return tokens

    def _insert(
        self, tracked: TrackedObject, prompted: bool, tokens: dict[Hypothesis, Any], box: Box4 | None
    ) -> None:
        """Put the newest frame into an object's memory."""
        clock = self._state.clock
        predictions = [h.known_prediction for h in tracked.different]
        quality, presence = self.runtime.scores(predictions)
        for row, hypothesis in enumerate(tracked.different):
            bank = hypothesis.bank
            first = all(entry.index == clock for entry in bank.entries)
            pinned = prompted and (first or self.corrections == "pin")
            if pinned and not first:
                bank.drop_near(clock, CLEAR_RADIUS)
            bank.insert(
                MemoryEntry(
                    index=clock,
                    prompted=pinned,
                    tokens=tokens[hypothesis],
                    pointer=predictions[row].pointer,
                    quality=float(quality[row]),
                    presence=float(presence[row]),
                    box=box if row == 0 else None,
                )
            )

    def state(self) -> bytes:
        """See `Tracker.state`."""
        if self.policy.revises:
            raise ConfigError("a tracker that revises earlier results cannot save its state")
        values: list[Any] = []

        def reference(value: Any) -> int | None:
            values.append(value)
            return len(values) - 1 if value is not None else None

        objects = {}
        for object_id, tracked in self.objects.items():
            hypotheses = [
                (
                    [replace(e, tokens=reference(e.tokens), pointer=reference(e.pointer)) for e in h.bank.entries],
                    h.bank.state,
                    reference(h.prediction),
                )
                for h in tracked.different
            ]
            objects[object_id] = hypotheses, [tracked.different.index(h) for h in tracked.hypotheses]
        state = self._state
        facts = state.clock, state.index, state.size_wh, objects
        return dump_state(STATE_KIND, (facts, self.runtime.pack(values)))

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        (clock, index, size_wh, objects), packed = load_state(
            STATE_KIND, state, ("samvideo.memory.", type(self.policy).__module__)
        )
        values = self.runtime.unpack(packed)

        def value(reference: int | None) -> Any:
            return None if reference is None else values[reference]

        restored = TrackerState(clock, index, size_wh)
        for object_id, (hypotheses, order) in objects.items():
            different = []
            for entries, policy_state, prediction in hypotheses:
                bank = MemoryBank(
                    self.policy, [replace(e, tokens=value(e.tokens), pointer=value(e.pointer)) for e in entries]
                )
                bank.state = policy_state
                different.append(Hypothesis(bank, value(prediction)))
            restored.objects[object_id] = TrackedObject([different[place] for place in order])
        self._state, self._features = restored, None


def _sigmoid(logits: FloatArray) -> FloatArray:
    out: FloatArray = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
    return out


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))
