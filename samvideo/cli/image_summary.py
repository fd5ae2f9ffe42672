"""What `samvideo evaluate` prints of an evaluation on images."""

from pathlib import Path
from typing import Any


def image_summary(results: dict[str, Any], path: Path) -> str:
    """Summarise results in a few lines: protocol, scores by set and size, failures, path of the file."""
    from samvideo.evaluation.image_results import main_measures

    dataset, scores, protocol = results["dataset"], results["scores"], results["protocol"]
    shown = main_measures(protocol["measures"]) if protocol["prompter"] else protocol["measures"]
    title = f"{'scores' if protocol['prompter'] else 'IoU'} in percent, standard error in brackets"
    lines = [
        f"{dataset['name']} {dataset['split']} ({dataset['description']}), {results['model']['name']}",
        f"protocol: {protocol['description']}",
        f"{scores['objects']} objects in {scores['images']} images, {results['left_out']} left out (crowds)",
        f"{title:56}" + "".join(f"{measure:>14}" for measure in shown),
    ]
    sets = results["sets"] if len(results["sets"]) > 1 else {}
    parts = {"all": scores, **sets, **results["sizes"]}
    for name, part in parts.items():
        if part["objects"]:
            cells = _cells({measure: part["measures"][measure] for measure in shown}, "iou")
            lines.append(f"{name:28.28} {part['objects']:>6} objects {'':12}" + cells)
    if any(found["oracle"] > found["iou"] for found in scores["measures"].values()):
        lines.append(f"{'all, best candidate':56}" + _cells(scores["measures"], "oracle"))
    lines += _by_count(scores["measures"]) if protocol["prompter"] else []
    timing = results["timing"]
    if timing["images"] and timing["prompts"]:
        lines.append(
            f"{timing['embed_seconds'] / timing['images']:.3f} s per image, "
            f"{timing['prompt_seconds'] / timing['prompts']:.4f} s per prompt"
        )
    elif timing["images"] and protocol["prompter"]:
        lines.append(
            f"{timing['median_seconds']:.3f} s (median) and "
            f"{(results['proposals'] or 0) / timing['images']:.1f} proposals per image"
        )
    lines += [f"FAILED {name}: {failure['message']}" for name, failure in results["failed"].items()]
    return "\n".join([*lines, f"written to {path}"])


def _by_count(measures: dict[str, Any]) -> list[str]:
    """The scores of the first 10, 50, ... proposals: a line for each kind."""
    kinds: dict[str, dict[str, Any]] = {}
    for name, found in measures.items():
        kind, count = name.split("@")
        kinds.setdefault(kind, {})[count] = found
    counts = next(iter(kinds.values()), {})
    title = f"{'all, of the first ... proposals':56}" + "".join(f"{count:>14}" for count in counts)
    return [title, *(f"{kind:56}" + _cells(found, "iou") for kind, found in kinds.items())]


def _cells(measures: dict[str, Any], key: str) -> str:
    cells = []
    for found in measures.values():
        error = found["error"] if key == "iou" else None
        cells.append(f"{100 * found[key]:.1f}" + (f" ({100 * error:.1f})" if error is not None else ""))
    return "".join(f"{cell:>14}" for cell in cells)
