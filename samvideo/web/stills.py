"""The page for images: each is a frame whose prompts are answered alone, and the files are those of `segment`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from samvideo.errors import ConfigError, SamVideoError
from samvideo.io.base import VideoSource
from samvideo.io.images import ImageSource, read_still, size_stated
from samvideo.object_prompts import number_prompts
from samvideo.run import RunSettings
from samvideo.run_base import StageTimer
from samvideo.segment_run import Images, SegmentRun, SegmentSettings, check_results, find_images
from samvideo.types import VideoInfo

_FRAME = re.compile(r"@(\d+)")


@dataclass(frozen=True)
class StillsSettings(RunSettings):
    """The settings of the page, with those of `samvideo segment`, which decide on the results."""

    images: Images = field(kw_only=True)
    segment: SegmentSettings = field(kw_only=True)

    def open_source(self) -> VideoSource:
        """Open the images as frames."""
        return ImageSource(self.images.paths, self.images.name)

    def folder(self, info: VideoInfo) -> Path:
        """See `Images.folder`."""
        return self.images.folder(self.segment)

    def check_results(self, info: VideoInfo, sources: Sequence[Path]) -> None:
        """See `samvideo.segment_run.check_results`."""
        check_results(replace(self.segment, overwrite=self.overwrite), self.images)

    def open_run(self, info: VideoInfo, timer: StageTimer, sources: Sequence[Path]) -> SegmentRun:
        """Open the result files."""
        texts = tuple(self._named(text) for text in self.prompt_texts)
        settings = replace(self.segment, overwrite=self.overwrite, prompt_texts=texts, labelled=self.labelled)
        return SegmentRun.open(settings, self.images, timer)

    def _named(self, text: str) -> str:
        """`box=1,2,30,40@3#1` as `cat.jpg: box=1,2,30,40#1`."""
        mark = _FRAME.search(text)
        return text if mark is None else f"{self.images.paths[int(mark[1])].name}: {_FRAME.sub('', text)}"


def stills_settings(settings: SegmentSettings) -> StillsSettings:
    """Return the settings of the page for images; prompts are shown as annotations on each image.

    Raises:
        ConfigError: the images differ in size, or more masks are wanted than the page shows.
        VideoError: there is no image.
    """
    if settings.multimask:
        raise ConfigError("the page shows one mask per object: leave --multimask out, or give coordinates")
    images = find_images(settings.sources)
    _check_one_size(images.paths)
    prompts = [
        replace(prompt, frame=index)
        for index, path in enumerate(images.paths)
        for prompt in number_prompts(settings.prompts.of(path.name))
    ]
    return StillsSettings(
        source=images.name,
        model=settings.model,
        options=settings.options,
        out=settings.out,
        save=settings.save,
        prompts=tuple(prompts),
        overwrite=settings.overwrite,
        images=images,
        segment=settings,
    )


def _check_one_size(paths: Sequence[Path]) -> None:
    sizes: dict[tuple[int, int], Path] = {}
    for path in paths:
        try:
            size_wh = size_stated(path) or read_still(path).shape[1::-1]
        except SamVideoError:  # left out by the source
            continue
        sizes.setdefault((size_wh[0], size_wh[1]), path)
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise ConfigError(
            "the page shows images of one size: {} is {}x{}, {} is {}x{}; ".format(one, *first, other, *second)
            + "open them one at a time, or give coordinates"
        )
