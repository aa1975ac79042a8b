"""Choose the small expert and its alpha for one task by the dev score of the *proxy*, and the best tuned large model.

    python choose.py --task atlas-qa --work DIR --eval-data ../../test/eval/data

Every tuned small checkpoint of the task (each rate, seed and epoch) is screened at three alphas;
the best ones get the full sweep. The expert with the highest mean over alpha 0.5 to 1 is chosen, because a
wide plateau is more reliable than a single peak; its alpha is the peak. The result goes to DIR/choice.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from decode import Runner, TorchRunner, generate
from model import load_model
from score import TASKS, load_rows, score
from tokenizer import prompt

SCREEN = (0.5, 0.75, 1.0)
SWEEP = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--eval-data", type=Path, required=True)
    parser.add_argument("--candidates", default="small-{task}-*-e*.pt", help="pattern of the checkpoints to screen")
    parser.add_argument("--keep", type=int, default=2, help="how many candidates get the full sweep")
    args = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer/tokenizer.json"))
    rows = load_rows(args.eval_data, args.task, "dev")
    prompts = [prompt(row["prompt"]) for row in rows]
    base = TorchRunner(load_model("large", args.work / "base-large.pt"))
    antiexpert = TorchRunner(load_model("small", args.work / "base-small.pt"))

    def dev(expert: Runner, alpha: float) -> float:
        return score(args.task, rows, generate(tokenizer, prompts, base, (expert, antiexpert), alpha), set()).percent

    screened: list[tuple[float, str, dict[float, float]]] = []
    for path in sorted(args.work.glob(args.candidates.format(task=args.task))):
        expert = TorchRunner(load_model("small", path))
        alone = score(args.task, rows, generate(tokenizer, prompts, expert), set()).percent
        scores = {alpha: dev(expert, alpha) for alpha in SCREEN}
        screened.append((float(np.mean(list(scores.values()))), path.stem, scores))
        print(f"{path.stem}: alone {alone:.1f}, " + ", ".join(f"{a} {s:.1f}" for a, s in scores.items()), flush=True)

    best: tuple[float, str, dict[float, float]] | None = None
    for _, name, scores in sorted(screened, reverse=True)[: args.keep]:
        expert = TorchRunner(load_model("small", args.work / f"{name}.pt"))
        sweep = {alpha: scores[alpha] if alpha in scores else dev(expert, alpha) for alpha in SWEEP}
        print(name, sweep, flush=True)
        plateau = float(np.mean([sweep[alpha] for alpha in SWEEP if 0.5 <= alpha <= 1.0]))
        if best is None or plateau > best[0]:
            best = (plateau, name, sweep)
    assert best is not None, "no candidates"
    _, name, sweep = best
    # Of equal scores, the alpha nearest to 1, the paper's default.
    alpha = max(sweep, key=lambda a: (sweep[a], -abs(a - 1)))

    direct: list[tuple[float, str]] = []
    for path in sorted(args.work.glob(f"large-{args.task}-*-e*.pt")):
        large = TorchRunner(load_model("large", path))
        direct.append((score(args.task, rows, generate(tokenizer, prompts, large), set()).percent, path.stem))
        print(f"{path.stem}: {direct[-1][0]:.1f}", flush=True)

    file = args.work / "choice.json"
    choices = json.loads(file.read_text()) if file.exists() else {}
    choices[args.task] = {"expert": name, "alpha": alpha, "dev": sweep, "tuned": max(direct)[1]}
    file.write_text(json.dumps(choices, indent=2) + "\n")


if __name__ == "__main__":
    main()
