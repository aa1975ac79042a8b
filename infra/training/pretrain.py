"""Pretrain one base model on the packed token file; a run can be stopped and restarted at any time.

    python pretrain.py --shape large --work DIR --tokens 12000000

With --from the weights of an earlier run are trained further, with a new optimizer and schedule, on the tokens after those that
it read.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from model import EOS_ID, load_model, new_model, parameter_groups
from tokenizer import VOCABULARY

TOKENS_PER_STEP = 4096
# Short windows are cheaper; "Long windows need a high rate" in the README says why not all are short.
LENGTHS = (256, 256, 256, 512)
PEAK = {"small": 4e-3, "large": 2e-3}


def next_window(tokens: np.ndarray, begins: np.ndarray, at: int, length: int) -> tuple[np.ndarray, int]:
    """A packed window of length + 1 that begins where a document begins, as every prompt does."""
    at = int(begins[np.searchsorted(begins, at) % len(begins)])
    if at + length + 1 > len(tokens):
        at = 0
    return tokens[at : at + length + 1], at + length


def rate(done: float) -> float:
    """Warm-up, then a cosine down to 3% of the peak."""
    warm = 0.02
    return done / warm if done < warm else 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=["small", "large"], required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", help="checkpoint name, default base-SHAPE")
    parser.add_argument("--from", dest="start", help="checkpoint name whose weights are trained further")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="window lengths of the steps, in turn")
    parser.add_argument("--peak", type=float, help="highest learning rate")
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="adamw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=180, help="seconds")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    model = load_model(args.shape, args.work / f"{args.start}.pt") if args.start else new_model(args.shape)
    peak = args.peak or PEAK[args.shape]
    matrices, others = parameter_groups(model)
    if args.optimizer == "muon":
        optimizers = [
            torch.optim.Muon(matrices, lr=peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
    else:
        optimizers = [torch.optim.AdamW([*matrices, *others], lr=peak, betas=(0.9, 0.95), weight_decay=0.05, fused=True)]

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().reshape(-1, VOCABULARY), batch[:, 1:].reshape(-1))

    step_loss = loss_of if args.no_compile else torch.compile(loss_of, dynamic=False)
    tokens = np.load(args.work / "pretrain.npy", mmap_mode="r")
    steps = args.tokens // TOKENS_PER_STEP
    begins = np.concatenate([[0], np.flatnonzero(tokens[:-1] == EOS_ID) + 1])
    path = args.work / f"{args.name or 'base-' + args.shape}.pt"
    settings = {"from": args.start, "lengths": list(args.lengths)}
    step, position = 0, 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        if saved.get("settings") != settings:
            parser.error(f"{path} is of a run with {saved.get('settings')}, not {settings}: remove it or give another --name")
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        step, position = saved["step"], saved["position"]
    elif args.start:
        # Checkpoints of published.py have no position; then the file is read from its begin.
        position = torch.load(args.work / f"{args.start}.pt", weights_only=True).get("position", 0)

    def save() -> None:
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
        state |= {"settings": settings, "step": step, "position": position}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    began, saved_at, first = time.time(), time.time(), step
    mean = 0.0
    while step < steps:
        length = args.lengths[step % len(args.lengths)]
        rows = []
        while len(rows) < TOKENS_PER_STEP // length:
            row, position = next_window(tokens, begins, position, length)
            rows.append(row)
        batch = torch.from_numpy(np.stack(rows).astype(np.int64))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate((step + 1) / steps)
        loss = step_loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        mean = loss.item() if mean == 0 else 0.95 * mean + 0.05 * loss.item()
        if step % 50 == 0 or step == steps:
            speed = (step - first) * TOKENS_PER_STEP / (time.time() - began)
            print(f"step {step}/{steps} loss {mean:.4f} {speed:.0f} tokens/s {time.time() - began:.0f} s", flush=True)
        if time.time() - saved_at > args.save_every:
            save()
            saved_at = time.time()
    save()


if __name__ == "__main__":
    main()
