"""What each memory policy is for: it beats FIFO on a case of its own, with one ideal decoder for all."""

from functools import cache

import numpy as np
import pytest
from policy_cases import CASES, score

from samvideo.registry import MEMORY_POLICIES

POLICIES = list(MEMORY_POLICIES.all())
OWN_CASE = {
    "dam4sam": "twins that cross",
    "d4sm": "twins that cross",
    "samurai": "long occlusion, look-alike",
    "sam2long": "long occlusion, look-alike",
    "diverse": "slow change, 5,000 frames",
    "consolidated": "slow change, 5,000 frames",
}


@cache
def scores(policy: str, case: str) -> np.ndarray:
    return score(policy, case, range(2 if case.startswith("slow") else 6))


@pytest.mark.parametrize("policy", [policy for policy in OWN_CASE if policy in POLICIES])
def test_a_policy_beats_fifo_on_its_own_case(policy: str) -> None:
    own, fifo = scores(policy, OWN_CASE[policy]), scores("fifo", OWN_CASE[policy])
    assert (own >= fifo).all()
    assert own.mean() > fifo.mean() + 0.2
    assert own.min() > 0.8


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_loses_what_is_easy(policy: str) -> None:
    assert scores(policy, "no distractor").min() > 0.95


def test_motion_misleads_after_a_jump() -> None:
    """As published results have it: SAMURAI is behind plain SAM 2.1 on MOSE and DAVIS."""
    assert scores("samurai", "sudden jump").mean() < scores("fifo", "sudden jump").mean() - 0.2


def test_cases_are_hard_enough() -> None:
    """FIFO fails in each case that is a policy's own."""
    assert {case for case in CASES if scores("fifo", case).mean() < 0.8} == set(OWN_CASE.values())
