"""Prompts that ask for a search."""

import pytest

from samvideo.errors import ConfigError
from samvideo.search_settings import split_searches


def test_searches_are_told_from_other_prompts() -> None:
    assert split_searches(["box=1,2,3,4"]) == (False, None, ["box=1,2,3,4"])
    assert split_searches(["everything", "box"]) == (True, None, ["box"])
    assert split_searches(["text=person; ball ;"]) == (True, ("person", "ball"), [])


@pytest.mark.parametrize(
    ("prompts", "message"), [(["text=;"], "names nothing"), (["text=a", "everything"], "one expected")]
)
def test_bad_searches_are_refused(prompts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_searches(prompts)
