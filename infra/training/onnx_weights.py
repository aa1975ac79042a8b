"""The weights of an exported fp32 model under the names that transformers gives them, and a copy of a model with other weights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

# onnxruntime reads it when it is loaded; without it, it sends telemetry to its vendor.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
from onnx import numpy_helper

# The linear layers of a Llama layer, in the order in which they run.
LINEAR = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
LINEAR += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def named_tensors(graph: onnx.GraphProto) -> dict[str, tuple[onnx.TensorProto, bool]]:
    """Each weight, and whether it is stored transposed: a linear layer is a MatMul with the transposed weight, which has lost its name."""
    tensors = {t.name: t for t in graph.initializer}
    named = {name: (tensor, False) for name, tensor in tensors.items() if name.startswith("model.")}
    linear = [node.input[1] for node in graph.node if node.op_type == "MatMul" and node.input[1] in tensors]
    for i, name in enumerate(linear):
        layer, kind = divmod(i, len(LINEAR))
        named[f"model.layers.{layer}.{LINEAR[kind]}.weight"] = (tensors[name], True)
    return named


def read_weights(file: Path) -> dict[str, np.ndarray]:
    arrays = {name: (numpy_helper.to_array(t), turned) for name, (t, turned) in named_tensors(onnx.load(file).graph).items()}
    return {name: np.ascontiguousarray(array.T if turned else array) for name, (array, turned) in arrays.items()}


def write_model(template: Path, weights: dict[str, np.ndarray], folder: Path) -> None:
    """Copies a model's folder, with these weights in fp32 in place of its own, and without its int8 file."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in template.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    model = onnx.load(template / "onnx/model.onnx")
    named = named_tensors(model.graph)
    if missing := named.keys() - weights.keys():
        raise ValueError(f"weights are missing: {sorted(missing)}")
    for name, (tensor, turned) in named.items():
        array = weights[name].T if turned else weights[name]
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), tensor.name))
    (folder / "onnx").mkdir(exist_ok=True)
    # A folder with this file is complete, even if the command was stopped.
    unfinished = folder / "onnx/unfinished.onnx"
    onnx.save(model, unfinished)
    unfinished.replace(folder / "onnx/model.onnx")


def largest_difference(model: Any, path: Path) -> float:
    """Largest difference of fp32 logits, PyTorch to ONNX: for a left-padded batch in one run, and in two runs with a KV cache."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    slots = [i for i in session.get_inputs() if i.name.startswith("past_key_values")]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 2048, (3, 64), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :10] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits.numpy()

    def run(past: dict[str, np.ndarray], begin: int, end: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        feeds = {"input_ids": ids[:, begin:end], "attention_mask": mask[:, :end], "position_ids": positions[:, begin:end]}
        names = [o.name for o in session.get_outputs()]
        out = dict(zip(names, session.run(None, {k: v.numpy() for k, v in feeds.items()} | past)))
        return out["logits"], {s.name: out[s.name.replace("past_key_values", "present")] for s in slots}

    empty = {s.name: np.zeros((3, s.shape[1], 0, s.shape[3]), np.float32) for s in slots}
    whole, _ = run(empty, 0, 64)
    head, past = run(empty, 0, 40)
    tail, _ = run(past, 40, 64)
    real = mask.numpy().astype(bool)
    return max(float(np.abs(got - expected)[real].max()) for got in (whole, np.concatenate([head, tail], 1)))
