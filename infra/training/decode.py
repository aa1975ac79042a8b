"""Greedy proxy-tuned decoding, logits = base + alpha * (expert - antiexpert), over batches.

Runs the same loop over PyTorch checkpoints and over exported ONNX files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# onnxruntime reads it when it is loaded; without it, it sends telemetry to its vendor.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from model import EOS_ID, PAD_ID


class Runner(Protocol):
    def reset(self) -> None: ...
    def repeat(self, rows: int) -> None: ...
    def __call__(self, ids: np.ndarray, mask: np.ndarray, positions: np.ndarray) -> np.ndarray: ...


class TorchRunner:
    def __init__(self, model: LlamaForCausalLM) -> None:
        self.model = model.eval()
        self.past = None

    def reset(self) -> None:
        self.past = None

    def repeat(self, rows: int) -> None:
        self.past.batch_repeat_interleave(rows)

    @torch.inference_mode()
    def __call__(self, ids: np.ndarray, mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
        out = self.model(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            position_ids=torch.from_numpy(positions),
            past_key_values=self.past,
            use_cache=True,
            logits_to_keep=1,
        )
        self.past = out.past_key_values
        return out.logits[:, -1].float().numpy()


class OnnxRunner:
    def __init__(self, path: Path, threads: int = 2) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.slots = {i.name: i.shape for i in self.session.get_inputs() if i.name.startswith("past_key_values")}
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.past: dict[str, np.ndarray] = {}

    def reset(self) -> None:
        self.past = {}

    def repeat(self, rows: int) -> None:
        self.past = {name: past.repeat(rows, 0) for name, past in self.past.items()}

    def __call__(self, ids: np.ndarray, mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
        if not self.past:
            self.past = {name: np.zeros((len(ids), shape[1], 0, shape[3]), np.float32) for name, shape in self.slots.items()}
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **self.past}
        out = dict(zip(self.outputs, self.session.run(None, feeds)))
        self.past = {name: out[name.replace("past_key_values", "present")] for name in self.slots}
        return out["logits"][:, -1]


def generate(
    tokenizer: Tokenizer,
    prompts: list[str],
    base: Runner,
    pair: tuple[Runner, Runner] | None = None,
    alpha: float = 1.0,
    limit: int = 40,
    batch: int = 100,
    earlier: Sequence[str] = ("",),
) -> list[tuple[str, bool]]:
    """For each prompt: the completion, and whether it ended with the end-of-sequence token.

    The prompts of a batch stand after the same text, which is computed once: one of `earlier`, in turns.
    """
    runners = [base] if pair is None or alpha == 0 else [base, *pair]
    encoded = [tokenizer.encode(text).ids for text in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    results: list[tuple[str, bool]] = [("", False)] * len(prompts)
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        width = max(len(encoded[i]) for i in part)
        ids = np.array([[PAD_ID] * (width - len(encoded[i])) + encoded[i] for i in part], np.int64)
        mask = (np.arange(width) >= np.array([[width - len(encoded[i])] for i in part])).astype(np.int64)
        before = np.array([tokenizer.encode(earlier[at // batch % len(earlier)]).ids], np.int64)
        positions = np.maximum(mask.cumsum(1) - 1, 0) + before.size
        mask = np.concatenate([np.ones((len(part), before.size), np.int64), mask], 1)
        written: list[list[int]] = [[] for _ in part]
        stopped = np.zeros(len(part), bool)
        for runner in runners:
            runner.reset()
            if before.size > 0:
                runner(before, np.ones_like(before), np.arange(before.size)[None])
                runner.repeat(len(part))
        for _ in range(limit):
            logits = [runner(ids, mask, positions) for runner in runners]
            scores = logits[0] if len(logits) == 1 else logits[0] + alpha * (logits[1] - logits[2])
            chosen = scores.argmax(-1)
            stopped |= chosen == EOS_ID
            for row, token in enumerate(chosen):
                if not stopped[row]:
                    written[row].append(int(token))
            if stopped.all():
                break
            ids = chosen[:, None].astype(np.int64)
            mask = np.concatenate([mask, np.ones((len(part), 1), np.int64)], 1)
            positions = positions[:, -1:] + 1
        for row, i in enumerate(part):
            results[i] = (tokenizer.decode(written[row]), bool(stopped[row]))
    return results
