"""Cross-validation over scenes: sequences of the same scene or subject are in the same fold."""

from samvideo.errors import ConfigError

# in the training set of DAVIS 2016; a sequence that is not listed is a group of its own
SIBLINGS = (
    ("mallard-fly", "mallard-water"),
    ("motocross-bumps", "motorbike", "scooter-gray"),
    ("breakdance-flare", "dance-jump"),
    ("car-turn", "drift-turn"),
    ("kite-walk", "surf"),
    ("elephant", "rhino", "bear"),
    ("hike", "lucia", "stroller"),
    ("rollerblade", "hockey"),
)


def fold(names: list[str], number: int, count: int) -> tuple[str, ...]:
    """Return the sequences left out in fold `number` (from 1) of `count`. Raises ConfigError for another number."""
    if not 1 <= number <= count:
        raise ConfigError(f"fold {number} of {count}: a number from 1 to {count} expected, for example 1/3")
    kin = {name: group for group in SIBLINGS for name in group}
    groups = sorted({kin.get(name, (name,)) for name in names}, key=lambda g: (-len(g), g))
    parts: list[list[str]] = [[] for _ in range(count)]
    for group in groups:
        min(parts, key=len).extend(name for name in group if name in names)
    return tuple(sorted(parts[number - 1]))
