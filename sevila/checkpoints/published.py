"""The sizes of the two published backbones, so that they can be built and counted without their files.

BLIP-2's ViT-g and Q-Former (Li et al. 2023) and Flan-T5's encoder-decoder (T5 v1.1 with gated feed-forward layers).
"""

from __future__ import annotations

from transformers import Blip2Config

_VISION = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,  # of EVA-CLIP's 40
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
_QFORMER = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "encoder_hidden_size": 1408,
    "cross_attention_frequency": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
_T5 = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_kv": 64,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": "gelu",  # the exact one, which LAVIS puts in the place of Flan-T5's gelu_new
    "layer_norm_epsilon": 1e-6,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
_LANGUAGE = {
    "Salesforce/blip2-flan-t5-xl": {"d_model": 2048, "d_ff": 5120, "num_heads": 32},
    "Salesforce/blip2-flan-t5-xxl": {"d_model": 4096, "d_ff": 10240, "num_heads": 64},
}
QUERIES = 32


def published(source: str) -> Blip2Config | None:
    """The configuration of a published backbone by its Hub id; None for any other name."""
    if source not in _LANGUAGE:
        return None
    return Blip2Config(
        vision_config=dict(_VISION),
        qformer_config=dict(_QFORMER),
        text_config=_T5 | _LANGUAGE[source],
        num_query_tokens=QUERIES,
    )
