#!/usr/bin/env python3
"""Golden vectors for proxy-tuning: logits = base + alpha * (expert - antiexpert).

Four modes, see README.md in this folder:

    generate.py --out DIR --arch llama gpt2 --seed 0
        build tiny random ensembles, run the reference, export to ONNX, check the graphs
    generate.py --out DIR --models BASE EXPERT ANTIEXPERT --prompts "Once upon" ...
        the same cases from three PyTorch checkpoints and prompts in text
    generate.py --verify DIR [DIR ...]
        run existing ONNX graphs against their cases
    generate.py --describe DIR [DIR ...]
        a Markdown table of the graphs' inputs

The reference is PyTorch in float32 with eager attention and no KV cache: the whole sequence is
recomputed at every step, so an error in the handling of a cache cannot be in the reference, too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# onnxruntime reads it when it is loaded; without it, it sends telemetry to its vendor.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

ROLES = ("base", "expert", "antiexpert")
STEPS = 24
MIN_MARGIN = 5e-3  # between the two highest steered logits, at every step
MIN_DISTINCT = 10  # different tokens among the STEPS generated ones
LOGITS_STD = 2.0
VERIFY_TOLERANCE = 1e-4
# One row of alphas for each prompt. Prompt 1 is longer for the expert (a template).
ALPHAS = ((0.0, 1.0, 0.5), (0.0, 1.0, -0.7, 1.7))
PROMPT_LENGTHS = (5, 9)

Prompts = Mapping[str, Sequence[int]]

# --------------------------------------------------------------------------------------------------
# Architectures
# --------------------------------------------------------------------------------------------------

# Grouped-query attention in the base (4 heads on 2) and multi-query attention in the small models
# (2 heads on 1), if the architecture has `num_key_value_heads`.
BASE_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
SMALL_SHAPE: dict[str, Any] = {
    **BASE_SHAPE,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@dataclass(frozen=True)
class Model:
    """One tiny decoder. `width` is the number of logits; it may exceed the real vocabulary."""

    model_type: str
    shape: Mapping[str, Any]
    width: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> PretrainedConfig:
        config_class = CONFIG_MAPPING[self.model_type]
        known = config_class()
        # A key that the architecture does not have (such as num_key_value_heads in GPT-2) must not be
        # written to config.json, where a reader would use it.
        shape = {
            key: value
            for key, value in self.shape.items()
            if hasattr(known, key) and not isinstance(getattr(config_class, key, None), property)
        }
        ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        return config_class(
            vocab_size=self.width, tie_word_embeddings=False, **ids, **{**shape, **self.options}
        )


@dataclass(frozen=True)
class Ensemble:
    base: Model
    expert: Model
    antiexpert: Model
    vocab_size: int  # of the common tokenizer
    # None: the default of transformers, as on the exporter's command line. It is mostly `sdpa`, which drops
    # the soft cap on attention scores without a warning. Models with such a cap need `eager`.
    export_attention: str | None = None

    def models(self) -> dict[str, Model]:
        return {"base": self.base, "expert": self.expert, "antiexpert": self.antiexpert}


def family(
    model_type: str,
    vocab_size: int = 128,
    base_width: int | None = None,
    small_width: int | None = None,
    base_layers: int = BASE_SHAPE["num_hidden_layers"],
    export_attention: str | None = None,
    **options: Any,
) -> Ensemble:
    """A base and two small models of one architecture; `options` go to all three configs."""
    base_shape = {**BASE_SHAPE, "num_hidden_layers": base_layers}
    base = Model(model_type, base_shape, base_width or vocab_size, options)
    small = Model(model_type, SMALL_SHAPE, small_width or vocab_size, options)
    return Ensemble(base, small, small, vocab_size, export_attention)


# Any other `model_type` of transformers and the exporter also works: --arch olmo2 means family("olmo2").
# An entry is needed only if the defaults above do not fit.
ARCHITECTURES: dict[str, Ensemble] = {
    "llama": family("llama", base_layers=3),
    # Like the real Qwen2.5: there are more logits than tokens, and the base has the most logits.
    "qwen2": family("qwen2", vocab_size=137, base_width=152, small_width=144, base_layers=3),
    # head_dim is not hidden_size / num_attention_heads, as in the real Qwen3 and Gemma.
    "qwen3": family("qwen3", head_dim=16),
    "gpt2": family("gpt2"),
    "gpt_neox": family("gpt_neox", rotary_pct=0.5),
    "gemma2": family(
        "gemma2",
        export_attention="eager",
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=8,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=8.0,
    ),
    "gemma3_text": family(
        "gemma3_text",
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=8,
        sliding_window_pattern=2,
    ),
    "mistral": family("mistral", sliding_window=8),
    # The exporter's Phi has no grouped-query attention, and neither have the real Phi-1 and Phi-2.
    "phi": family("phi", partial_rotary_factor=0.5, num_key_value_heads=None),
    "bloom": family("bloom"),
    "mpt": family("mpt"),
    "falcon": family("falcon", multi_query=True),
    "gptj": family("gptj", rotary_dim=4),
    # Keys and values of different sizes, and experts chosen by a router.
    "deepseek_v3": family(
        "deepseek_v3",
        num_key_value_heads=None,
        head_dim=4,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        q_lora_rank=16,
        kv_lora_rank=16,
        first_k_dense_replace=1,
        moe_intermediate_size=16,
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        num_experts_per_tok=2,
    ),
    "gpt_oss": family("gpt_oss", num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
    # Three architectures over one vocabulary of 125 tokens, with three widths of logits.
    "mixed": Ensemble(
        base=Model("mistral", BASE_SHAPE, 130, {"sliding_window": 8, "num_hidden_layers": 3}),
        expert=Model("gpt2", SMALL_SHAPE, 144),
        antiexpert=Model("gpt_neox", SMALL_SHAPE, 136),
        vocab_size=125,
    ),
}

# Generated by --arch suite: the folders beside this file.
SUITE = (
    "llama", "qwen2", "qwen3", "gpt2", "gpt_neox", "gemma2", "gemma3_text", "deepseek_v3", "mixed",
)  # fmt: skip

# --------------------------------------------------------------------------------------------------
# Random models
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
def build_model(spec: Model, vocab_size: int, seed: int) -> PreTrainedModel:
    """A random model whose logits spread like a trained one's (standard deviation about 2)."""
    torch.manual_seed(seed)
    config = spec.config()
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(seed)

    def noise(parameter: torch.Tensor) -> torch.Tensor:
        return torch.randn(parameter.shape, generator=generator)

    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    for _, parameter in sorted(model.named_parameters()):
        if id(parameter) in embeddings:
            parameter.copy_(noise(parameter))
        elif parameter.dim() >= 2:
            # Slightly above 1/sqrt(fan_in): attention has peaks, so that the context matters. With much
            # larger weights the model would be chaotic and amplify rounding errors.
            parameter.copy_(noise(parameter) * 1.2 / math.sqrt(min(parameter.shape[-2:])))
        else:
            parameter.add_(0.1 * noise(parameter))  # norms and biases, around their defaults

    head = model.get_output_embeddings().weight
    # Real padding rows are harmless by chance. These are large, so that a missing mask changes the result.
    head[vocab_size:] *= 2
    sample = torch.randint(vocab_size, (4, 32), generator=generator)
    for _ in range(4):  # more than once because of capped logits
        logits = model(sample, use_cache=False).logits[..., :vocab_size]
        head *= LOGITS_STD / logits.std()
    return model


# --------------------------------------------------------------------------------------------------
# The reference
# --------------------------------------------------------------------------------------------------


@dataclass
class Case:
    name: str
    prompts: dict[str, list[int]]
    alpha: float
    tokens: list[int]
    logits: np.ndarray  # [len(tokens), vocab_size], float32
    margin: float  # the smallest difference between the two highest logits of a step
    padding_wins: int  # steps at which an argmax over all logits would choose padding
    extra: dict[str, Any] = field(default_factory=dict)


@torch.no_grad()
def reference(
    models: Mapping[str, PreTrainedModel],
    prompts: Prompts,
    alpha: float,
    vocab_size: int,
    name: str,
    steps: int = STEPS,
    eos: int | None = None,
) -> Case:
    """Greedy proxy-tuned decoding without a cache: each step recomputes the whole sequence."""
    tokens: list[int] = []
    rows: list[np.ndarray] = []
    margin = math.inf
    padding_wins = 0
    while len(tokens) < steps and (eos is None or eos not in tokens[-1:]):
        last = {}
        for role in ROLES:
            ids = torch.tensor([[*prompts[role], *tokens]])
            last[role] = models[role](input_ids=ids, use_cache=False).logits[0, -1].float()
        width = min(row.shape[0] for row in last.values())
        base, expert, antiexpert = (last[role][:width] for role in ROLES)
        steered = base + alpha * (expert - antiexpert)
        padding_wins += int(steered.argmax() >= vocab_size)
        steered = steered[:vocab_size]  # logits beyond the vocabulary are not tokens
        best = steered.topk(2).values
        margin = min(margin, float(best[0] - best[1]))
        tokens.append(int(steered.argmax()))
        rows.append(steered.numpy().astype("<f4"))
    copied = {role: list(prompts[role]) for role in ROLES}
    return Case(name, copied, alpha, tokens, np.stack(rows), margin, padding_wins)


def draw_prompts(index: int, vocab_size: int, rng: np.random.Generator) -> dict[str, list[int]]:
    def ids(count: int) -> list[int]:
        return rng.integers(vocab_size, size=count).tolist()

    prompt = ids(PROMPT_LENGTHS[index])
    prompts = {role: prompt for role in ROLES}
    if index == 1:
        prompts["expert"] = [*ids(6), *prompt, *ids(3)]  # stands for a chat template
    return prompts


def well_posed(case: Case) -> bool:
    return case.margin > MIN_MARGIN and len(set(case.tokens)) >= MIN_DISTINCT


def find_cases(
    models: Mapping[str, PreTrainedModel], vocab_size: int, rng: np.random.Generator
) -> list[Case] | None:
    """Draw prompts until all cases satisfy the margin rule; None if that does not happen."""
    found: list[Case] = []
    for index, alphas in enumerate(ALPHAS):
        for _ in range(40):
            prompts = draw_prompts(index, vocab_size, rng)
            cases: list[Case] = []
            for alpha in alphas:
                name = f"prompt{index}-alpha{alpha:g}"
                case = reference(models, prompts, alpha, vocab_size, name)
                if not well_posed(case):
                    break
                cases.append(case)
            else:
                found += cases
                break
        else:
            return None
    return found


# --------------------------------------------------------------------------------------------------
# ONNX
# --------------------------------------------------------------------------------------------------


def export(checkpoint: Path, target: Path, attention: str | None) -> None:
    """Export like `optimum-cli export onnx --task text-generation-with-past`, into onnx/."""
    from optimum.exporters.onnx import onnx_export_from_model

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation=attention
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on Python branches
        onnx_export_from_model(
            model, output=target, task="text-generation-with-past", do_validation=False
        )
    (target / "onnx").mkdir(exist_ok=True)
    for file in target.glob("model.onnx*"):
        file.rename(target / "onnx" / file.name)


INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


class OnnxDecoder:
    """Runs an exported graph step by step with its KV cache, using only the metadata of the graph."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = self.session.get_inputs()
        self.outputs = self.session.get_outputs()
        self.reset()

    def reset(self) -> None:
        self.length = 0
        self.cache: dict[str, np.ndarray] = {}
        for node in self.inputs:
            if node.name.startswith("past_key_values."):
                # Named dimensions are the batch (the first one) and the past length, here 0.
                shape = [
                    size if isinstance(size, int) else int(axis == 0)
                    for axis, size in enumerate(node.shape)
                ]
                self.cache[node.name] = np.zeros(shape, np.float32)

    def step(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after the last of `ids`."""
        total = self.length + len(ids)
        offered = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, total)),
            "position_ids": np.arange(self.length, total)[None],
        }
        feeds = dict(self.cache)
        for node in self.inputs:
            if node.name in offered:
                feeds[node.name] = offered[node.name].astype(INTEGERS[node.type])
        names = [node.name for node in self.outputs]
        results = dict(zip(names, self.session.run(names, feeds), strict=True))
        for name in self.cache:
            self.cache[name] = results[name.replace("past_key_values", "present")]
        self.length = total
        return results["logits"][0, -1]


def verify(directory: Path) -> dict[str, float]:
    """The largest differences from the reference, with the prompt in one piece and in two."""
    suite = json.loads((directory / "cases.json").read_text())
    vocab_size, file = suite["vocabSize"], suite["logits"]["file"]
    expected = np.fromfile(directory / file, "<f4").reshape(-1, vocab_size)
    decoders = {role: OnnxDecoder(directory / role / "onnx" / "model.onnx") for role in ROLES}
    worst = {"prefill": 0.0, "chunkedPrefill": 0.0}
    for case in suite["cases"]:
        rows = expected[case["logitsRow"] :][: len(case["tokens"])]
        for mode in worst:
            last = {}
            for role, decoder in decoders.items():
                decoder.reset()
                prompt = case["prompts"][role]
                cut = len(prompt) // 2 if mode == "chunkedPrefill" else 0
                if cut:
                    decoder.step(prompt[:cut])
                last[role] = decoder.step(prompt[cut:])
            for token, row in zip(case["tokens"], rows, strict=True):
                base, expert, antiexpert = (last[role][:vocab_size] for role in ROLES)
                steered = base + np.float32(case["alpha"]) * (expert - antiexpert)
                worst[mode] = max(worst[mode], float(np.abs(steered - row).max()))
                if mode == "prefill" and int(steered.argmax()) != token:
                    raise SystemExit(f"{directory}: {case['name']}: a different token")
                last = {role: decoder.step([token]) for role, decoder in decoders.items()}
    return worst


def describe(directories: Iterable[Path]) -> str:
    lines = [
        "| ensemble | model | inputs besides the cache | layers x cache shape | logits |",
        "| --- | --- | --- | --- | --- |",
    ]
    for directory in directories:
        for role in ROLES:
            decoder = OnnxDecoder(directory / role / "onnx" / "model.onnx")
            plain = [node for node in decoder.inputs if node.name not in decoder.cache]
            inputs = ", ".join(f"`{node.name}` {node.type[7:-1]}" for node in plain)
            shapes = {
                kind: [node.shape for node in decoder.inputs if node.name.endswith(kind)]
                for kind in (".key", ".value")
            }
            key, value = (
                "[" + ", ".join(["B", str(shape[0][1]), "P", str(shape[0][3])]) + "]"
                for shape in shapes.values()
            )
            cache = key if key == value else f"{key} keys, {value} values"
            width = next(node for node in decoder.outputs if node.name == "logits").shape[-1]
            layers = len(shapes[".key"])
            lines.append(f"| {directory.name} | {role} | {inputs} | {layers} x {cache} | {width} |")
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------


def write_cases(
    directory: Path, header: Mapping[str, Any], cases: Sequence[Case], with_logits: bool = True
) -> None:
    row = 0
    entries = []
    for case in cases:
        entry: dict[str, Any] = {"name": case.name, "prompts": case.prompts, "alpha": case.alpha}
        entry |= {"tokens": case.tokens, "margin": round(case.margin, 6)}
        entry |= {"paddingWins": case.padding_wins, **case.extra}
        if with_logits:
            entry["logitsRow"] = row
        entries.append(entry)
        row += len(case.tokens)
    logits = {"file": "logits.f32", "rows": row, "width": header["vocabSize"]}
    suite = {**header, "logits": logits if with_logits else None, "cases": entries}
    directory.mkdir(parents=True, exist_ok=True)
    # One line for each list of ids, so that the file is readable and its diffs are small.
    text = json.dumps(suite, indent=2, ensure_ascii=False)
    (directory / "cases.json").write_text(collapse_lists(text) + "\n")
    if with_logits:
        np.concatenate([case.logits for case in cases]).tofile(directory / "logits.f32")


def collapse_lists(text: str) -> str:
    return re.sub(r"\[[\s\d,]+\]", lambda m: "[" + ", ".join(re.findall(r"\d+", m[0])) + "]", text)


def record_verification(directory: Path) -> dict[str, float]:
    worst = verify(directory)
    path = directory / "cases.json"
    suite = json.loads(path.read_text())
    rounded = {mode: float(f"{value:.1e}") for mode, value in worst.items()}
    suite["verified"] = {"onnxruntime": ort.__version__, **rounded}
    path.write_text(collapse_lists(json.dumps(suite, indent=2, ensure_ascii=False)) + "\n")
    if worst["prefill"] > VERIFY_TOLERANCE:
        raise SystemExit(f"{directory}: ONNX differs from the reference by {worst['prefill']:.1e}")
    return worst


def generate_ensemble(name: str, seed: int, out: Path) -> Path:
    ensemble = ARCHITECTURES.get(name) or family(name)
    vocab_size = ensemble.vocab_size
    padded = any(spec.width > vocab_size for spec in ensemble.models().values())
    for attempt in range(20):
        rng = np.random.default_rng([seed, attempt])
        models = {
            role: build_model(spec, vocab_size, int(rng.integers(2**31)))
            for role, spec in ensemble.models().items()
        }
        cases = find_cases(models, vocab_size, rng)
        if cases and (not padded or any(case.padding_wins for case in cases)):
            break
        print(f"{name}: weights {attempt} give no well-posed cases, drawing others", flush=True)
    else:
        raise SystemExit(f"{name}: no well-posed cases with seed {seed}")

    directory = out / name
    shutil.rmtree(directory, ignore_errors=True)
    header = {
        "format": 1,
        "ensemble": name,
        "architectures": {role: spec.model_type for role, spec in ensemble.models().items()},
        "seed": seed,
        "attempt": attempt,
        "vocabSize": vocab_size,
        "widths": {role: spec.width for role, spec in ensemble.models().items()},
        "eos": None,
    }
    write_cases(directory, header, cases)
    for role, model in models.items():
        with tempfile.TemporaryDirectory() as checkpoint:
            model.save_pretrained(checkpoint)
            export(Path(checkpoint), directory / role, ensemble.export_attention)
    return directory


def refuse_newer_checkpoint(path: Path) -> None:
    """An older transformers ignores unknown settings without a warning, such as `rope_parameters`."""
    saved = json.loads((path / "config.json").read_text()).get("transformers_version", "0")
    if int(saved.split(".")[0]) > int(transformers.__version__.split(".")[0]):
        raise SystemExit(
            f"{path} was saved by transformers {saved}, and this is {transformers.__version__}, "
            "which may misread its config: use that version here (without --export)"
        )


def generate_from_checkpoints(args: argparse.Namespace) -> None:
    """Cases from three PyTorch checkpoints with tokenizers and from prompts in text."""
    paths = dict(zip(ROLES, args.models, strict=True))
    for path in paths.values():
        refuse_newer_checkpoint(path)
    tokenizers = {role: AutoTokenizer.from_pretrained(path) for role, path in paths.items()}
    vocabularies = [tokenizer.get_vocab() for tokenizer in tokenizers.values()]
    if any(vocabulary != vocabularies[0] for vocabulary in vocabularies):
        raise SystemExit("the three tokenizers have different vocabularies")
    models = {
        role: AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        for role, path in paths.items()
    }
    widths = {role: model.get_output_embeddings().weight.shape[0] for role, model in models.items()}
    vocab_size = min(len(tokenizers["base"]), *widths.values())
    templates = dict.fromkeys(ROLES, "{prompt}") | dict(args.template)
    eos = tokenizers["base"].eos_token_id if args.stop_at_eos else None

    cases: list[Case] = []
    for index, prompt in enumerate(args.prompts):
        texts = {role: templates[role].replace("{prompt}", prompt) for role in ROLES}
        prompts = {role: tokenizers[role](texts[role])["input_ids"] for role in ROLES}
        for alpha in args.alphas:
            name = f"prompt{index}-alpha{alpha:g}"
            case = reference(models, prompts, alpha, vocab_size, name, args.steps, eos)
            completion = tokenizers["base"].decode(case.tokens, skip_special_tokens=True)
            case.extra = {"texts": texts, "completion": completion}
            cases.append(case)
            if case.margin <= MIN_MARGIN:
                print(f"{name}: margin {case.margin:.1e}: tokens may differ by rounding alone")
    header = {
        "format": 1,
        "ensemble": args.out.name,
        "architectures": {role: model.config.model_type for role, model in models.items()},
        "vocabSize": vocab_size,
        "widths": widths,
        "eos": eos,
    }
    write_cases(args.out, header, cases, not args.no_logits)
    if args.export:
        for role, path in paths.items():
            export(Path(path), args.out / role, args.export_attention)
            tokenizers[role].save_pretrained(args.out / role)


# --------------------------------------------------------------------------------------------------


def role_template(text: str) -> tuple[str, str]:
    role, _, template = text.partition("=")
    if role not in ROLES or "{prompt}" not in template:
        raise argparse.ArgumentTypeError("expected ROLE=TEXT with {prompt} in the text")
    return role, template


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--arch", nargs="+", metavar="NAME", help="'suite', or names, or model types")
    mode.add_argument("--models", nargs=3, type=Path, metavar=("BASE", "EXPERT", "ANTIEXPERT"))
    mode.add_argument("--verify", nargs="+", type=Path, metavar="DIR")
    mode.add_argument("--describe", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, help="output directory of --arch and --models")
    parser.add_argument("--seed", type=int, default=0, help="of --arch")
    group = parser.add_argument_group("with --models")
    group.add_argument("--prompts", nargs="+", default=[], metavar="TEXT")
    group.add_argument("--alphas", nargs="+", type=float, default=[0.0, 1.0, 0.5])
    group.add_argument("--steps", type=int, default=STEPS)
    group.add_argument(
        "--template",
        action="append",
        type=role_template,
        default=[],
        metavar="ROLE=TEXT",
        help="what a model reads instead of the bare prompt, e.g. 'expert=Q: {prompt} A:'",
    )
    group.add_argument("--stop-at-eos", action="store_true")
    group.add_argument("--no-logits", action="store_true", help="tokens only: a big vocabulary")
    group.add_argument("--export", action="store_true", help="also export the three to ONNX")
    group.add_argument("--export-attention", choices=("sdpa", "eager"))
    args = parser.parse_args()
    if (args.arch or args.models) and not args.out:
        parser.error("--out is missing")
    if args.models and not args.prompts:
        parser.error("--models needs --prompts")
    return args


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)  # the matrices are tiny, and sums are the same on every machine
    transformers.logging.set_verbosity_error()
    if args.models:
        generate_from_checkpoints(args)
        if args.export and not args.no_logits:
            print(f"{args.out}: {record_verification(args.out)}")
    elif args.arch:
        for name in SUITE if args.arch == ["suite"] else args.arch:
            directory = generate_ensemble(name, args.seed, args.out)
            print(f"{name}: {record_verification(directory)}", flush=True)
    elif args.verify:
        failed = False
        for directory in args.verify:
            worst = verify(directory)
            failed |= worst["prefill"] > VERIFY_TOLERANCE
            print(f"{directory}: {worst}", flush=True)
        sys.exit(failed)
    else:
        print(describe(args.describe))


if __name__ == "__main__":
    main()
