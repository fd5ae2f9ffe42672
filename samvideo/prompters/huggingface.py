"""Detectors of Hugging Face transformers, with classes of their own or an open vocabulary, and CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samvideo.errors import ConfigError, WeightsError
from samvideo.prompters.boxes import Detections, Detector
from samvideo.prompters.detectors import known_classes, selected
from samvideo.torch_runtime import resolve_device
from samvideo.types import FloatArray, UInt8Array, image_wh

CLIP = "openai/clip-vit-base-patch32"
"""The model by which FastSAM compares crops with a text."""
CROPS = 32  # in one batch
GROUNDED = ("grounding-dino", "mm-grounding-dino")
"""Model types that read all texts as one sentence, and score each of its tokens."""
GROUNDED_THRESHOLD = 0.25  # as published


def load_transformers(
    address: str, device: str, threshold: float | None, texts: tuple[str, ...] | None
) -> Detector:
    """Load an object detector from a folder or the Hugging Face Hub.

    For arguments and errors see `samvideo.prompters.detectors.load_detector`. The weights lie in the cache of
    transformers. Code of the repository is never run.
    """
    transformers = _transformers()
    config = _loaded(transformers.AutoConfig, address)
    known = type(config) in transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING
    if not known and type(config) not in transformers.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
        raise ConfigError(f"{address} is a {config.model_type}: an object detector expected")
    if known:
        known_classes(address, list(config.id2label.values()), texts)
        processor = _loaded(transformers.AutoImageProcessor, address)
        model = _model(transformers.AutoModelForObjectDetection, address, device)
        return ClassDetector(model, processor, threshold, texts)
    if texts is None:
        raise ConfigError(f'{address} finds what a text names: give texts, such as "person; ball"')
    processor = _loaded(transformers.AutoProcessor, address)
    _check_length(address, config, processor.tokenizer, texts)
    model = _model(transformers.AutoModelForZeroShotObjectDetection, address, device)
    kind = GroundedDetector if config.model_type in GROUNDED else QueryDetector
    return kind(model, processor, threshold, texts)


@dataclass(frozen=True)
class ClassDetector:
    """A detector with its own classes, such as RT-DETR or D-FINE.

    Attributes:
        model, processor: of transformers.
        threshold: least score; None is the processor's default.
        texts: classes that are wanted; None is all.
    """

    model: Any
    processor: Any
    threshold: float | None
    texts: tuple[str, ...] | None

    @torch.inference_mode()
    def __call__(self, rgb: UInt8Array) -> Detections:
        """Find boxes."""
        width, height = image_wh(rgb)
        inputs = self.processor(images=Image.fromarray(rgb), return_tensors="pt").to(self.model.device)
        found = self.processor.post_process_object_detection(
            self.model(**inputs), target_sizes=[(height, width)], **_given(self.threshold)
        )[0]
        names = self.model.config.id2label
        labels = [names[number] for number in found["labels"].tolist()]
        return selected(_detections(found["boxes"], found["scores"], labels), None, self.texts)


@dataclass(frozen=True)
class QueryDetector:
    """A detector in which each text is a query of its own, such as OWLv2 (Minderer et al. 2023).

    Attributes:
        model, processor, threshold: see `ClassDetector`.
        texts: what to look for.
    """

    model: Any
    processor: Any
    threshold: float | None
    texts: tuple[str, ...]

    @torch.inference_mode()
    def __call__(self, rgb: UInt8Array) -> Detections:
        """Find boxes."""
        width, height = image_wh(rgb)
        texts = [list(self.texts)]
        inputs = self.processor(images=Image.fromarray(rgb), text=texts, return_tensors="pt").to(self.model.device)
        found = self.processor.post_process_grounded_object_detection(
            self.model(**inputs), target_sizes=[(height, width)], text_labels=texts, **_given(self.threshold)
        )[0]
        return _detections(found["boxes"], found["scores"], found["text_labels"])


@dataclass(frozen=True)
class GroundedDetector:
    """Grounding DINO (Liu et al. 2024), which reads all texts as one sentence.

    The published code names a box after the tokens of the sentence above a threshold, which may be parts of a text
    or of several. Here it is named after the whole text that holds its best token, and scored by that.

    Attributes: see `QueryDetector`.
    """

    model: Any
    processor: Any
    threshold: float | None
    texts: tuple[str, ...]

    @torch.inference_mode()
    def __call__(self, rgb: UInt8Array) -> Detections:
        """Find boxes."""
        size = torch.tensor(image_wh(rgb) * 2)
        inputs = self.processor(images=Image.fromarray(rgb), text=sentence(self.texts), return_tensors="pt")
        spans = text_spans(inputs["input_ids"][0], self.processor.tokenizer)
        outputs = self.model(**inputs.to(self.model.device))
        of_tokens = outputs.logits[0].sigmoid().cpu()
        scores, which = torch.stack([of_tokens[:, span].amax(1) for span in spans], 1).max(1)
        centre, extent = outputs.pred_boxes[0].cpu().split(2, 1)
        boxes = torch.cat([centre - extent / 2, centre + extent / 2], 1) * size
        kept = scores > (GROUNDED_THRESHOLD if self.threshold is None else self.threshold)
        return _detections(boxes[kept], scores[kept], [self.texts[number] for number in which[kept].tolist()])


def sentence(texts: Sequence[str]) -> str:
    """Return texts as Grounding DINO reads them: lower case, each ending in a full stop."""
    return " ".join(f"{text.lower()}." for text in texts)


def text_spans(tokens: Tensor, tokenizer: Any) -> list[slice]:
    """Return where the tokens of each text of a `sentence` are, of (N,) token ids that begin with a special one."""
    stop = tokenizer.convert_tokens_to_ids(".")
    ends = (tokens == stop).nonzero()[:, 0].tolist()
    return [slice(begin + 1, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


class ClipSimilarity:
    """Compares crops with a text (Radford et al. 2021, CLIP); a `samvideo.prompters.instances.Similarity`.

    Args:
        address: folder, or OWNER/NAME on the Hugging Face Hub, of a model with CLIP's interface.
        device: see `samvideo.torch_runtime.resolve_device`.

    Raises:
        ConfigError: transformers is not installed.
        WeightsError: weights cannot be fetched or do not fit.
    """

    def __init__(self, address: str = CLIP, device: str = "auto") -> None:
        transformers = _transformers()
        self._processor = _loaded(transformers.AutoProcessor, address)
        self._model = _model(transformers.AutoModel, address, device)

    @torch.inference_mode()
    def __call__(self, crops: Sequence[UInt8Array], text: str) -> FloatArray:
        """Return the cosine similarity of each crop, uint8 (h, w, 3), with the text: (N,)."""
        scores = []
        for begin in range(0, len(crops), CROPS):
            images = [Image.fromarray(crop) for crop in crops[begin : begin + CROPS]]
            inputs = self._processor(
                images=images, text=[text], return_tensors="pt", padding=True, truncation=True
            ).to(self._model.device)
            outputs = self._model(**inputs)
            scores.append((outputs.image_embeds @ outputs.text_embeds.T)[:, 0].float().cpu().numpy())
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "this needs transformers, which is not installed: pip install 'samvideo[detect]'"
        ) from error
    return transformers


def _loaded(auto: Any, address: str, **options: Any) -> Any:
    """What a class of transformers loads from an address."""
    try:
        return auto.from_pretrained(address, **options)
    except ImportError as error:
        raise ConfigError(f"{address} needs a package that is not installed: {_first_line(error)}") from error
    except Exception as error:  # OSError without network or file, ValueError for the type of a model, and others
        raise WeightsError(
            f"{address} cannot be loaded with transformers ({_first_line(error)}): a folder with config.json, "
            "model.safetensors and preprocessor_config.json, or OWNER/NAME of the Hugging Face Hub and a network "
            "expected; HF_HOME is the folder of what was downloaded"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _model(auto: Any, address: str, device: str) -> Any:
    """A model for inference with all of its weights."""
    model, report = _loaded(auto, address, dtype=torch.float32, output_loading_info=True)
    absent = sorted({name for name, _ in model.named_parameters()} & set(report["missing_keys"]))
    if absent:
        raise WeightsError(
            f"{address} has no weights for {absent[0]} ({len(absent)} are missing): the weights of a "
            f"whole {type(model).__name__} expected"
        )
    return model.eval().to(resolve_device(device, "fp32")[0])


def _check_length(address: str, config: Any, tokenizer: Any, texts: Sequence[str]) -> None:
    """Raise ConfigError for texts that have more tokens than the model reads, or that are ambiguous."""
    if config.model_type not in GROUNDED:
        most, read = config.text_config.max_position_embeddings, list(texts)
    else:
        most, read = config.max_text_len, [sentence(texts)]
        spans = text_spans(torch.tensor(tokenizer(read[0])["input_ids"]), tokenizer)
        if len(spans) != len(texts) or any(span.start == span.stop for span in spans):
            raise ConfigError(
                f"{address} takes a full stop as the end of a text: leave it out of {'; '.join(texts)}"
            )
    for text in read:
        if (count := len(tokenizer(text)["input_ids"])) > most:
            raise ConfigError(
                f"{address} reads at most {most} tokens, not the {count} of {text[:60]!r}: shorten the text"
            )


def _given(threshold: float | None) -> dict[str, float]:
    return {} if threshold is None else {"threshold": threshold}


def _detections(boxes: Tensor, scores: Tensor, labels: Sequence[str]) -> Detections:
    return Detections(boxes.float().cpu().numpy(), scores.float().cpu().numpy(), tuple(labels))
