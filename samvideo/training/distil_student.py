"""The student of a distillation: its model, and what it has from its teacher at the beginning."""

from collections import defaultdict

from torch import Tensor

from samvideo.checkpoints import load_any
from samvideo.errors import ConfigError, shown
from samvideo.image_model import ImageModel
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.state_dict import build_spec
from samvideo.weights.naming import is_random, split_name


def load_student(text: str) -> tuple[ImageModel, bool]:
    """The model of MODEL or MODEL=FILE, and whether it is untrained; ConfigError if it has no heads of SAM."""
    name, file = split_name(text)
    untrained = file is None or is_random(file)
    if name not in IMAGE_SPECS and name not in SPECS:
        raise ConfigError(
            f"{shown(name)} is not a student known here: an image model, or a video model of the SAM 2 family"
        )
    if not untrained:
        model = load_any(name, weights=file)
    else:
        model = build_spec(IMAGE_SPECS[name] if name in IMAGE_SPECS else SPECS[name])
    if not isinstance(model, ImageModel):
        raise ConfigError(
            f"{name} cannot learn from another model: it is a network of its own, without an image embedding"
        )
    return model, untrained


def share_layers(student: ImageModel, teacher: ImageModel) -> int:
    """Copy layers from the teacher that both have under one name, in one shape; returns the number of entries.

    Of an encoder of another depth, these are the first blocks of each stage, its stem and its last layers: a start
    near the teacher, as DistilBERT has it (Sanh et al. 2019, section 3). Entries of a layer are copied together;
    those of a part that consists of layers each for itself, such as the embeddings of a memory.
    """
    own, layers = student.state_dict(), defaultdict[str, dict[str, Tensor]](dict)
    for name, value in teacher.state_dict().items():
        owner = name.rpartition(".")[0]
        several = next(teacher.get_submodule(owner).children(), None) is not None
        layers[name if several else owner][name] = value
    same: dict[str, Tensor] = {}
    for layer in layers.values():
        if all(name in own and own[name].shape == value.shape for name, value in layer.items()):
            same |= layer
    student.load_state_dict(same, strict=False)
    return len(same)
