"""SuperSAM's search (2025): which blocks and how wide MLPs an encoder keeps under a budget of time.

MLP units are ordered by importance, so that every candidate is a part of one elastic encoder: without some blocks,
and with the first units of the MLPs of others. An evolution (SuperSAM uses OpenTuner) looks for the candidate with
the least error whose time, a sum of times measured block by block on this machine, is within the budget. What it
finds is measured as a whole; where that takes too long, the search is repeated with a tighter budget.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch

from samvideo.compress.distil import Images, feature_error, maps_of
from samvideo.compress.latency import Latency, encoder_ms, measure_latency
from samvideo.compress.slim import find_transformer
from samvideo.compress.supersam import order_of, wanda_scores
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError

ROUNDS = 8
"""Measurements of an encoder, of which the fastest counts."""
Candidate = tuple[int | None, ...]
"""For each block the hidden width of its MLP, None where the block is left out."""


@dataclass(frozen=True)
class Search:
    """How an elastic encoder is searched.

    Attributes:
        shares: of the hidden units that an MLP may keep, ascending; SuperSAM's, and all of them.
        population: candidates that are kept.
        generations: in each, as many new candidates are tried.
        mutation: chance of each block to change.
        images: at most so many decide.
        tries: searches with tighter budgets before giving up.
        seed: of everything random.
    """

    shares: tuple[float, ...] = (0.25, 1 / 3, 0.5, 0.75, 1.0)
    population: int = 24
    generations: int = 12
    mutation: float = 0.2
    images: int = 16
    tries: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        candidate: the best.
        error: of its feature maps before distillation.
        ms: of the encoder, measured as a whole.
        whole_ms: of the encoder before, measured in turn with it.
    """

    candidate: Candidate
    error: float
    ms: float
    whole_ms: float

    @property
    def blocks(self) -> list[int]:
        """Those that are kept."""
        return [i for i, width in enumerate(self.candidate) if width is not None]


def reorder(encoder: ImageEncoder, images: Images) -> None:
    """Put the MLP units that matter most first, in place; the output does not change."""
    found = find_transformer(encoder)
    mlps = {str(i): block.mlp for i, block in enumerate(found.blocks)}
    scores = wanda_scores(mlps, [lambda image=image: encoder(image) for image in images])  # type: ignore[misc]
    for channels, name in zip(found.hidden, mlps, strict=True):
        channels.keep(order_of(scores[name]))


def part_of(encoder: ImageEncoder, candidate: Candidate) -> ImageEncoder:
    """A copy of an encoder, cut as a candidate says."""
    other = deepcopy(encoder)
    kept = [i for i, width in enumerate(candidate) if width is not None]
    find_transformer(other).leave_blocks(kept)
    for channels, i in zip(find_transformer(other).hidden, kept, strict=True):
        width = candidate[i]
        assert width is not None
        channels.keep_first(width)
    return other


class Evolution:
    """Looks for the candidate with the least error whose time is within a budget.

    Args:
        choices: for each block, the widths it may have; None among them where it may be left out. Ascending.
        latency: of the parts.
        error: of a candidate; asked once for each.
        search: how.
    """

    def __init__(
        self,
        choices: Sequence[Sequence[int | None]],
        latency: Latency,
        error: Callable[[Candidate], float],
        search: Search,
    ) -> None:
        self._choices, self._latency, self._ask, self._search = choices, latency, error, search
        self._errors: dict[Candidate, float] = {}
        self._random = np.random.default_rng(search.seed)

    def best(self, budget_ms: float, report: Callable[[int, int, float], None] | None = None) -> Candidate:
        """The best candidate within a budget; ConfigError if even the smallest is not."""
        least = self._latency.of([choices[0] for choices in self._choices])
        if least > budget_ms:
            raise ConfigError(
                f"a budget of {budget_ms:.1f} ms: the smallest encoder that can be made takes {least:.1f} ms; "
                "choose a larger budget, or a smaller model"
            )
        search = self._search
        full = tuple(choices[-1] for choices in self._choices)
        members = [self._within(full, budget_ms)]
        members += [self._within(self._changed(full, 0.5), budget_ms) for _ in range(search.population)]
        for generation in range(search.generations):
            parents = list(members)
            for _ in range(search.population):
                mother, father = (parents[int(i)] for i in self._random.integers(0, len(parents), 2))
                child = tuple(a if self._random.random() < 0.5 else b for a, b in zip(mother, father, strict=True))
                members.append(self._within(self._changed(child, search.mutation), budget_ms))
            members = sorted(dict.fromkeys(members), key=self.error)[: search.population]
            if report is not None:
                report(generation + 1, search.generations, self.error(members[0]))
        return min(members, key=self.error)

    def error(self, candidate: Candidate) -> float:
        """Of a candidate."""
        if candidate not in self._errors:
            self._errors[candidate] = self._ask(candidate)
        return self._errors[candidate]

    def _changed(self, candidate: Candidate, chance: float) -> Candidate:
        """With other choices for some blocks."""
        return tuple(
            choices[int(self._random.integers(len(choices)))] if self._random.random() < chance else own
            for own, choices in zip(candidate, self._choices, strict=True)
        )

    def _within(self, candidate: Candidate, budget_ms: float) -> Candidate:
        """With the next smaller choice for random blocks until the time is within the budget."""
        while self._latency.of(candidate) > budget_ms:
            shrinkable = [i for i, own in enumerate(candidate) if own != self._choices[i][0]]
            i = int(self._random.choice(shrinkable))
            smaller = self._choices[i][self._choices[i].index(candidate[i]) - 1]
            candidate = (*candidate[:i], smaller, *candidate[i + 1 :])
        return candidate


def search_encoder(
    encoder: ImageEncoder,
    images: Images,
    *,
    budget_ms: float | None = None,
    budget_share: float = 0.6,
    search: Search | None = None,
    report: Callable[[int, int, float], None] | None = None,
) -> Found:
    """Search the parts of an encoder, whose MLP units are put in order, in place.

    Args:
        encoder: whose output does not change.
        images: on which feature maps are compared with those of the whole encoder.
        budget_ms: milliseconds for one image on this machine.
        budget_share: without these, their share of what the whole encoder takes.
        search: how.
        report: called after each generation with its number, the number of all and the least error.

    Raises:
        ConfigError: the encoder is none that can be cut, or the budget is too small.
    """
    search = search or Search()
    device = next(encoder.parameters()).device
    images = [images[i].to(device) for i in range(min(len(images), search.images))]
    reorder(encoder, images)
    found = find_transformer(encoder)
    widths = [sorted({max(1, round(share * one.width)) for share in search.shares}) for one in found.hidden]
    latency = measure_latency(encoder, images[0], widths)
    choices = [[*([] if i in found.fixed else [None]), *of] for i, of in enumerate(widths)]
    evolution = Evolution(choices, latency, _errors(encoder, images), search)
    whole = latency.of(
        [of[-1] for of in widths]
    )  # not measured again: only ratios within one measurement are stable
    budget, least = budget_share * whole if budget_ms is None else budget_ms, float("inf")
    for _ in range(search.tries):
        candidate = evolution.best(budget, report)
        whole, ms = encoder_ms([encoder, part_of(encoder, candidate)], images[0], ROUNDS)
        allowed = budget_share * whole if budget_ms is None else budget_ms
        if ms <= allowed:
            return Found(candidate, evolution.error(candidate), ms, whole)
        least, budget = min(least, ms), budget * allowed / ms
    raise ConfigError(
        f"a budget of {allowed:.1f} ms: what was found takes {least:.1f} ms; choose a larger budget, or search "
        "while this machine does nothing else"
    )


def _errors(encoder: ImageEncoder, images: Images) -> Callable[[Candidate], float]:
    """The mean error of the feature maps of a candidate."""
    with torch.no_grad():
        wanted = [maps_of(encoder, image) for image in images]

    def error(candidate: Candidate) -> float:
        part = part_of(encoder, candidate)
        with torch.no_grad():
            pairs = zip(images, wanted, strict=True)
            return float(np.mean([float(feature_error(maps_of(part, image), maps)) for image, maps in pairs]))

    return error
