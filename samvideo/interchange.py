"""Weights for and from Hugging Face transformers: its models of the same architectures, and conversion of files."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from samvideo.errors import ConfigError, WeightsError, shown
from samvideo.io.files import as_os_error, check_empty, check_new, check_writable, writing
from samvideo.io.locks import folder_lock
from samvideo.registry import ENCODERS
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.state_dict import build_spec, published_state, recognise
from samvideo.targets import complete, listed
from samvideo.weights import keys
from samvideo.weights.naming import weight_files
from samvideo.weights.read import read_state

Layout = Literal["published", "transformers"]
LAYOUTS: tuple[Layout, ...] = ("published", "transformers")
COUNTERPARTS = (
    "edgetam",
    *(name for name in SPECS if name.startswith(("sam2-", "sam2.1-"))),
    *(name for name in IMAGE_SPECS if name.startswith(("sam-vit-", "slimsam-")) and name != "sam-vit-mini"),
)
"""Models that transformers has as well, with inputs of 1024 x 1024 pixels."""
PICKLED = (".pt", ".pth")
KIND = "conversion"


class Converted(NamedTuple):
    """What `convert` has written."""

    model: str
    layout: Layout


def convert(
    source: Path, target: Path, *, model: str | None = None, to: str | None = None, overwrite: bool = False
) -> Converted:
    """Convert weights between the publisher's file and a folder that transformers' `from_pretrained` loads.

    No value changes; in a folder for transformers, half precision becomes float32, the type of its processors'
    images. Nothing is written unless all entries are those of the model.

    Args:
        source: a checkpoint in either layout, or a folder with `model.safetensors`.
        target: a folder for transformers, or a file ending in .pt or .pth.
        model: whose weights these are, one of `COUNTERPARTS`; by default the plainest that they fit.
        to: the layout to write; by default the one that the source does not have.
        overwrite: whether an earlier result is replaced.

    Raises:
        ConfigError: a model without a counterpart, a layout that the source has already, or a target that may not
            be written; also if transformers is needed and is not installed, or another process writes there.
        OutputError: the target cannot be written.
        WeightsError: the source cannot be read, or its entries are not those of the model.
    """
    if model is not None:
        _check_model(model)
    if to is not None and to not in LAYOUTS:
        raise ConfigError(f"there is no layout {shown(to)}: {' or '.join(LAYOUTS)} expected")
    state = _read(source)
    layout: Layout = "published" if keys.is_hub(state) else "transformers"
    if to not in (None, layout):
        raise ConfigError(f"{source} has the layout {to!r} already: leave --to out to convert it to {layout!r}")
    _check_target(source, target, layout, overwrite)
    name = _recognised(source, state) if model is None else model
    with torch.device("meta"):
        ours = build_spec({**SPECS, **IMAGE_SPECS}[name])
    published = published_state(ours, state)
    if layout == "transformers":
        with folder_lock(target):
            check_empty(target, overwrite, KIND)  # another process may have written it since the first check
            _write_folder(name, published, target)
    else:
        with writing(target), complete(target) as part, part.open("wb") as file, as_os_error(RuntimeError):
            # facebookresearch/sam2 and EdgeTAM read their weights below "model", segment-anything at the top
            torch.save({"model": dict(published)} if name in SPECS else dict(published), file)
    return Converted(name, layout)


def hub_model(name: str) -> Any:
    """transformers' model of a published name, with random weights, in evaluation mode; nothing is downloaded.

    Its default configuration of EdgeTAM is another network than the published one, which is built here.

    Raises:
        ConfigError: transformers is not installed, or has no such model.
    """
    _check_model(name)
    transformers = _transformers()
    if name in IMAGE_SPECS:
        ours = ENCODERS.find(IMAGE_SPECS[name].encoder)
        vision = transformers.SamVisionConfig(
            hidden_size=ours.dim,
            num_attention_heads=ours.heads,
            num_hidden_layers=ours.depth,
            global_attn_indexes=list(ours.global_blocks),
            mlp_dim=ours.hidden,
            window_size=ours.window,
        )
        return transformers.SamModel(transformers.SamConfig(vision_config=vision)).eval()
    spec = SPECS[name]
    memory = {
        "enable_occlusion_spatial_embedding": spec.occlusion_embedding,
        "enable_temporal_pos_encoding_for_object_pointers": spec.pointer_time_encoding,
    }
    if name == "edgetam":
        arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
        backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=arguments)
        vision = transformers.EdgeTamVisionConfig(backbone_config=backbone)
        config = transformers.EdgeTamVideoConfig(vision_config=vision, **memory)
        return transformers.EdgeTamVideoModel(config).eval()
    vision = _hiera(transformers, ENCODERS.find(spec.encoder))
    return transformers.Sam2VideoModel(transformers.Sam2VideoConfig(vision_config=vision, **memory)).eval()


def to_hub(published: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights, cut and named as transformers wants them; what a checkpoint may lack is zero.

    Args:
        published: all weights that inference reads.
        wanted: the state dict of transformers' model, of which only names and shapes are used.
    """
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    sam = keys.is_hub_sam(wanted)
    for key, like in wanted.items():
        source = keys.hub_to_published(key, sam)
        if source == "sam_prompt_encoder.point_embed.weight":
            points = [published[f"sam_prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)]
            state[key] = torch.cat(points)
        elif source.startswith("spatial_perceiver") and source.endswith((".k_proj.weight", ".v_proj.weight")):
            joined = published[source.replace(".k_proj.", ".to_kv.").replace(".v_proj.", ".to_kv.")]
            state[key] = joined.chunk(2)[source.endswith(".v_proj.weight")].clone()
        elif source not in published and (source in keys.UNUSED or source.endswith(".num_batches_tracked")):
            state[key] = torch.zeros(like.shape, dtype=like.dtype)
        else:  # of what transformers has twice, each has its own memory
            state[key] = published[source].clone() if source in used else published[source]
        used.add(source)
    return state


def _transformers(*others: str) -> Any:
    """The library, whose classes have no types; ConfigError if it or one of `others` is not installed."""
    for package in ("transformers", *others):
        if find_spec(package) is None:
            raise ConfigError(f"{package} is needed and not installed: pip install 'samvideo[detect]'")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    return transformers


def _hiera(transformers: Any, ours: Any) -> Any:
    widths, heads = ([size << stage for stage in range(4)] for size in (ours.dim, ours.heads))
    trunk = transformers.Sam2HieraDetConfig(
        hidden_size=ours.dim,
        num_attention_heads=ours.heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=heads,
        blocks_per_stage=list(ours.stages),
        global_attention_blocks=list(ours.global_blocks),
        window_size_per_stage=list(ours.windows),
        window_positional_embedding_background_size=[ours.background] * 2,
    )
    return transformers.Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=widths[::-1])


def _check_model(name: str) -> None:
    if name not in COUNTERPARTS:
        raise ConfigError(f"transformers has no {shown(name)}, but {', '.join(COUNTERPARTS)}")


def _read(source: Path) -> dict[str, Tensor]:
    """The weights of a file, or of all files of a folder."""
    state: dict[str, Tensor] = {}
    for file in weight_files(source):
        part = read_state(file)
        if twice := state.keys() & part.keys():
            raise WeightsError(f"{source} holds {min(twice)!r} in several files: name the one to convert")
        state |= part
    return state


def _recognised(source: Path, state: Mapping[str, Tensor]) -> str:
    fitting = recognise(state)
    if known := [name for name in fitting if name in COUNTERPARTS]:
        return known[0]
    if fitting:
        _check_model(fitting[0])
    raise WeightsError(
        f"{source} fits no known model by its keys and shapes: name one with --model to see which entries are "
        f"missing or unexpected ({', '.join(COUNTERPARTS)})"
    )


def _check_target(source: Path, target: Path, layout: Layout, overwrite: bool) -> None:
    if layout == "published":
        if target.suffix.lower() not in PICKLED or target.is_dir():
            raise ConfigError(f"{target} is to be a published checkpoint: a file ending in .pt or .pth expected")
        check_new(target, overwrite, keep=[source])
        check_writable(target.parent)
        return
    if target.suffix.lower() in (*PICKLED, ".safetensors") or target.is_file():
        raise ConfigError(f"{target} is to be loaded by transformers: the name of a folder expected")
    check_empty(target, overwrite, KIND)
    check_writable(target)
    if target.is_dir():
        listed(target, KIND)


def _write_folder(name: str, published: Mapping[str, Tensor], target: Path) -> None:
    """Write weights, configuration and processors, all by transformers itself."""
    transformers = _transformers("torchvision")  # without which it has no image processors
    with torch.device("meta"):
        model = hub_model(name)
    model.load_state_dict(to_hub(published, model.state_dict()), assign=True)
    model.float()  # from_pretrained keeps the type of the file, and does not fit the images to it
    if name in IMAGE_SPECS:
        processor = transformers.SamProcessor(transformers.SamImageProcessor())
    else:
        images, videos = transformers.Sam2ImageProcessor(), transformers.Sam2VideoVideoProcessor()
        processor = transformers.Sam2VideoProcessor(images, videos)
    transformers.utils.logging.disable_progress_bar()
    with writing(target), complete(target, KIND) as part, as_os_error(SafetensorError):
        model.save_pretrained(part)
        processor.save_pretrained(part)
