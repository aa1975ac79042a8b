"""Export checkpoints to ONNX folders in the onnx-community layout, check and quantise them.

    python export.py --work DIR --models ../models base=large:base-large antiexpert=small:base-small ...

The exporter is optimum-onnx (text-generation-with-past). Two size measures on top of it: the
output matrix is the input embedding transposed, so each file stores it once, in fp32 as in int8.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

# onnxruntime reads it when it is loaded; without it, it sends telemetry to its vendor.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import main_export

from model import EOS_ID, PAD_ID, load_model
from onnx_weights import largest_difference
from tokenizer import TOKENIZER_FILES

OPSET = 18


def initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    return next((t for t in graph.initializer if t.name == name), None)


def embedding_gather(graph: onnx.GraphProto) -> onnx.NodeProto:
    return next(n for n in graph.node if n.op_type == "Gather" and "input_ids" in n.input)


def share_embedding_fp32(path: Path) -> None:
    """Replace the stored output matrix by a Transpose of the embedding, which ONNX Runtime computes once at load."""
    model = onnx.load(path)
    graph = model.graph
    name = embedding_gather(graph).input[0]
    table = numpy_helper.to_array(initializer(graph, name))
    for tensor in list(graph.initializer):
        if tensor.name != name and list(tensor.dims) == list(table.T.shape) and np.array_equal(numpy_helper.to_array(tensor), table.T):
            graph.initializer.remove(tensor)
            graph.node.insert(0, helper.make_node("Transpose", [name], [tensor.name], name="shared_output_matrix", perm=[1, 0]))
    save(model, path)


def share_embedding_int8(path: Path) -> None:
    """Read the embedding from the quantised output matrix, row scales included."""
    model = onnx.load(path)
    graph = model.graph
    gather = embedding_gather(graph)
    name = gather.input[0]
    rows, width = initializer(graph, name).dims
    packed = next(t for t in graph.initializer if t.data_type == TensorProto.INT8 and list(t.dims) == [width, rows])
    scale = initializer(graph, packed.name.replace("_quantized", "_scale"))
    zero = initializer(graph, packed.name.replace("_quantized", "_zero_point"))
    assert list(scale.dims) == [rows] and not numpy_helper.to_array(zero).any()
    weights = numpy_helper.to_array(packed)
    graph.initializer.remove(initializer(graph, name))
    graph.initializer.remove(packed)
    table = numpy_helper.from_array(np.ascontiguousarray(weights.T), "embedding_quantized")
    column = numpy_helper.from_array(numpy_helper.to_array(scale).reshape(rows, 1), "embedding_scale")
    graph.initializer.extend([table, column])
    at = list(graph.node).index(gather)
    replacement = [
        helper.make_node("Gather", ["embedding_quantized", gather.input[1]], ["embedding_rows"], name="embedding_rows", axis=0),
        helper.make_node("Cast", ["embedding_rows"], ["embedding_float"], name="embedding_float", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["embedding_scale", gather.input[1]], ["embedding_scales"], name="embedding_scales", axis=0),
        helper.make_node("Mul", ["embedding_float", "embedding_scales"], [gather.output[0]], name="embedding"),
    ]
    graph.node.remove(gather)
    for node in reversed(replacement):
        graph.node.insert(at, node)
    graph.node.insert(0, helper.make_node("Transpose", ["embedding_quantized"], [packed.name], name="shared_output_matrix", perm=[1, 0]))
    save(model, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Save with short names for intermediate values: the long names are a tenth of a small model's file."""
    graph = model.graph
    del graph.value_info[:]
    kept = {v.name for v in [*graph.input, *graph.output]} | {t.name for t in graph.initializer}
    short: dict[str, str] = {}
    for index, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}_{index}", ""
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name and name not in kept:
                    names[i] = short.setdefault(name, f"t{len(short)}")
    model.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, path)


def export(name: str, shape: str, checkpoint: Path, tokenizer: Path, folder: Path, keep_fp32: bool) -> None:
    model = load_model(shape, checkpoint).eval()
    with tempfile.TemporaryDirectory() as temporary:
        source, raw = Path(temporary, "source"), Path(temporary, "raw")
        model.save_pretrained(source)
        for file in TOKENIZER_FILES:
            shutil.copy(tokenizer / file, source)
        main_export(str(source), raw, task="text-generation-with-past", opset=OPSET, do_validation=False, no_post_process=False)
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        quantised = folder / "onnx/model_quantized.onnx"
        quantize_dynamic(
            raw / "model.onnx", quantised, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        share_embedding_int8(quantised)
        share_embedding_fp32(raw / "model.onnx")
        difference = largest_difference(model, raw / "model.onnx")
        assert difference < 1e-4, difference
        if keep_fp32:
            shutil.copy(raw / "model.onnx", folder / "onnx/model.onnx")
        config = json.loads((raw / "config.json").read_text())
    config.pop("_name_or_path", None)
    config["architectures"] = ["LlamaForCausalLM"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID, "do_sample": False, "max_new_tokens": 64}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    for file in TOKENIZER_FILES:
        shutil.copy(tokenizer / file, folder)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: fp32 differs by {difference:.1e} at most, {size / 1e6:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("exports", nargs="+", help="FOLDER=SHAPE:CHECKPOINT; a ! after it leaves the fp32 file out")
    args = parser.parse_args()
    for item in args.exports:
        name, source = item.rstrip("!").split("=")
        shape, checkpoint = source.split(":")
        export(name, shape, args.work / f"{checkpoint}.pt", args.work / "tokenizer", args.models / name, not item.endswith("!"))


if __name__ == "__main__":
    main()
