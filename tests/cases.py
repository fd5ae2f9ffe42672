"""Runs collected fault cases and prints RIGHT or WRONG for each: `python tests/cases.py FOLDER [NAME …]`.

FOLDER holds `inputs/` and `analysis/`, whose scripts print their verdict, and `reliability/`, whose scripts print
what they saw: `EXPECTED` says what that must be. Some need FFmpeg, Chromium, curl, or root for a small file system.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Script and arguments: what its output must match, and must not match.
EXPECTED: dict[str, tuple[str, str]] = {
    "disk_full_overlay.sh": (r"plays [1-9]\d* frames(.|\n)*analyze exit 0", r"plays 0 frames"),
    "disk_full_tracks_json.sh 24k": (r"tracks.json is JSON\nrun.json is JSON(.|\n)*export exit 0", ""),
    "disk_full_tracks_json_nomount.py": (r"frames left: [1-9]", "BROKEN"),
    "evaluate_twice_same_folder.sh": (r"run \d exit 0(.|\n)*failed \{\}", "Traceback"),
    "kill_loses_overlay.sh": (r"overlay\.mp4(.|\n)*run\.json", r"overlay\.mp4\.part"),
    "kill_loses_overlay.sh HUP": (r"overlay\.mp4(.|\n)*run\.json", r"overlay\.mp4\.part"),
    "mask_png_broken_chunk.sh": (r"exit 2", "Traceback|SyntaxError"),
    "nan_weights.sh": (r"^exit [2-4]", "score.:"),
    "object_id_not_whole.sh": (
        r'id 1\.5: exit 2(.|\n)*true: exit 2(.|\n)*"2": exit 2(.|\n)*NaN: exit 2',
        "Traceback",
    ),
    "page_500.sh": (r"^4\d\d$", "Traceback"),
    "page_fd_flood.py": (r"answer b'HTTP(.|\n)*bytes \d{1,4}\n", "no answer"),
    "page_token_in_ps.sh": ("", "token="),
    "prompts_json_nest.sh": (r"exit 2", "Traceback|RecursionError"),
    "ray_no_cluster.sh": (r"exit 2 ", ""),
    "report_broken.sh": (r"only the format: exit 3(.|\n)*no versions: exit [03]", "Traceback"),
    "rmtree_dataset_list.sh": (r"VICTIM ALIVE", "DELETED"),
    "rmtree_dataset_list.sh ../../../victim": (r"VICTIM ALIVE", "DELETED"),
    "rmtree_own_dataset.sh": (r"after: +[1-9]\d* pictures", ""),
    "sav_export_start_stride.sh": (
        r"file says \[(\d+)\S* the masks say \1$(.|\n)*file says \[(\d+)\S* list has \3$",
        "Traceback",
    ),
    "sav_traversal.sh": (r"nothing outside", "WRITTEN OUTSIDE"),
    "score_q_silent.sh": (r"exit 3, printed [1-9]", ""),
    "torn_tracks_sigkill.py": (r"kills: tracks.json broken 0, tracks.csv torn 0", ""),
    "tracks_json_tracebacks.sh": ("^$", "exit 1"),
    # nothing is cached, which the last line of the script does not expect
    **{
        f"weights_poisoned_cache.py {kind}": (r"exit [1-9](.|\n)*FileNotFoundError", "exit 0")
        for kind in ("html", "half", "wrongrange", "gzip", "empty", "endless")
    },
}


def scripts(folder: Path) -> Iterator[tuple[str, list[str], tuple[str, str]]]:
    """Yield name, command, and what the output must and must not match."""
    for path in sorted([*(folder / "inputs").glob("w*.py"), *(folder / "analysis").glob("*.sh")]):
        yield path.stem, ["bash" if path.suffix == ".sh" else sys.executable, str(path)], (r"^RIGHT", r"^WRONG")
    for name, patterns in EXPECTED.items():
        script, *arguments = name.split()
        path = folder / "reliability" / script
        if path.exists():
            yield name, ["bash" if path.suffix == ".sh" else sys.executable, str(path), *arguments], patterns


def environment(folder: Path, work: Path) -> dict[str, str]:
    """The variables that the scripts read; `work` gets a demo clip, its run and a small data set."""
    command = str(Path(sys.executable).with_name("samvideo"))
    data = folder.resolve().parent / "data"
    names = {"SAMVIDEO": command, "S": command, "PY": sys.executable, "SHARED": str(data.parent), "WORK": str(work)}
    names |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "D": str(work / "ev")}
    names |= {"RUN": str(work / "demo_tracked"), "VID": str(work / "demo.mp4")}
    subprocess.run([command, "demo-clip", str(work / "demo.mp4")], check=True, capture_output=True)
    prompt = "box=60,130,225,305"
    run = [command, "track", "demo.mp4", "--prompt", prompt, "--model", "flow", "--end", "12", "-q"]
    subprocess.run(run, check=True, cwd=work)
    for kind in ("JPEGImages", "Annotations"):
        (work / "ev" / kind).mkdir(parents=True)
        (work / "ev" / kind / "bear").symlink_to(data / "davis2016-train-240p" / kind / "bear")
    return os.environ | names


def main(folder: Path, chosen: list[str]) -> int:
    """Run the cases, all or those whose name begins with one of `chosen`; return the number of wrong ones."""
    wrong = 0
    with tempfile.TemporaryDirectory() as work:
        variables = environment(folder, Path(work))
        for name, command, (must, must_not) in scripts(folder):
            if chosen and not name.startswith(tuple(chosen)):
                continue
            extra = {"V": str(Path(work) / "demo.mp4")} if name.startswith("sav_export") else {}
            environ = variables | extra
            done = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=600, errors="replace", check=False
            )
            output = done.stdout + done.stderr
            right = re.search(must, output, re.M) and not (must_not and re.search(must_not, output, re.M))
            wrong += not right
            print("RIGHT" if right else "WRONG", name, flush=True)
            if not right:
                print("\n".join("    " + line[:200] for line in output.splitlines()[-8:]), flush=True)
    print(f"{wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]), sys.argv[2:])))
