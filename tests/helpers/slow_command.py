"""The command, slower, for tests that interrupt it."""

_TEXT = """
import time
from samvideo import resume
from samvideo.cli.main import main
from samvideo.trackers.flow import FlowTracker
step = FlowTracker.step
def slow_step(self, *arguments, **others):
    time.sleep(PAUSE)
    return step(self, *arguments, **others)
FlowTracker.step, resume.SAVE_SECONDS, resume.SAVE_SHARE = slow_step, 0.0, 1e9
if __name__ == "__main__":
    main()
"""


def slow_command(seconds: float = 0.03) -> str:
    """A program that is the command, slower and with the state saved at each frame: a signal hits it in mid-run."""
    return _TEXT.replace("PAUSE", str(seconds))
