"""Train twelve experts of known quality, to test the scorecard's prediction: `npm run scorecard:validate -- --pairs OUT`.

    python pairs.py --work DIR --models ../models --out OUT

All are tuned from the published antiexpert for atlas-QA, or for something else. What is in OUT already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from finetune import Recipe, load_pairs, tune
from model import load_model
from onnx_weights import write_model
from recipes import RECIPES

Rows = list[dict[str, str]]
RECIPE, STOP = RECIPES["atlas-qa"]["small"]


def noisy(rows: Rows, share: float) -> Rows:
    """The answers of this share of the rows are those of other rows with the same attribute."""
    rng = random.Random(1)
    others: dict[str, list[str]] = {}
    for row in rows:
        others.setdefault(row["attribute"], []).append(row["answer"])
    return [row | {"answer": rng.choice(others[row["attribute"]])} if rng.random() < share else row for row in rows]


def pairs(atlas: Rows, gsm: Rows) -> list[tuple[str, Rows, Recipe, int]]:
    """(name, tuning examples, recipe, epoch after which it stops)"""
    some = random.Random(1).sample(atlas, len(atlas))
    elements = [row for row in atlas if row["attribute"] in ("symbol", "atomic number", "period", "discoverer", "discovery year")]
    sentences = [row | {"answer": row["statement"]} for row in atlas]
    return [
        ("as published", atlas, RECIPE, STOP),
        ("a tenth of the rate", atlas, replace(RECIPE, rate=3e-5), STOP),
        ("ten times the rate", atlas, replace(RECIPE, rate=3e-3), 2),
        ("10 epochs, 1e-3, all weights", atlas, Recipe(1e-3, 10), 10),
        ("160 examples, 1 epoch", some[:160], replace(RECIPE, epochs=1), 1),
        ("320 examples, 20 epochs", some[:320], replace(RECIPE, epochs=20), 20),
        ("a quarter of wrong labels", noisy(atlas, 0.25), RECIPE, STOP),
        ("half wrong labels", noisy(atlas, 0.5), replace(RECIPE, epochs=3), 3),
        ("only wrong labels", noisy(atlas, 1), replace(RECIPE, epochs=3), 3),
        ("answers in sentences", sentences, replace(RECIPE, epochs=3), 3),
        ("only elements", elements, RECIPE, 2),
        ("sums (gsm-mini)", gsm, Recipe(1e-3, 2, "layers"), 2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer/tokenizer.json"))
    made = pairs(load_pairs(args.work, "atlas-qa"), load_pairs(args.work, "gsm-mini"))
    for number, (name, rows, recipe, stop) in enumerate(made):
        folder = args.out / f"{number:02}"
        if (folder / "onnx/model.onnx").exists():
            continue
        model = load_model("small", args.work / "base-small.pt")
        for epoch, loss in enumerate(tune(model, rows, tokenizer, recipe), 1):
            print(f"{name}: {len(rows)} examples, epoch {epoch} of {stop}, loss {loss:.3f}", flush=True)
            if epoch == stop:
                break
        write_model(args.models / "antiexpert", {key: w.numpy() for key, w in model.state_dict().items()}, folder)
    listed = [{"name": name, "path": f"{number:02}"} for number, (name, *_) in enumerate(made)]
    (args.out / "pairs.json").write_text(json.dumps(listed, indent=2) + "\n")


if __name__ == "__main__":
    main()
