"""The simulation of docs/scaling.md keeps to the limits that can be calculated."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("simpy", reason="simpy is missing")
sys.path.insert(0, str(Path(__file__).parents[1] / "demos"))

from scale_sim import Cluster, simulate

SMALL = Cluster(gpus=8, in_flight=6, streams=16)


@pytest.mark.parametrize(
    ("step", "cluster"),
    [
        ("read", replace(SMALL, read=8.0)),
        ("cpu", replace(SMALL, cores=1, cpu=6.0)),
        ("gpu", SMALL),
        ("gpu", replace(SMALL, failures=0.2, stragglers=0.1, slower=3.0)),
        ("write", replace(SMALL, write=9.0)),
    ],
)
def test_the_slowest_step_is_always_busy(step: str, cluster: Cluster) -> None:
    """Throughput is within 4 % of what the servers of that step allow; the others are as busy as that demands."""
    rate, busy = simulate(cluster, clips=4000)
    limits = cluster.limits()
    assert min(limits, key=lambda name: limits[name]) == step == max(busy, key=lambda name: busy[name])
    assert rate == pytest.approx(limits[step], rel=0.04)
    assert busy[step] == pytest.approx(1, abs=0.03)
    for other, limit in limits.items():
        assert busy[other] == pytest.approx(rate / limit, rel=0.06), other


def test_one_clip_at_a_time_takes_the_sum_of_all_steps() -> None:
    cluster = Cluster(gpus=1, in_flight=1, failures=0, stragglers=0)
    rate, _ = simulate(cluster, clips=100)
    assert rate == pytest.approx(1 / (cluster.read + cluster.cpu + cluster.gpu + cluster.write))


def test_failures_and_stragglers_cost_throughput() -> None:
    rates = [simulate(replace(SMALL, failures=f, stragglers=s), 2000)[0] for f, s in ((0, 0), (0.3, 0), (0, 0.2))]
    assert rates[0] > 1.1 * max(rates[1:])
