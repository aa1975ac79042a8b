"""Writes a Hugging Face folder (config, tokenizer, safetensors) with the weights of an exported ONNX model.

usage: hf_model.py MODEL_FOLDER OUT_FOLDER
"""

import shutil
import sys
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from transformers import AutoConfig, AutoModelForCausalLM


# The linear layers of a Llama layer, in the order in which they run.
LINEAR = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
LINEAR += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def weights(onnx_file: Path) -> dict[str, torch.Tensor]:
    """By the names that transformers gives them. A linear layer is a MatMul with the transposed weight, which has lost its name."""
    graph = onnx.load(str(onnx_file)).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    named = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    linear = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in tensors]
    for i, name in enumerate(linear):
        layer, kind = divmod(i, len(LINEAR))
        named[f"model.layers.{layer}.{LINEAR[kind]}.weight"] = tensors[name].T.contiguous()
    return named


def main(folder: Path, out: Path) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights(folder / "onnx/model.onnx"), strict=False)
    # The head of a model with tied embeddings is the embedding.
    missing = [name for name in missing if name != "lm_head.weight" or not model.config.tie_word_embeddings]
    if missing or unexpected:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if (folder / name).exists():
            shutil.copy(folder / name, out / name)


main(Path(sys.argv[1]), Path(sys.argv[2]))
