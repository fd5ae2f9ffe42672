"""How many clips a cluster tracks, and what limits it: `python demos/scale_sim.py [-o CHART.svg]`.

A clip is read from storage that all machines share, decoded on a core, tracked on a GPU, and its masks are written.
docs/scaling.md says where the numbers come from.
"""

import argparse
import random
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import simpy

from samvideo.reporting.charts import Series, curves_from_zero

COLOURS = {"read": "#0072b2", "cpu": "#e69f00", "gpu": "#009e73", "write": "#cc79a7"}
SIZES = (1, 50, 100, 200, 300, 400, 500)


@dataclass(frozen=True)
class Cluster:
    """A cluster, and the seconds that one clip takes in each step without failures.

    Attributes:
        gpus: each tracks one clip at a time.
        cores: of the processor, for each GPU; each decodes one clip at a time, and encodes its masks.
        streams: reads at a time from the storage, and as many writes, each at its full speed.
        read, cpu, gpu, write: seconds of a clip.
        failures: share of attempts that fail at any moment of tracking, and start again with reading.
        stragglers, slower: share of attempts which take a GPU `slower` times as long.
        in_flight: clips that are worked on for each GPU; more than 1, so that it need not wait for the next one.
    """

    gpus: int = 100
    cores: int = 8
    streams: int = 10
    read: float = 0.09
    cpu: float = 1.4
    gpu: float = 2.6
    write: float = 0.04
    failures: float = 0.01
    stragglers: float = 0.02
    slower: float = 4.0
    in_flight: int = 4

    @property
    def servers(self) -> dict[str, int]:
        """How many clips may be in each step at a time."""
        return {"read": self.streams, "cpu": self.gpus * self.cores, "gpu": self.gpus, "write": self.streams}

    def limits(self) -> dict[str, float]:
        """Clips per second that each step alone allows: its servers by the mean seconds that a clip takes there."""
        failed = self.failures / (1 - self.failures)  # attempts of a clip, on average; each fails half way
        attempt = self.gpu * (1 + self.stragglers * (self.slower - 1))
        seconds = {"read": self.read * (1 + failed), "cpu": self.cpu * (1 + failed)}
        seconds |= {"gpu": attempt * (1 + failed / 2), "write": self.write}
        return {step: servers / seconds[step] for step, servers in self.servers.items()}


def simulate(cluster: Cluster, clips: int, seed: int = 0) -> tuple[float, dict[str, float]]:
    """Clips per second, and the share of the time that the servers of each step work, after the first fifth."""
    env, rng, counted = simpy.Environment(), random.Random(seed), clips // 5
    steps = {step: simpy.Resource(env, servers) for step, servers in cluster.servers.items()}
    busy, done, begin, finished = dict.fromkeys(steps, 0.0), 0, 0.0, env.event()

    def use(step: str, seconds: float) -> Generator[Any, Any, None]:
        with steps[step].request() as turn:
            yield turn
            yield env.timeout(seconds)
        if done >= counted:
            busy[step] += min(seconds, env.now - begin)

    def work() -> Generator[Any, Any, None]:
        nonlocal done, begin
        while True:
            failed = True
            while failed:
                yield from use("read", cluster.read)
                yield from use("cpu", cluster.cpu)
                failed, slow = rng.random() < cluster.failures, rng.random() < cluster.stragglers
                share = rng.random() if failed else 1.0
                yield from use("gpu", cluster.gpu * share * (cluster.slower if slow else 1.0))
            yield from use("write", cluster.write)
            done += 1
            if done == counted:
                begin = env.now
            if done == clips:
                finished.succeed()

    for _ in range(cluster.gpus * cluster.in_flight):
        env.process(work())
    env.run(finished)
    seconds = env.now - begin
    return (clips - counted) / seconds, {s: busy[s] / seconds / n for s, n in cluster.servers.items()}


def main() -> None:
    """Print a table over the number of GPUs, and draw how busy each step is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--clips", type=int, default=30, help="for each GPU; at least 2000")
    options = parser.parse_args()
    rows = []
    print("GPUs  clips/s  limit  limited by  days for 10 million")
    for cluster in (replace(Cluster(), gpus=gpus) for gpus in SIZES):
        rate, busy = simulate(cluster, max(2000, options.clips * cluster.gpus))
        limits = cluster.limits()
        step = min(limits, key=lambda name: limits[name])
        rows.append(busy)
        print(f"{cluster.gpus:4}{rate:9.2f}{limits[step]:7.2f}  {step:10}{1e7 / rate / 86400:9.1f}")
    if options.out:
        series = [Series(s, c, SIZES, [100 * row[s] for row in rows]) for s, c in COLOURS.items()]
        options.out.write_text(curves_from_zero(series, "GPUs", "busy, percent of the time"), encoding="utf-8")


if __name__ == "__main__":
    main()
