"""What a training writes: a folder belongs to the recipe that began there."""

import json
from pathlib import Path

import pytest

from samvideo.errors import ConfigError
from samvideo.training.files import check_output, claimed, record_file


def test_a_training_that_began_meanwhile_keeps_its_record(tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    check_output(output, "second")
    with claimed(output, "first"), pytest.raises(ConfigError, match="another samvideo process"):
        with claimed(output, "second"):
            pytest.fail("the folder is locked")
    with pytest.raises(ConfigError, match="of another recipe"), claimed(output, "second"):
        pytest.fail("the folder is of the first one")
    assert record_file(output).read_text() == "first"
    with claimed(output, "first"):
        assert record_file(output).read_text() == "first"


def test_what_differs_from_an_earlier_recipe_is_named(tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    with claimed(output, json.dumps({"seed": 1, "fit": {"steps": 400, "rate": 0.1}})):
        pass
    with pytest.raises(ConfigError, match=r"whose fit\.steps is 400, now 800; train is 'missing', now 'all': give"):
        check_output(output, json.dumps({"seed": 1, "fit": {"steps": 800, "rate": 0.1}, "train": "all"}))
