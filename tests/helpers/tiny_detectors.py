"""Small untrained detectors of transformers, saved as published ones are."""

from pathlib import Path
from typing import Any

import torch

# Grounding DINO knows the tokens that end a text by the numbers that they have in BERT's vocabulary.
NUMBERS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
WORDS = ("person", "red", "ball")
TOKENS = 1040


def save(kind: str, folder: Path) -> Path:
    """Save one of `BUILDERS` with seeded weights."""
    torch.manual_seed(0)
    model, processor = BUILDERS[kind]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(longest: int) -> Any:
    """Words and full stops; the last token of a text has the greatest number, as OWLv2 needs it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {**NUMBERS, **{word: 200 + k for k, word in enumerate(WORDS)}, "[END]": TOKENS - 1}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    end = "[SEP]" if longest > 16 else "[END]"
    special = [("[CLS]", NUMBERS["[CLS]"]), (end, vocabulary[end])]
    inner.post_processor = processors.TemplateProcessing(single=f"[CLS] $A {end}", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=longest
    )


def _small(**more: int) -> dict[str, Any]:
    return {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, **more}


def _grounding_dino() -> tuple[Any, Any]:
    import transformers as hf

    swin = hf.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        image_size=64,
        out_features=["stage2", "stage3", "stage4"],
    )
    bert = hf.BertConfig(**_small(vocab_size=TOKENS, max_position_embeddings=32))
    config = hf.GroundingDinoConfig(
        backbone_config=swin,
        text_config=bert,
        d_model=32,  # in 32 groups
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        max_text_len=24,
    )
    image = hf.GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    return hf.GroundingDinoForObjectDetection(config), hf.GroundingDinoProcessor(image, _tokenizer(24))


def _owlv2() -> tuple[Any, Any]:
    import transformers as hf

    config = hf.Owlv2Config(
        text_config=_small(
            vocab_size=TOKENS, max_position_embeddings=16, bos_token_id=101, eos_token_id=TOKENS - 1
        ),
        vision_config=_small(image_size=32, patch_size=8),
        projection_dim=16,
    )
    image = hf.Owlv2ImageProcessor(size={"height": 32, "width": 32})
    return hf.Owlv2ForObjectDetection(config), hf.Owlv2Processor(image, _tokenizer(16))


def _rt_detr() -> tuple[Any, Any]:
    import transformers as hf

    backbone = hf.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = hf.RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=[8, 16, 16],
        decoder_in_channels=[16, 16, 16],
        encoder_hidden_dim=16,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=2,
        num_queries=6,
        num_denoising=0,
        id2label={0: "person", 1: "ball"},
    )
    image = hf.RTDetrImageProcessor(size={"height": 64, "width": 64})
    return hf.RTDetrV2ForObjectDetection(config), image


def _clip() -> tuple[Any, Any]:
    import transformers as hf

    config = hf.CLIPConfig(
        text_config=_small(
            vocab_size=TOKENS, max_position_embeddings=16, bos_token_id=101, eos_token_id=TOKENS - 1
        ),
        vision_config=_small(image_size=32, patch_size=8),
        projection_dim=16,
    )
    image = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return hf.CLIPModel(config), hf.CLIPProcessor(image, _tokenizer(16))


BUILDERS = {"grounding-dino": _grounding_dino, "owlv2": _owlv2, "rt-detr": _rt_detr, "clip": _clip}
