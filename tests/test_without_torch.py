"""Trackers, memory banks and policies run where torch is not installed, on a runtime made of NumPy."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "timm", "hiera", "safetensors"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, NoTorch())
sys.path.insert(0, sys.argv[1])

import numpy as np
from fake_runtime import FakeRuntime
from samvideo.memory.d4sm import D4smPolicy
from samvideo.memory.dam4sam import Dam4SamPolicy
from samvideo.memory.fifo import FifoPolicy
from samvideo.memory.pruning import PruningPolicy
from samvideo.memory.samurai import SamuraiPolicy
from samvideo.specs import SPECS
from samvideo.trackers.base import Tracker
from samvideo.trackers.sam import SamTracker
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import Box, Frame, Points

assert "edgetam" in SPECS
size = 64, 48
y, x = np.mgrid[:size[1], :size[0]]

def frame(index):
    rgb = np.full((*size[::-1], 3), 90, np.uint8)
    for cx, colour in ((10 + index, (220, 40, 40)), (50 - index, (40, 40, 220))):
        rgb[(x - cx) ** 2 + (y - 24) ** 2 < 36] = colour
    return Frame(index, index / 25, rgb)

POLICIES = [FifoPolicy(), PruningPolicy(), PruningPolicy(published=True)]
for policy in (*POLICIES, SamuraiPolicy(), Dam4SamPolicy(), D4smPolicy()):
    tracker = SamTracker(FakeRuntime(policy, size))
    assert isinstance(tracker, Tracker)
    prompts = [Box((4, 18, 16, 30)), Points([(47, 24)], frame=3)]
    results = [r for _, r in propagate(map(frame, range(30)), tracker, PromptSchedule(prompts))]
    assert results[-1].object_ids == (1, 2)
    assert all(results[-1].masks.sum((1, 2)) > 60), results[-1]
    centre = np.argwhere(results[-1].mask(1)).mean(0)
    assert abs(centre[1] - 39) < 2, centre
    saved = tracker.state()
    other = SamTracker(FakeRuntime(policy, size))
    other.restore(saved)
    assert (other.step(frame(30)).masks == tracker.step(frame(30)).masks).all()
    entries = tracker.objects[1].best.bank.entries
    assert len(entries) <= 7 + 15
assert not any(name.split(".")[0] == "torch" for name in sys.modules)
print("tracked without torch")
"""


def test_trackers_and_policies_run_without_torch() -> None:
    helpers = Path(__file__).parent / "helpers"
    done = subprocess.run([sys.executable, "-c", SCRIPT, helpers], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tracked without torch" in done.stdout
