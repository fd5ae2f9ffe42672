"""Messages are checked field by field, and the page's scripts use only what the schema defines."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from samvideo.errors import PromptError
from samvideo.web import app, frames, messages, uploads
from samvideo.web.annotations import MAX_NAME
from samvideo.web.results import Row
from samvideo.web.state import News, Phase

SCRIPTS = {path.name: path.read_text() for path in sorted(app.STATIC.glob("*.js"))}
ALL = "\n".join(SCRIPTS.values())
SCHEMA = messages.schema()


def found(pattern: str, text: str = ALL) -> set[str]:
    values = set(re.findall(pattern, text))
    assert values, pattern
    return values


def fields(name: str) -> set[str]:
    return set(SCHEMA["$defs"].get(name, SCHEMA["properties"].get(name))["properties"])


def tags(name: str) -> set[str]:
    return set(SCHEMA["properties"][name]["discriminator"]["mapping"])


@pytest.mark.parametrize(
    ("body", "field", "expected", "value"),
    [
        (b'{"do": "box", "object": 1, "frame": 0, "box": [1, 2, 3, "4"]}', "box.3", "valid number", "'4'"),
        (b'{"do": "box", "object": 1, "frame": 0, "box": [1, 2, Infinity, 4]}', "box.2", "finite number", "inf"),
        (b'{"do": "box", "object": 1, "frame": 0, "box": [1, 2, 3]}', "box.3", "required", "[1, 2, 3]"),
        (b'{"do": "click", "object": 1, "frame": 0, "xy": [1, 1], "label": 7}', "label", "equal to 1", "7"),
        (b'{"do": "click", "object": 1, "frame": 0, "xy": [1, 1], "label": true}', "label", "integer", "True"),
        (b'{"do": "clear", "object": 1, "frame": -1}', "frame", "equal to 0", "-1"),
        (b'{"do": "clear", "object": 1, "frame": 1e3}', "frame", "integer", "1000.0"),
        (b'{"do": "remove", "object": 12345678901}', "object", "less than", "12345678901"),
        (b'{"do": "rename", "object": 1, "name": 2}', "name", "string", "2"),
        (b'{"do": "add", "name": "%s"}' % (b"x" * 201), "name", "at most 200", "xxx"),
        (b'{"do": "undo", "steps": 2}', "steps", "not permitted", "2"),
        (b'{"do": "fly"}', "request", "'add', 'rename'", "fly"),
        (b'["undo"]', "request", "object", "undo"),
        (b"{", "request", "Invalid JSON", "{"),
    ],
)
def test_an_error_names_field_expectation_and_value(body: bytes, field: str, expected: str, value: str) -> None:
    with pytest.raises(PromptError) as caught:
        messages.decode(messages.EDIT, body)
    text = str(caught.value)
    assert all(part in text for part in (f"{field}: ", expected, value)), text
    assert len(text) < 250


def test_commands_and_queries() -> None:
    command = messages.decode(messages.COMMAND, b'{"kind": "track", "direction": "both"}')
    assert command == messages.Track(kind="track", direction="both")
    with pytest.raises(PromptError, match=r"direction: .*'up'"):
        messages.decode(messages.COMMAND, b'{"kind": "track", "direction": "up"}')
    assert messages.decode(messages.FRAME, {"index": "7"}) == messages.FrameQuery(index=7, w=1280)
    for index in ("-1", "x", "9" * 5000, "1.5", ""):
        with pytest.raises(PromptError, match="index: "):
            messages.decode(messages.FRAME, {"index": index})


def test_news_replace_rows_and_name_their_suspicion() -> None:
    news = News([(3, 1, Row(0.5, True, 9, "area")), (4, 1, None)], None)
    assert messages.encode(news) == b'{"rows":[[3,1,[0.5,true,9,"area",0]],[4,1,null]],"state":null}'


def test_scripts_use_only_what_the_schema_defines() -> None:
    assert found(r'do: (?:\w+ \? )?"(\w+)"') | {"redo"} == tags("Edit")
    assert found(r'kind: "(\w+)"', SCRIPTS["model.js"] + SCRIPTS["finish.js"]) == tags("Command")
    phases = found(r'phase(?:: | [!=]== )"(\w+)"') | found(r"(\w+): \"[A-Z]", re.findall("names = {.*", ALL)[0])
    assert phases | {"failed"} == {phase.value for phase in Phase}
    assert found(r"\bstate\.(\w+)") <= fields("PageState")
    assert found(r"\bfacts\.(\w+)") <= fields("Facts")
    assert found(r'\.source === "(\w+)"') <= {"preview", "tracked"}
    opened = [names.split(", ") for names in re.findall(r"const \{ ([\w, ]+) \} = (?:this\.model\.)?state;", ALL)]
    assert {name for names in opened for name in names} <= fields("PageState")
    assert re.search(r"const \[(.*)\] = row", ALL)[1].split(", ") == list(Row._fields[:4])  # type: ignore[index]


def test_scripts_and_server_have_the_same_limits() -> None:
    assert found(r"maxLength: (\d+)") == {str(MAX_NAME)}
    assert found(r"size > (\d+) \* 2 \*\* 20") == {str(uploads.MAX_BYTES >> 20)}
    assert found(r"WIDTHS = \[([\d, ]+)\]") == {", ".join(map(str, frames.WIDTHS))}


def test_help_and_import_need_no_schema_library() -> None:
    code = "import sys, samvideo, samvideo.cli.main; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path("/")).returncode == 0
