"""Track and analyse a folder of surgical videos: `python demos/surgical_batch.py FOLDER -o OUT [--ray]`.

`case.mp4` is tracked from `case.prompts.json` (as `samvideo demo-clip` writes it) into `OUT/case`, with a report.
`--workers` spreads videos over processes, `--ray` over a Ray cluster (`pip install ray`). `OUT/all.csv` joins them.
"""

import argparse
import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def one(video: Path, out: Path, model: str) -> str:
    """Track and analyse one video; returns an error message, or an empty string."""
    results = str(out / video.stem)
    for command in (
        ["track", str(video), "-p", str(video.with_suffix(".prompts.json")), "--model", model, "-o", results],
        ["analyze", results, "--video", str(video)],
    ):
        arguments = [sys.executable, "-m", "samvideo", *command, "--overwrite", "-q"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{video.name}: {done.stderr.strip()}"
    return ""


def main() -> None:
    """Process all videos and join their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    prompted = {path.name.removesuffix(".prompts.json") for path in options.folder.glob("*.prompts.json")}
    videos = sorted(
        p for p in options.folder.iterdir() if p.stem in prompted and p.suffix != ".json" and p.is_file()
    )
    jobs = [(video, options.out, options.model) for video in videos]
    if options.ray:
        import ray

        errors = ray.get([ray.remote(one).remote(*job) for job in jobs])
    else:
        with ThreadPoolExecutor(options.workers) as pool:  # each thread waits for a process
            errors = list(pool.map(one, *zip(*jobs, strict=True)))
    tables = [path for video in videos if (path := options.out / video.stem / "analysis/objects.csv").exists()]
    rows = [(p.parents[1].name, row) for p in tables for row in csv.DictReader(p.read_text("utf-8").splitlines())]
    with (options.out / "all.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["video", *(rows[0][1] if rows else ())])
        writer.writeheader()
        writer.writerows({"video": video, **row} for video, row in rows)
    print(options.out / "all.csv", *filter(None, errors), sep="\n")


if __name__ == "__main__":
    main()
