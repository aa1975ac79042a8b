#!/usr/bin/env python3
"""Writes the models of the vectors in other published formats, see README.md in this folder:

    formats.py

Fused attention: graphs with `GroupQueryAttention` and the weights of `qwen3` and of the base of `mixed`, in the form
of onnxruntime-genai's builder and onnx-community. Their cases are those of the originals.
Weights with fewer bits: fp16, int8, and blocks of 8 and 4 bits of two bases, made with onnxruntime's tools, and
formats.json with the tokens that onnxruntime's Python package generates from each of these files.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from generate import OnnxDecoder, collapse_lists
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shape:
    """The values of config.json that are needed here."""

    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    positions: int
    theta: float
    epsilon: float
    window: int

    @staticmethod
    def of(folder: Path) -> Shape:
        config = json.loads((folder / "config.json").read_text())
        return Shape(
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_dim=config["head_dim"],
            layers=config["num_hidden_layers"],
            positions=config["max_position_embeddings"],
            theta=config["rope_theta"],
            epsilon=config["rms_norm_eps"],
            window=config.get("sliding_window") or -1,
        )


# --------------------------------------------------------------------------------------------------
# Fused attention
# --------------------------------------------------------------------------------------------------

LINEAR = ("q", "k", "v", "o", "gate", "up", "down")


def weights_of(model: onnx.ModelProto, layers: int) -> dict[str, np.ndarray]:
    """Weights by their role. The exporter numbers transposed matrices in the order of their use."""
    named = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    number = {name: int(name.split("_")[-1]) for name in named if name.startswith("onnx::MatMul_")}
    matrices = iter(sorted(number, key=number.__getitem__))
    weights = {"embed": named["model.embed_tokens.weight"], "norm": named["model.norm.weight"]}
    for i in range(layers):
        layer = f"model.layers.{i}"
        weights |= {f"{i}.{part}": named[next(matrices)] for part in LINEAR}
        weights[f"{i}.before"] = named[f"{layer}.input_layernorm.weight"]
        weights[f"{i}.between"] = named[f"{layer}.post_attention_layernorm.weight"]
        for part in "qk":
            weights[f"{i}.{part}.norm"] = named.get(f"{layer}.self_attn.{part}_norm.weight")
    weights["head"] = named[next(matrices)]
    return weights


class Graph:
    """Collects nodes and weights in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        node = helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def linear(self, x: str, name: str, value: np.ndarray) -> str:
        return self.node("MatMul", [x, self.weight(f"{name}.weight", value)], name)

    def norm(self, x: str, name: str, value: np.ndarray, epsilon: float) -> str:
        inputs = [x, self.weight(f"{name}.weight", value)]
        return self.node("SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=epsilon)


def fused(source: Path, rotary: str) -> onnx.ModelProto:
    """A graph with GroupQueryAttention. `rotary` selects how tokens get their positions:

    mask        in the operator, from the lengths in the mask; no position_ids
    positions   in the operator, from position_ids
    outside     in separate operators, from position_ids
    """
    model = onnx.load(source / "onnx" / "model.onnx")
    shape = Shape.of(source)
    weights = weights_of(model, shape.layers)
    graph = Graph()
    lengths(graph)
    angles = np.outer(
        np.arange(shape.positions), shape.theta ** -np.arange(0, 1, 2 / shape.head_dim)
    ).astype(np.float32)
    graph.weight("cos", np.cos(angles))
    graph.weight("sin", np.sin(angles))
    hidden = graph.node("Gather", [graph.weight("embed", weights["embed"]), "input_ids"], "hidden")
    for i in range(shape.layers):
        parts = (*LINEAR, "before", "between", "q.norm", "k.norm")
        of = {part: weights[f"{i}.{part}"] for part in parts}
        x = graph.norm(hidden, f"{i}.before", of["before"], shape.epsilon)
        x = attention(graph, x, i, of, shape, rotary)
        hidden = graph.node("Add", [hidden, graph.linear(x, f"{i}.o", of["o"])], f"{i}.attended")
        x = graph.norm(hidden, f"{i}.between", of["between"], shape.epsilon)
        gate = graph.linear(x, f"{i}.gate", of["gate"])
        gate = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{i}.sigmoid")], f"{i}.silu")
        x = graph.node("Mul", [gate, graph.linear(x, f"{i}.up", of["up"])], f"{i}.gated")
        hidden = graph.node("Add", [hidden, graph.linear(x, f"{i}.down", of["down"])], f"{i}.out")
    x = graph.norm(hidden, "norm", weights["norm"], shape.epsilon)
    graph.node("MatMul", [x, graph.weight("head", weights["head"])], "logits")
    return finished(graph, shape, weights["head"].shape[1], has_positions=rotary != "mask")


def lengths(graph: Graph) -> None:
    """Inputs of the operator, from the mask: each sequence's length minus one, and the longest length."""
    graph.weight("axis", np.array([1]))
    graph.weight("one", np.array([1]))
    graph.node("ReduceSum", ["attention_mask", "axis"], "seen", keepdims=1)
    graph.node("Sub", ["seen", "one"], "seen.less")
    graph.node("Cast", ["seen.less"], "seqlens_k", to=TensorProto.INT32)
    graph.weight("second", np.array(1))
    graph.node("Gather", [graph.node("Shape", ["attention_mask"], "mask.shape"), "second"], "total")
    graph.node("Cast", ["total"], "total_sequence_length", to=TensorProto.INT32)


def attention(
    graph: Graph, x: str, i: int, of: dict[str, np.ndarray], shape: Shape, rotary: str
) -> str:
    heads = {"q": shape.heads, "k": shape.kv_heads}
    rows = {part: graph.linear(x, f"{i}.{part}", of[part]) for part in "qkv"}
    for part, count in heads.items():
        if of[f"{part}.norm"] is not None:
            rows[part] = head_norm(graph, rows[part], of[f"{part}.norm"], count, shape)
        if rotary == "outside":
            rows[part] = graph.node(
                "RotaryEmbedding",
                [rows[part], "position_ids", "cos", "sin"],
                f"{rows[part]}.rotated",
                domain="com.microsoft",
                num_heads=count,
            )
    inputs = [
        *rows.values(),
        f"past_key_values.{i}.key",
        f"past_key_values.{i}.value",
        "seqlens_k",
        "total_sequence_length",
    ]
    if rotary != "outside":
        inputs += ["cos", "sin"]
    if rotary == "positions":
        inputs.append("position_ids")
    attended = f"{i}.attention"
    graph.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            inputs,
            [attended, f"present.{i}.key", f"present.{i}.value"],
            name=attended,
            domain="com.microsoft",
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=int(rotary != "outside"),
            local_window_size=shape.window,
        )
    )
    return attended


def head_norm(graph: Graph, x: str, value: np.ndarray, heads: int, shape: Shape) -> str:
    """Splits the values of each head."""
    size = shape.head_dim
    split = graph.weight(f"{x}.split", np.array([0, -1, heads, size]))
    joined = graph.weight(f"{x}.joined", np.array([0, -1, heads * size]))
    apart = graph.node("Reshape", [x, split], f"{x}.heads")
    normed = graph.norm(apart, f"{x}.norm", value, shape.epsilon)
    return graph.node("Reshape", [normed, joined], f"{x}.normed")


def finished(graph: Graph, shape: Shape, width: int, has_positions: bool) -> onnx.ModelProto:
    names = ["input_ids", "attention_mask", *(["position_ids"] if has_positions else [])]
    axis = {"attention_mask": "total_sequence_length"}
    inputs = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64, ["batch_size", axis.get(name, "sequence_length")]
        )
        for name in names
    ]
    tokens = ["batch_size", "sequence_length", width]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, tokens)]
    for i in range(shape.layers):
        for part in ("key", "value"):
            for name, values, tokens in (
                (f"past_key_values.{i}.{part}", inputs, "past_sequence_length"),
                (f"present.{i}.{part}", outputs, "total_sequence_length"),
            ):
                cache = ["batch_size", shape.kv_heads, tokens, shape.head_dim]
                values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, cache))
    weights = [numpy_helper.from_array(value, name) for name, value in graph.weights.items()]
    made = helper.make_graph(graph.nodes, "decoder", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


# One ensemble with the three ways to pass positions, and one model with a sliding window.
FUSED = {
    "gqa/base": ("qwen3/base", "mask"),
    "gqa/expert": ("qwen3/expert", "positions"),
    "gqa/antiexpert": ("qwen3/antiexpert", "outside"),
    "gqa/window": ("mixed/base", "outside"),
}


# --------------------------------------------------------------------------------------------------
# Weights of fewer bits
# --------------------------------------------------------------------------------------------------

# A graph with Concat and one with fused attention.
ORIGINALS = ("llama/base", "gqa/base")
PROMPT_TOKENS = 9
STEPS = 24
MIN_MARGIN = 5e-2  # between the two highest logits of a step, so that rounding does not change the token
MIN_DISTINCT = 8


def quantized(file: Path) -> None:
    """Writes the other formats beside the original, with the file names of onnx-community."""

    def beside(suffix: str) -> Path:
        return file.with_name(f"model_{suffix}.onnx")

    quantize_dynamic(
        file,
        beside("quantized"),
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )
    for bits in (8, 4):
        blocks = MatMulNBitsQuantizer(
            onnx.load(file), block_size=32, is_symmetric=True, accuracy_level=4, bits=bits
        )
        blocks.process()
        onnx.save(blocks.model.model, beside(f"q{bits}"))
    for source, suffix in ((file, "fp16"), (beside("q4"), "q4f16")):
        onnx.save(convert_float_to_float16(onnx.load(source)), beside(suffix))


class Decoder(OnnxDecoder):
    """Also for a cache in float16."""

    def reset(self) -> None:
        super().reset()
        for node in self.inputs:
            if node.type == "tensor(float16)":
                self.cache[node.name] = self.cache[node.name].astype(np.float16)


def greedy(decoder: Decoder, prompt: list[int]) -> tuple[list[int], float]:
    """Greedy tokens and the smallest margin. All but the last prompt token run at once, the rest one by one."""
    decoder.reset()
    decoder.step(prompt[:-1])
    tokens = prompt[-1:]
    margin = np.inf
    for _ in range(STEPS):
        logits = decoder.step(tokens[-1:]).astype(np.float32)
        second, best = np.argsort(logits)[-2:]
        margin = min(margin, float(logits[best] - logits[second]))
        tokens.append(int(best))
    return tokens[1:], margin


def generated(name: str) -> dict[str, dict[str, list[int]]]:
    """A prompt and its greedy tokens for each graph of a folder."""
    cases = {}
    for file in sorted((HERE / name / "onnx").glob("model*.onnx")):
        if file.name.endswith(".prepared.onnx"):
            continue
        decoder = Decoder(file)
        for seed in range(1_000):
            prompt = np.random.default_rng(seed).integers(1, 128, size=PROMPT_TOKENS).tolist()
            tokens, margin = greedy(decoder, prompt)
            if margin > MIN_MARGIN and len(set(tokens)) >= MIN_DISTINCT:
                break
        else:
            raise SystemExit(f"{file}: no prompt without a near tie")
        cases[file.name] = {"prompt": prompt, "tokens": tokens}
    return cases


def main() -> None:
    for name, (source, rotary) in FUSED.items():
        folder = HERE / name
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / source / "config.json", folder / "config.json")
        onnx.save(fused(HERE / source, rotary), folder / "onnx" / "model.onnx")
    for name in ORIGINALS:
        quantized(HERE / name / "onnx" / "model.onnx")
    cases = {name: generated(name) for name in ORIGINALS}
    (HERE / "formats.json").write_text(collapse_lists(json.dumps(cases, indent=2)) + "\n")


if __name__ == "__main__":
    main()
