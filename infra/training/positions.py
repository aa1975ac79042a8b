"""Loss by position of checkpoints, on tokens at the end of the file that no run has read: which positions are learned?

    python positions.py --work DIR large:base-large small:base-small
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from model import EOS_ID, load_model
from pretrain import next_window
from tokenizer import CONTEXT, VOCABULARY

BUCKET = 256


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=96)
    parser.add_argument("checkpoints", nargs="+", help="SHAPE:CHECKPOINT")
    args = parser.parse_args()
    tokens = np.load(args.work / "pretrain.npy", mmap_mode="r")
    begins = np.concatenate([[0], np.flatnonzero(tokens[:-1] == EOS_ID) + 1])
    # A window begins at a document, so some tokens between two windows are left out.
    position = len(tokens) - args.windows * 2 * CONTEXT
    windows = []
    while len(windows) < args.windows:
        window, position = next_window(tokens, begins, position, CONTEXT)
        windows.append(window)
    rows = torch.from_numpy(np.stack(windows).astype(np.int64))
    for item in args.checkpoints:
        shape, checkpoint = item.split(":")
        model = load_model(shape, args.work / f"{checkpoint}.pt").eval()
        losses = []
        with torch.inference_mode():
            for batch in rows.split(8):
                logits = model(input_ids=batch[:, :-1], use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), batch[:, 1:].reshape(-1), reduction="none")
                losses.append(loss.reshape(len(batch), -1))
        means = torch.cat(losses).mean(0).reshape(-1, BUCKET).mean(1).tolist()
        print(checkpoint, ", ".join(f"{i * BUCKET}-{(i + 1) * BUCKET}: {mean:.3f}" for i, mean in enumerate(means)), flush=True)


if __name__ == "__main__":
    main()
