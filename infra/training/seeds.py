"""Tune expert and reference of the tasks with several seeds; `npm run eval -- --models OUT/s1 OUT/s2 OUT/s3` measures them.

    python seeds.py --work DIR --models ../models --out OUT

Each OUT/sSEED is a folder as ../models, in fp32; base and antiexpert are the published ones. What is there already is not
trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from finetune import load_pairs, tune
from model import load_model
from onnx_weights import write_model
from recipes import FOLDERS, RECIPES

# shape -> (checkpoint to start from, folder of its model)
BASES = {"small": ("base-small", "antiexpert"), "large": ("base-large", "base")}


def manifest(tasks: list[str]) -> dict[str, object]:
    models = {"base": {"path": "base"}, "antiexpert": {"path": "antiexpert"}}
    ensembles = [
        {"id": task, "description": task, "alpha": 1, "alphaMax": 2, "expert": {"path": FOLDERS[task]["small"]}, **models}
        for task in tasks
    ]
    return {"ensembles": ensembles}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--shapes", nargs="+", choices=list(BASES), default=list(BASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer/tokenizer.json"))
    for seed in args.seeds:
        out = args.out / f"s{seed}"
        out.mkdir(parents=True, exist_ok=True)
        for _, folder in BASES.values():
            if not (out / folder).exists():
                (out / folder).symlink_to((args.models / folder).resolve())
    for task in args.tasks:
        rows = load_pairs(args.work, task)
        for shape in args.shapes:
            recipe, stop = RECIPES[task][shape]
            checkpoint, template = BASES[shape]
            for seed in args.seeds:
                folder = args.out / f"s{seed}" / FOLDERS[task][shape]
                if (folder / "onnx/model.onnx").exists():
                    continue
                model = load_model(shape, args.work / f"{checkpoint}.pt")
                for epoch, loss in enumerate(tune(model, rows, tokenizer, replace(recipe, seed=seed)), 1):
                    print(f"{FOLDERS[task][shape]}, seed {seed}: epoch {epoch} of {stop}, loss {loss:.3f}", flush=True)
                    if epoch == stop:
                        break
                weights = {key: weight.numpy() for key, weight in model.state_dict().items()}
                write_model(args.models / template, weights, folder)
    for seed in args.seeds:
        # A later run may add a task.
        done = [task for task in RECIPES if (args.out / f"s{seed}" / FOLDERS[task]["small"]).exists()]
        (args.out / f"s{seed}/ensembles.json").write_text(json.dumps(manifest(done), indent=2) + "\n")


if __name__ == "__main__":
    main()
