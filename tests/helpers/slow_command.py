"""The command, slower, for tests that interrupt it."""

# The command with states saved at every frame, and slower, so that a signal hits it in mid-run.
SLOW = """
import time
from samvideo import resume
from samvideo.cli.main import main
from samvideo.trackers.flow import FlowTracker
step = FlowTracker.step
def slow_step(self, *arguments, **others):
    time.sleep(0.03)
    return step(self, *arguments, **others)
FlowTracker.step, resume.SAVE_SECONDS, resume.SAVE_SHARE = slow_step, 0.0, 1e9
if __name__ == "__main__":
    main()
"""
