import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from evaluation_helpers import number, write_frames, write_masks


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """DAVIS 2016, three short sequences."""
    root = tmp_path / "davis"
    for sequence, count in (("bear", 6), ("cow", 5), ("dog", 4)):
        write_frames(root / "JPEGImages/480p" / sequence, number(count))
        write_masks(root / "Annotations/480p" / sequence, number(count), {1: (4, 6)})
    (root / "ImageSets/480p").mkdir(parents=True)
    (root / "ImageSets/480p/val.txt").write_text("bear\ncow\ndog\n")
    return root
