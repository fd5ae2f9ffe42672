"""Recipes of the bundled model: what each stage of its training sees, for how long."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from samvideo.errors import ConfigError
from samvideo.training.engine import Stage
from samvideo.training.teacher import TeacherConfig


@dataclass(frozen=True)
class NanoStage:
    """One stage of the curriculum.

    Attributes:
        side: of the clips' frames, in pixels.
        length: frames of a clip.
        clips: of a step, with up to two objects each.
        windows, pictures: prompted pictures of a step, at `prompt_side`.
        prompt_side: in pixels.
        fit: steps and rates.
        frozen: stages of the trunk, from its stem on, that stay as they are: the finest maps take the most time.
    """

    side: int
    length: int
    clips: int
    windows: int
    pictures: int
    prompt_side: int
    fit: Stage
    frozen: int = 0

    def changed(self, steps: int | None, clips: int | None) -> "NanoStage":
        """With other numbers of steps and clips; windows and pictures remain in proportion to the clips."""
        stage = self if steps is None else replace(self, fit=replace(self.fit, steps=steps))
        if clips is None:
            return stage
        windows, pictures = (max(1, round(count * clips / self.clips)) for count in (self.windows, self.pictures))
        return replace(stage, clips=clips, windows=windows, pictures=pictures)


@dataclass(frozen=True)
class Recipe:
    """What a training depends on beside its inputs.

    Attributes:
        stages: in their order; each ends with a file from which the next goes on.
        seed: of everything random.
        terms: which groups of still images and clips: "open", "unstated".
        drawn: pictures with drawn objects, beside the data, see `draw_shots`.
        fold: K and N: the scenes of fold K of N are left out as well, for cross-validation.
        teacher: how much it counts, if there is one.
    """

    stages: tuple[NanoStage, ...]
    seed: int = 1
    terms: tuple[str, ...] = ("open",)
    drawn: int = 300
    fold: tuple[int, int] | None = None
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    def changed(self, steps: int | None = None, clips: int | None = None) -> "Recipe":
        """With other numbers of steps and clips in every stage."""
        return replace(self, stages=tuple(stage.changed(steps, clips) for stage in self.stages))


@dataclass(frozen=True)
class Inputs:
    """What a training reads.

    Attributes:
        objects: folders of still images with masks.
        videos: folders of annotated clips, in the layout of DAVIS.
        backbone: the published weights of the trunk; needed without `init`.
        init: weights of the whole model to start from.
        teacher: MODEL or MODEL=FILE, a teacher for prompts.

    Raises:
        ConfigError: nothing to learn from, or not one thing to start from.
    """

    objects: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    backbone: Path | None = None
    init: Path | None = None
    teacher: str | None = None

    def __post_init__(self) -> None:
        if not self.objects and not self.videos:
            raise ConfigError("no data: folders of still images, of videos, or of both expected")
        if (self.backbone is None) == (self.init is None):
            raise ConfigError("either a backbone or weights to start from expected, not both")


RECIPES = {
    # 2 cores: at most two hours a stage
    "cpu": Recipe(
        (
            NanoStage(256, 4, 4, 8, 4, 256, Stage(2400, rate=1.5e-3)),
            NanoStage(320, 5, 3, 6, 3, 320, Stage(1700, rate=6e-4)),
            NanoStage(448, 4, 2, 4, 2, 320, Stage(1900, rate=2e-4)),
        )
    ),
    # 2 cores: an hour in all, for cross-validation and second seeds
    "short": Recipe((NanoStage(256, 4, 4, 8, 4, 256, Stage(1300, rate=1.5e-3)),)),
    # one GPU of 80 GB
    "cuda": Recipe(
        (
            NanoStage(320, 5, 16, 32, 16, 320, Stage(6000, rate=1.5e-3)),
            NanoStage(448, 5, 8, 16, 8, 320, Stage(3000, rate=3e-4)),
        )
    ),
}
