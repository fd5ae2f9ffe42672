"""The fixed split of training data, by scene: what is trained on, what training is validated on, what is left out.

A name is that of a clip's folder or of an image without suffix. The split depends on names alone, so that it is the
same wherever and with whatever else the data lie, and a photo that two sets share is on one side.
"""

import re
from hashlib import sha256
from typing import Literal, TypeAlias

from samvideo.errors import ConfigError

Side: TypeAlias = Literal["train", "validation", "never"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VALIDATION_SHARE = 0.1  # of the scenes that no list here names
# One place or subject in several DAVIS sequences, beside what the names show (see `scene`).
SIBLINGS = (
    ("mallard-fly", "mallard-water"),
    ("motorbike", "scooter-gray"),
    ("breakdance-flare", "dance-jump"),
    ("kite-walk", "surf"),
    ("elephant", "rhino", "bear"),
    ("hike", "lucia", "stroller"),
    ("rollerblade", "hockey"),
)
# DAVIS training sequences: fast, small, deforming, thin, rigid, among its like; then other clips and a drive.
VALIDATION = _names(
    "mallard-fly mallard-water soccerball breakdance-flare dance-jump bmx-bumps car-turn flamingo "
    "chen-soccer ucsd-bottle ucsd-skiing ucsd-skiing-2 0006R0"
)
TRAIN = _names(
    "bear boat bus elephant hike hockey horsejump-low kite-walk lucia motorbike paragliding rhino rollerblade "
    "scooter-gray stroller surf swing tennis train "
    "chen-bus chen-container chen-garden chen-ice chen-stefan segtrack-bmx segtrack-girl ucsd-boats ucsd-chopper "
    "ucsd-cyclists ucsd-hockey ucsd-jump ucsd-landing ucsd-ocean ucsd-peds ucsd-rain ucsd-surf ucsd-surfers "
    "ucsd-traffic 0001TP 0016E5 Seq05VD"
)
OTHER_LICENCE = _names("dog-agility drift-turn motocross-bumps")
DAVIS_2016_VAL = _names(
    "blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog drift-chicane "
    "drift-straight goat horsejump-high kite-surf libby motocross-jump paragliding-launch parkour scooter-black "
    "soapbox"
)
DAVIS_2017_VAL = DAVIS_2016_VAL | _names(
    "bike-packing dogs-jump gold-fish india judo lab-coat loading mbike-trick pigs shooting"
)
DAVIS_2017_TEST = _names(
    "aerobatics car-race carousel cats-car chamaleon deer giant-slalom girl-dog golf guitar-violin gym helicopter "
    "horsejump-stick hoverboard lock man-bike monkeys-trex mtb-race orchid people-sunset planes-crossing "
    "rollercoaster salsa seasnake skate-jump slackline subway tandem tennis-vest tractor"
)
NEVER = OTHER_LICENCE | DAVIS_2017_VAL | DAVIS_2017_TEST
# Kept for measuring (SBI 2015; two scenes of UCSD), or not for every use (CholecSeg8k names: video01_00080).
NEVER_LIKE = re.compile(r"(sbi|ucsd-birds|ucsd-flock|cholec)|video\d\d_\d+", re.IGNORECASE)

_DRIVE = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_.*")  # frames of CamVid
_PART = re.compile(r"(?<=.)(_parts|-\d)$")  # the same picture annotated otherwise; a later part of a clip
_KIN = {name: group[0] for group in SIBLINGS for name in group}


def scene(name: str) -> str:
    """Return the name that all pictures and clips of one scene share."""
    if drive := _DRIVE.fullmatch(name):
        return drive[1]
    base = _PART.sub("", name)
    return _KIN.get(base, base)


def side(name: str) -> Side:
    """Return which side of the split a clip or image is on; "never" for what is not to be trained on."""
    if name in NEVER or NEVER_LIKE.match(name):
        return "never"
    for known in (name, scene(name)):
        if known in VALIDATION:
            return "validation"
        if known in TRAIN:
            return "train"
    return "validation" if _share("side", name) < VALIDATION_SHARE else "train"


def fold(name: str, number: int, count: int) -> bool:
    """Return whether a name of the training side is in fold `number` (from 1) of `count`, for cross-validation.

    Raises ConfigError for another number.
    """
    if not 1 <= number <= count:
        raise ConfigError(f"fold {number} of {count}: a number from 1 to {count} expected, for example 1/3")
    return int(_share("folds", name) * count) == number - 1


def _share(salt: str, name: str) -> float:
    """Map the scene of a name to [0, 1), evenly and always alike."""
    return int.from_bytes(sha256(f"{salt} {scene(name)}".encode()).digest()[:8], "big") / 2**64
