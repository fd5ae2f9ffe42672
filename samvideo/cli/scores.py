"""The summary that `evaluate` and `score` print."""

from pathlib import Path
from typing import Any


def summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, rule, scores, failures, path of the file."""
    scores, dataset = results["scores"], results["dataset"]
    lines = [
        f"{dataset['name']} {dataset['split']}, {results['model']['name']}",
        f"protocol: {results['protocol']['description']}",
        f"scored:   {dataset['rule']}",
    ]
    shown = [(key, value) for key, value in scores.items() if key != "objects" and value is not None]
    lines += [
        "  ".join(f"{key} {100 * value:.2f}" for key, value in shown[k : k + 4]) for k in range(0, len(shown), 4)
    ]
    lines.append(f"{scores['objects']} objects in {len(results['sequences'])} sequences")
    if results["timing"] and results["timing"]["fps"]:
        lines.append(f"{results['timing']['fps']:.2f} frames per second in the tracker")
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])
