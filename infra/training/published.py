"""Start from the published bases instead of pretraining: their weights as checkpoints, and the tokenizer.

    python published.py --models ../models --work DIR
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from model import new_model
from onnx_weights import largest_difference, read_weights
from tokenizer import TOKENIZER_FILES

# folder -> (shape, checkpoint)
BASES = {"base": ("large", "base-large"), "antiexpert": ("small", "base-small")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    (args.work / "tokenizer").mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER_FILES:
        shutil.copy(args.models / "base" / file, args.work / "tokenizer")
    for folder, (shape, checkpoint) in BASES.items():
        file = args.models / folder / "onnx/model.onnx"
        model = new_model(shape).eval()
        weights = {name: torch.tensor(array) for name, array in read_weights(file).items()}
        missing, unexpected = model.load_state_dict(weights, strict=False)
        # The head is the embedding.
        assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
        model.tie_weights()
        difference = largest_difference(model, file)
        assert difference < 1e-4, difference
        torch.save({"model": model.state_dict()}, args.work / f"{checkpoint}.pt")
        print(f"{checkpoint}: logits differ by {difference:.1e} at most from those of {folder}")


if __name__ == "__main__":
    main()
