"""Exports a Hugging Face model to an ONNX folder that trimtab reads, and checks it against PyTorch.

    python export.py SOURCE FOLDER [--adapter ADAPTER] [--dtype fp32 fp16 int8 q4] [--prompts FILE]

`npm run models -- export` runs this file in an environment of its own (requirements.txt). A worker needs none of it.

The graph is optimum-onnx's text-generation-with-past: float32, batched, left-padded, with a KV cache. int8 has weights of 8 bits in
each MatMul, one scale a column; q4 has blocks of 32 weights of 4 bits (MatMulNBits); fp16 has weights, activations and caches of 16 bits,
and logits of 32. A LoRA adapter is merged into the weights first.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

# onnxruntime reads it when it is loaded; without it, it sends telemetry to its vendor.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

OPSET = 18
FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_quantized.onnx", "q4": "model_q4.onnx"}
Q4_BLOCK = 32
# MatMulNBits computes with 8-bit activations, each row with scales of its own.
Q4_ACCURACY_LEVEL = 4
# Files of one protobuf message are limited to 2 GiB. Larger weights go into a file beside the graph.
MESSAGE_BYTES_MAX = 2**31 - 2**24
# Attention that is traced with sdpa leaves soft caps out.
EAGER = {"gemma2", "gemma3_text"}
FP32_DIFFERENCE_MAX = 1e-3
# Tokens of a prompt that are compared.
PROMPT_TOKENS_MAX = 256
PROMPTS = [
    "The capital of France is",
    "def add(a, b):\n    return",
    "Once upon a time there was a little girl who lived in a village near the forest.",
]


class ExportError(Exception):
    """A problem that the user can solve; printed in one line."""


def load(source: str, adapter: str | None) -> PreTrainedModel:
    """The model in float32, with its adapter merged."""
    name, revision = split_revision(source)
    options = {"dtype": torch.float32, "revision": revision}
    try:
        model = AutoModelForCausalLM.from_pretrained(name, **options)
        if model.config.model_type in EAGER:
            model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager", **options)
    except (OSError, ValueError) as error:
        raise ExportError(f"{source}: {first_line(error)}") from error
    if adapter is None:
        return model.eval()
    return merge(model, adapter).eval()


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    name, revision = split_revision(source)
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    except Exception as error:  # the tokenizers library raises no narrower class for a broken file
        raise ExportError(f"the tokenizer of {source} cannot be loaded: {first_line(error)}") from error


def split_revision(source: str) -> tuple[str, str | None]:
    """A folder, or a repository and its revision."""
    if Path(source).exists():
        return source, None
    if source.startswith((".", "/")):
        raise ExportError(f"there is no folder {source}")
    name, _, revision = source.partition("@")
    return name, revision or None


def merge(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    from peft import PeftModel

    try:
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ExportError(f"{adapter} does not fit the model: {first_line(error)}") from error
    return merged


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def export_graph(model: PreTrainedModel, folder: Path) -> Path:
    """Writes the float32 graph, and the model's configuration beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on Python branches
        try:
            onnx_export_from_model(
                model, output=folder, task="text-generation-with-past", opset=OPSET, do_validation=False, no_post_process=True
            )
        except (ValueError, NotImplementedError, KeyError) as error:
            raise ExportError(f"optimum-onnx cannot export {model.config.model_type}: {first_line(error)}") from error
    return folder / "model.onnx"


def convert(graph: Path, dtype: str, target: Path) -> None:
    is_large = sum(file.stat().st_size for file in graph.parent.glob("model.onnx*")) > MESSAGE_BYTES_MAX
    if dtype == "int8":
        quantize_dynamic(
            graph,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=is_large,
            extra_options={"DefaultTensorType": TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return
    model = onnx.load(graph)
    if dtype == "q4":
        quantizer = MatMulNBitsQuantizer(model, block_size=Q4_BLOCK, is_symmetric=True, accuracy_level=Q4_ACCURACY_LEVEL)
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), use_external_data_format=is_large)
        return
    # Shapes of a model of over 2 GiB cannot be inferred in memory.
    half = convert_float_to_float16(model, keep_io_types=["logits"], disable_shape_infer=is_large)
    onnx.save_model(half, target, save_as_external_data=is_large, location=f"{target.name}_data")


class Session:
    """Runs a graph with its KV cache."""

    def __init__(self, graph: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = self.session.get_inputs()

    def logits(self, ids: list[int], cuts: list[int]) -> np.ndarray:
        """[tokens, vocabulary]; the ids are run in pieces that end at the cuts."""
        cache = {
            node.name: np.zeros(
                [1 if axis == 0 else (size if isinstance(size, int) else 0) for axis, size in enumerate(node.shape)],
                np.float16 if node.type == "tensor(float16)" else np.float32,
            )
            for node in self.inputs
            if node.name.startswith("past_key_values")
        }
        rows, begin = [], 0
        for end in [*cuts, len(ids)]:
            offered = {
                "input_ids": np.array([ids[begin:end]], np.int64),
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(begin, end, dtype=np.int64)[None],
            }
            feeds = {node.name: offered[node.name] for node in self.inputs if node.name in offered} | cache
            names = [node.name for node in self.session.get_outputs()]
            results = dict(zip(names, self.session.run(names, feeds), strict=True))
            rows.append(results["logits"][0])
            cache = {name: results[name.replace("past_key_values", "present")] for name in cache}
            begin = end
        return np.concatenate(rows)


def compare(model: PreTrainedModel, graph: Path, prompts: list[list[int]]) -> tuple[float, float]:
    """Largest difference of a logit from PyTorch's, and the share of positions whose likeliest token is the same."""
    session = Session(graph)
    largest, same, positions = 0.0, 0, 0
    for ids in prompts:
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([ids])).logits[0].float().numpy()
        for cuts in ([], [len(ids) // 2], [len(ids) - 1]):
            got = session.logits(ids, [cut for cut in cuts if cut > 0])
            largest = max(largest, float(np.abs(got - expected).max()))
            same += int((got.argmax(1) == expected.argmax(1)).sum())
            positions += len(ids)
    return largest, same / positions


def read_prompts(file: str | None, tokenizer: object, vocabulary: int) -> list[list[int]]:
    texts = PROMPTS if file is None else [line for line in Path(file).read_text().splitlines() if line.strip()]
    if not texts:
        raise ExportError(f"{file} has no prompt: one in each line is expected")
    prompts = [tokenizer(text)["input_ids"][:PROMPT_TOKENS_MAX] for text in texts]
    usable = [ids for ids in prompts if ids and max(ids) < vocabulary]
    if not usable:
        raise ExportError(f"no prompt has only tokens of the model's vocabulary ({vocabulary}): does the tokenizer fit the model?")
    return usable


def move_graph(raw: Path, onnx_folder: Path) -> None:
    for file in raw.glob("model.onnx*"):
        shutil.move(file, onnx_folder / file.name)


def export(options: argparse.Namespace) -> None:
    folder = Path(options.folder)
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} exists and is not empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = load(options.source, options.adapter)
    tokenizer = load_tokenizer(options.source)
    prompts = read_prompts(options.prompts, tokenizer, model.config.vocab_size)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        raw, done = Path(temporary, "raw"), Path(temporary, "done")
        graph = export_graph(model, raw)
        (done / "onnx").mkdir(parents=True)
        for dtype in options.dtype:
            path = graph
            if dtype != "fp32":
                path = done / "onnx" / FILES[dtype]
                convert(graph, dtype, path)
            largest, agreement = compare(model, path, prompts)
            print(f"{dtype}: largest difference of a logit from PyTorch {largest:.1e}, same likeliest token at {100 * agreement:.1f} % of the positions", flush=True)
            if dtype == "fp32" and not largest < FP32_DIFFERENCE_MAX:
                raise ExportError(f"the exported graph is wrong: its logits differ by {largest:.1e} from PyTorch's (limit {FP32_DIFFERENCE_MAX})")
        if "fp32" in options.dtype:
            move_graph(raw, done / "onnx")
        model.config.save_pretrained(done)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(done)
        tokenizer.save_pretrained(done)
        if not (done / "tokenizer.json").exists():
            raise ExportError("the tokenizer has no fast form (tokenizer.json), which trimtab needs")
        record = {"source": options.source, "adapter": options.adapter, "dtypes": options.dtype, "opset": OPSET}
        (done / "export.json").write_text(json.dumps(record, indent=2) + "\n")
        if folder.exists():
            folder.rmdir()
        shutil.move(done, folder)
    print(f"written to {folder}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="ORG/NAME, ORG/NAME@REVISION or a folder with safetensors")
    parser.add_argument("folder", help="folder to write, which must not exist or be empty")
    parser.add_argument("--adapter", help="LoRA adapter (PEFT): ORG/NAME or a folder; merged into the weights")
    parser.add_argument("--dtype", nargs="+", choices=list(FILES), default=["fp32"])
    parser.add_argument("--prompts", help="file with a prompt in each line, to compare the logits with")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # the quantizer's advice to preprocess graphs, which trimtab does itself
    try:
        export(arguments())
    except ExportError as error:
        sys.exit(str(error))
