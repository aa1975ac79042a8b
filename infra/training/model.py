"""The two shapes of the family, as plain Hugging Face Llama models."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tokenizer import CONTEXT, VOCABULARY

EOS_ID, PAD_ID = 0, 1
SHAPES = {
    "small": dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=208),
    "large": dict(hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=688),
}


def new_model(shape: str) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        num_key_value_heads=SHAPES[shape]["num_attention_heads"],
        attn_implementation="sdpa",
        **SHAPES[shape],
    )
    return LlamaForCausalLM(config)


def load_model(shape: str, path: Path) -> LlamaForCausalLM:
    model = new_model(shape)
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model


def parameter_groups(model: LlamaForCausalLM) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """(weight matrices of the layers, everything else): they need different optimisers."""
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (".layers." in name and p.ndim == 2)]
    return matrices, others
