"""Published scores, for comparison; none of them was measured with this package."""

from typing import NamedTuple


class Published(NamedTuple):
    """A method on a split: J&F (G for YouTube-VOS) in percent, and its speed if the source gives it."""

    dataset: str
    split: str
    method: str
    percent: float
    fps: float | None
    hardware: str
    source: str


_A100 = "A100"
# EdgeTAM's SAM 2 rows are of weights trained on the full mix, not of the released ones.
_SAM2 = "facebookresearch/sam2, README.md (A100, compiled)"
_EDGETAM = "facebookresearch/EdgeTAM, README.md"
_EFFICIENT = "EfficientTAM, arXiv 2411.18933, table 1"
_SEC = "OpenIXCLab/SeC, README.md"
_SAM3 = "facebookresearch/sam3, RELEASE_SAM3p1.md"
_LONG = "Mark12Ding/SAM2Long, README.md"
_SURGICAL = "Surgical SAM 2, arXiv 2408.07931 (RTX A6000)"
_SPLITS = {
    "MOSE val": ("mose", "valid"),
    "DAVIS17 val": ("davis2017", "val"),
    "SA-V val": ("sav", "val"),
    "SA-V test": ("sav", "test"),
    "YTVOS19 val": ("youtubevos", "valid"),
    "LVOS v1 val": ("lvos", "valid"),
    "LVOS v2 val": ("lvos", "valid"),
    "EndoVis17": ("endovis", "valid"),
    "EndoVis18": ("endovis", "valid"),
}

# Per source: the columns, then method, frames per second, hardware, and the numbers in that order.
_TABLES: tuple[tuple[str, tuple[str, ...], tuple[tuple[str, float | None, tuple[float | None, ...]], ...]], ...] = (
    (
        _SAM2,
        ("SA-V test", "MOSE val", "LVOS v2 val"),
        (
            ("SAM 2.1 tiny", 91.2, (76.5, 71.8, 77.3)),
            ("SAM 2.1 small", 84.8, (76.6, 73.5, 78.3)),
            ("SAM 2.1 base+", 64.1, (78.2, 73.7, 78.2)),
            ("SAM 2.1 large", 39.5, (79.5, 74.6, 80.6)),
            ("SAM 2 tiny", 91.5, (75.0, 70.9, 75.3)),
            ("SAM 2 small", 85.6, (74.9, 71.5, 76.4)),
            ("SAM 2 base+", 64.8, (74.7, 72.8, 75.8)),
            ("SAM 2 large", 39.7, (76.0, 74.6, 79.8)),
        ),
    ),
    (
        _EDGETAM,
        ("MOSE val", "DAVIS17 val", "SA-V val", "SA-V test", "YTVOS19 val"),
        (
            ("XMem", 61.2, (59.6, 86.0, 60.1, 62.3, 85.6)),
            ("DEVA", 65.2, (66.0, 87.0, 55.4, 56.2, 85.4)),
            ("Cutie base", 65.0, (69.9, 87.9, 60.7, 62.7, 87.0)),
            ("Cutie base+", 57.2, (71.7, 88.1, 61.3, 62.8, 87.5)),
            ("SAM 2 base+ (full mix)", 64.8, (75.8, 90.9, 73.6, 74.1, 88.4)),
            ("SAM 2.1 base+ (full mix)", 64.1, (76.6, 90.2, 76.8, 77.0, 88.6)),
            ("EdgeTAM", 150.9, (70.0, 87.7, 72.3, 71.7, 86.2)),
        ),
    ),
    (
        _EFFICIENT,
        ("MOSE val", "DAVIS17 val", "LVOS v1 val", "SA-V test", "YTVOS19 val"),
        (
            ("EfficientTAM Ti/2", 109.4, (68.4, 88.4, 66.1, 70.8, 87.1)),
            ("EfficientTAM Ti", 96.2, (69.3, 89.1, 69.6, 70.7, 86.7)),
            ("EfficientTAM S/2", 109.4, (70.8, 88.6, 72.1, 74.0, 87.2)),
            ("EfficientTAM S", 85.0, (71.4, 89.2, 73.4, 74.5, 87.2)),
            ("EfficientTAM S 512", 134.0, (None, 87.2, None, 71.5, None)),
        ),
    ),
    (
        _LONG,
        ("SA-V val", "SA-V test", "LVOS v2 val"),
        (
            ("SAM2Long (2.1 tiny)", None, (78.9, 79.0, 82.4)),
            ("SAM2Long (2.1 small)", None, (79.6, 80.4, 84.3)),
            ("SAM2Long (2.1 base+)", None, (80.5, 80.8, 85.2)),
            ("SAM2Long (2.1 large)", None, (81.1, 81.2, 85.3)),
        ),
    ),
    (
        _SEC,
        ("SA-V val", "SA-V test", "LVOS v2 val", "MOSE val", "DAVIS17 val", "YTVOS19 val"),
        (
            ("SAM 2.1 large", None, (78.6, 79.6, 84.1, 74.5, 90.6, 88.7)),
            ("SAMURAI large", None, (79.8, 80.0, 84.2, 72.6, 89.9, 88.3)),
            ("SeC-4B", None, (82.7, 81.7, 86.5, 75.3, 91.3, 88.6)),
        ),
    ),
    (
        _SAM3,
        ("SA-V val", "SA-V test", "LVOS v2 val", "MOSE val", "DAVIS17 val", "YTVOS19 val"),
        (
            ("SAM 3", None, (83.5, 84.4, 88.5, 78.4, 92.2, 89.7)),
            ("SAM 3.1", None, (83.8, 85.1, 89.2, 79.6, 92.7, 89.3)),
        ),
    ),
    (
        _SURGICAL,
        ("EndoVis17", "EndoVis18"),
        (("SAM 2, first mask", 29.1, (87.5, 78.5)), ("SAM 2 + frame pruning, first mask", 33.0, (87.2, 81.9))),
    ),
)
_AMBIGUOUS = ("LVOS v1 val", "LVOS v2 val", "EndoVis17", "EndoVis18")


def published(dataset: str, split: str) -> list[Published]:
    """Return the published scores for a split, best first."""
    rows = []
    for source, columns, methods in _TABLES:
        hardware = "RTX A6000" if source == _SURGICAL else _A100
        for method, fps, percents in methods:
            for column, percent in zip(columns, percents, strict=True):
                if _SPLITS[column] != (dataset, split) or percent is None:
                    continue
                label = f"{method} [{column.removesuffix(' val')}]" if column in _AMBIGUOUS else method
                rows.append(Published(dataset, split, label, percent, fps, hardware if fps else "", source))
    return sorted(rows, key=lambda row: -row.percent)
