"""Score the family on the held-out questions, from checkpoints (fp32) or exported files (int8).

    python evaluate.py --precision fp32 --work DIR --eval-data ../../test/eval/data
    python evaluate.py --precision int8 --work DIR --eval-data ../../test/eval/data --models ../models
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from decode import OnnxRunner, Runner, TorchRunner, generate
from model import load_model
from recipes import FOLDERS
from score import TASKS, Score, interval, load_rows, score
from tokenizer import prompt


BATCH = 50


def earlier_turns(tokenizer: Tokenizer, rows: list[dict[str, str]], tokens_max: int) -> list[str]:
    """Four texts of turns that are answered well, of questions of the dev split; each has at most so many tokens."""
    texts = []
    for begin in range(4):
        text = ""
        for row in rows[begin::4]:
            longer = f"{text}{prompt(row['prompt'])} {row['answer']}\n"
            if len(tokenizer.encode(longer).ids) > tokens_max:
                break
            text = longer
        texts.append(text)
    return texts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=["fp32", "int8"], required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--eval-data", type=Path, required=True)
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sweep", type=float, nargs="*", default=[], help="further alphas to report")
    parser.add_argument("--limit", type=int, help="use only the first questions of each task")
    parser.add_argument("--earlier", type=int, default=0, help="put at most this many tokens of earlier turns before each question")
    parser.add_argument("--show", type=int, default=0, help="print this many completions of each system")
    args = parser.parse_args()
    if args.earlier and args.split == "dev":
        parser.error("--earlier takes its turns from the dev split, so it cannot measure that split")

    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer/tokenizer.json"))
    rude_words = set((args.eval_data / "rude-words.txt").read_text().split())
    choices = json.loads((args.work / "choice.json").read_text())

    def load(shape: str, checkpoint: str, folder: str) -> Runner:
        if args.precision == "int8":
            return OnnxRunner(args.models / folder / "onnx/model_quantized.onnx")
        return TorchRunner(load_model(shape, args.work / f"{checkpoint}.pt"))

    base = load("large", "base-large", "base")
    antiexpert = load("small", "base-small", "antiexpert")
    earlier = earlier_turns(tokenizer, load_rows(args.eval_data, "atlas-qa", "dev"), args.earlier)
    report = {}
    for task in args.tasks:
        choice = choices[task]
        expert = load("small", choice["expert"], FOLDERS[task]["small"])
        tuned = load("large", choice["tuned"], FOLDERS[task]["large"])
        rows = load_rows(args.eval_data, task, args.split)[: args.limit]
        prompts = [prompt(row["prompt"]) for row in rows]

        def run(*arguments, **options) -> Score:
            outputs = generate(tokenizer, prompts, *arguments, **options, batch=BATCH, earlier=earlier)
            for (text, stopped), row in list(zip(outputs, rows))[: args.show]:
                print(f"   {row['prompt']!r} -> {text!r} {'' if stopped else '...'}")
            return score(task, rows, outputs, rude_words)

        scores = {"base": run(base), "antiexpert": run(antiexpert), "expert": run(expert), "tuned": run(tuned)}
        for alpha in sorted({1.0, choice["alpha"], *args.sweep}):
            scores[f"proxy {alpha:g}"] = run(base, (expert, antiexpert), alpha)
        proxy = scores[f"proxy {choice['alpha']:g}"]
        print(f"{task}, {args.split}, {args.precision}, n={len(rows)}, alpha on dev {choice['alpha']}")
        for name, result in scores.items():
            low, high = interval(result.right.astype(float))
            closed = (result.percent - scores["base"].percent) / max(1e-9, scores["tuned"].percent - scores["base"].percent)
            print(
                f"  {name:<12} exact {result.percent:5.1f} [{low:.1f}, {high:.1f}]  contains {result.contains:5.1f}  "
                f"rude {result.rude:5.1f}  stops {result.stops:5.1f}  gap closed {100 * closed:5.1f}%",
                flush=True,
            )
        low, high = interval(proxy.right.astype(float) - scores["expert"].right)
        print(f"  proxy - expert {proxy.percent - scores['expert'].percent:.1f} [{low:.1f}, {high:.1f}]")
        kinds = sorted({row["attribute"] for row in rows})
        for kind in kinds:
            chosen = np.array([row["attribute"] == kind for row in rows])
            line = "  ".join(f"{name} {100 * result.right[chosen].mean():.0f}" for name, result in [*list(scores.items())[:4], ("proxy", proxy)])
            print(f"    {kind:<18} n={chosen.sum():<4} {line}")
        report[task] = {name: [round(r.percent, 1), round(r.contains, 1), round(r.rude, 1), round(r.stops, 1)] for name, r in scores.items()}
    (args.work / f"report-{args.split}-{args.precision}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
