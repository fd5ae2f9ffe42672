import re
from collections import Counter
from pathlib import Path

import pytest
from evaluation_helpers import RepeatTracker
from scoring_speed import main as speed_main
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.evaluate import Evaluation, choose_sequences, evaluate
from samvideo.evaluation.published import published
from samvideo.evaluation.report import worst_frames, write_report
from samvideo.evaluation.results import read_results, write_json
from samvideo.evaluation.score_tables import ScoreTable, load_runs
from samvideo.evaluation.video import Task

FIXTURES = Path(__file__).parent / "fixtures"
NAME = "repeat <b> {body} {{ x }} $y$ 手"


@pytest.fixture
def run_folder(davis: Path, tmp_path: Path) -> Path:
    task = Task("davis2016", davis, "val", "mask", tmp_path / "run")
    evaluate(Evaluation(task, NAME, RepeatTracker, choose_sequences(task.open())))
    return task.out


def test_a_page_that_needs_nothing_else(run_folder: Path, tmp_path: Path) -> None:
    page, markdown, latex = write_report([run_folder, run_folder / "results.json"], tmp_path / "report.html")
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<script" not in text
    assert text.count("repeat &lt;b&gt; {body} {{ x }} $y$ 手") >= 8
    assert "<b>" not in text
    assert not [name for name, count in Counter(re.findall(r' id="([^"]*)"', text)).items() if count > 1]
    assert text.count("data:image/jpeg;base64") >= 6
    assert text.count('aria-label="') == len(re.findall(r"<svg", text)) == 7
    for run in load_runs([run_folder, run_folder / "results.json"]):
        assert len(re.findall(rf"<path[^>]*fill: none; stroke: {run.colour}", text)) == 8  # 4 curves, 4 legends
    assert "every frame but the first and the last" in text
    assert "cores" in text
    assert markdown.read_text().count("measured, 3 sequences") == 2
    assert "\\begin{tabular}" in latex.read_text()
    assert [entry.label for entry in load_runs([run_folder, run_folder / "results.json"])] == [
        f"{NAME} (run)",
        f"{NAME} (results.json)",
    ]


def test_charts_as_files(run_folder: Path, tmp_path: Path) -> None:
    charts = tmp_path / "charts"
    for _ in range(2):  # its own files are replaced
        paths = write_report([run_folder], tmp_path / "r.html", charts)[3:]
    assert [path.name for path in paths] == [
        f"davis2016-val-{kind}.svg" for kind in ("speed", "sequence", "size", "reliability")
    ]
    assert all(path.read_text().startswith("<svg") for path in paths)
    assert "| dog | 74.2 | 1 |" in (tmp_path / "r.md").read_text()
    paths[0].write_text("<svg>mine</svg>")
    with pytest.raises(ConfigError, match="is not a chart"):
        write_report([run_folder], tmp_path / "r.html", charts)


def test_published_numbers_stand_beside_and_are_marked(run_folder: Path, tmp_path: Path) -> None:
    results = read_results(run_folder)
    results["dataset"] |= {"name": "davis2017", "split": "val"}
    results["failed"] = {"cat": {"message": "its tail is missing", "exit_code": 3}}
    write_json(tmp_path / "other/results.json", results)
    page, markdown, latex = (path.read_text() for path in write_report([tmp_path / "other"], tmp_path / "r.html"))
    for text in (page, markdown):
        assert "published: facebookresearch/EdgeTAM" in text
        assert "87.7" in text
    assert "EdgeTAM (published) & 87.7" in latex
    assert "EdgeTAM (A100)" in page
    assert "its tail is missing" in page
    assert "No images" in page


def test_published_numbers_are_those_of_the_field() -> None:
    best = published("davis2017", "val")
    assert (best[0].method, best[0].percent) == ("SAM 3.1", 92.7)
    assert {row.method: row.percent for row in published("sav", "test")}["SAM 2.1 tiny"] == 76.5
    assert {row.method: row.fps for row in published("mose", "valid")}["EdgeTAM"] == 150.9
    assert all(row.source for split in ("val", "test") for row in published("sav", split))
    assert published("davis2016", "val") == []
    assert "[EndoVis18]" in published("endovis", "valid")[-1].method


@pytest.mark.parametrize("name", ["", "_", "__made_elsewhere"])
def test_names_that_charts_would_leave_out(name: str, run_folder: Path, tmp_path: Path) -> None:
    results = read_results(run_folder)
    results["model"]["name"] = name
    write_json(tmp_path / "results.json", results)
    assert (name.strip("_") or "unnamed") in write_report([tmp_path], tmp_path / "r.html")[0].read_text()


def test_worst_frames_are_not_all_the_same_moment() -> None:
    values = [0.9] * 40
    values[10:13] = [0.2, 0.1, 0.2]
    values[30] = 0.3
    chosen = worst_frames(values)
    assert {11, 30} <= set(chosen)
    assert 10 not in chosen
    assert chosen == sorted(chosen)


def test_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"a\.json: .* a results\.json of samvideo"):
        write_report([tmp_path / "a.json"], tmp_path / "r.html")
    with pytest.raises(ConfigError, match="at least one"):
        write_report([], tmp_path / "r.html")


def test_the_commands(davis: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out = tmp_path / "out"
    done = runner.invoke(app, ["evaluate", "davis2016", str(davis), "--limit", "2", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "J&F" in done.stdout
    assert "protocol: ground truth mask" in done.stdout
    scored = runner.invoke(
        app,
        [
            "score",
            "davis2016",
            str(davis),
            str(out / "predictions"),
            "--sequences",
            "bear",
            "-o",
            str(tmp_path / "s.json"),
        ],
    )
    assert scored.exit_code == 0, scored.output
    assert (tmp_path / "s.csv").exists()
    page = runner.invoke(app, ["report", str(out), str(tmp_path / "s.json"), "-o", str(tmp_path / "p.html")])
    assert page.exit_code == 0, page.output
    (out / "predictions/bear/00002.png").unlink()
    failed = runner.invoke(
        app, ["score", "davis2016", str(davis), str(out / "predictions"), "-o", str(tmp_path / "t.json")]
    )
    assert failed.exit_code == 3
    assert "FAILED bear" in failed.stdout
    wrong = runner.invoke(app, ["evaluate", "mose", str(davis), "-o", str(tmp_path / "x")])
    assert wrong.exit_code == 3
    assert "looks like davis2016" in wrong.stderr
    assert runner.invoke(app, ["evaluate", "davis2016", str(davis), "--objects", "a", "-o", "y"]).exit_code == 2


def test_ray_may_stand_without_an_address(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("samvideo.evaluation.cluster.RayPool", lambda *args: seen.append(args))
    monkeypatch.setattr("samvideo.evaluation.evaluate.evaluate", lambda *args: read_results(tmp_path))
    command = ["evaluate", "davis2016", str(davis), "-o", str(tmp_path / "out")]
    for more in (["--ray"], ["--ray", "--workers", "2"], ["--ray", "auto"]):
        CliRunner().invoke(app, [*command, *more])
    assert seen == [(None, None), (None, 2), ("auto", None)]


def test_scoring_plain_folders_by_command_gives_the_official_numbers(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = ["score", "folder", str(FIXTURES / "gt"), str(FIXTURES / "pred"), "-o", str(out), "--quiet"]
    assert CliRunner().invoke(app, command).exit_code == 0
    import json

    expected = json.loads((FIXTURES / "expected.json").read_text())
    found = read_results(out)["sequences"]
    for sequence, numbers in expected.items():
        for number, values in numbers["davis"].items():
            for key, value in values.items():
                assert found[sequence]["objects"][number][key] == pytest.approx(value, rel=0, abs=1e-12), key


def test_the_speed_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    speed_main([str(FIXTURES), "--rounds", "1"])
    printed = capsys.readouterr().out
    assert "schoolgirls" in printed
    assert "times the speed of the published algorithm" in printed
    with pytest.raises(SystemExit):
        speed_main([str(FIXTURES / "gt")])


def test_any_name_is_one_cell_of_a_table() -> None:
    table = ScoreTable(["method", "J", "source"], [["a\\b $x$ {y} ^~_&", "50.0", "measured"]], [])
    row = r"a\textbackslash{}b \$x\$ \{y\} \textasciicircum{}\textasciitilde{}\_\& & 50.0 \\ % measured"
    assert row in table.latex("t").splitlines()
