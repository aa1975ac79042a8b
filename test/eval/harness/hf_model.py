"""Writes a Hugging Face folder (config, tokenizer, safetensors) with the weights of an exported ONNX model.

usage: hf_model.py MODEL_FOLDER OUT_FOLDER
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parents[3] / "infra/training"))
from onnx_weights import read_weights


def main(folder: Path, out: Path) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    weights = {name: torch.tensor(array) for name, array in read_weights(folder / "onnx/model.onnx").items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
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
