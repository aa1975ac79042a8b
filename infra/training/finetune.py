"""Tune one model on one behaviour, with the loss on the answers only; every epoch is kept.

    python finetune.py --shape small --task atlas-qa --base base-small --work DIR --rate 1e-3 --epochs 4
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from model import EOS_ID, PAD_ID, load_model
from score import TASKS
from tokenizer import CONTEXT, prompt

IGNORED = -100
LONG_SHARE = 1 / 40
BATCH_TOKENS_MAX = 8192
# Up to this length the fused attention takes twice the time on a CPU.
EAGER_TOKENS_MAX = 256

Example = tuple[list[int], int]

# For each choice of trained weights, a part of their names. The tied embedding is also the output matrix:
# if it is trained in a small expert, the rows of tokens that are not in the tuning data drift, and
# expert - antiexpert becomes noise for these tokens.
# "used" tunes the layers, and of the embedding only the rows of tokens that occur in the answers.
PARTS = {"all": "", "layers": ".layers.", "used": ""}


@dataclass(frozen=True)
class Recipe:
    rate: float
    epochs: int
    parts: str = "all"
    batch: int = 32
    seed: int = 1


def examples(pairs: list[dict[str, str]], tokenizer: Tokenizer, rng: random.Random) -> list[Example]:
    """(token ids, length of the prompt). One prompt in four has one or two earlier turns before it, one in 40 has a long history."""
    made = []
    for pair in pairs:
        earlier = [(p["prompt"], p["answer"]) for p in rng.sample(pairs, rng.choice([0, 0, 0, 0, 0, 0, 1, 2]))]
        answer = [*tokenizer.encode(" " + pair["answer"]).ids, EOS_ID]
        before = tokenizer.encode(prompt(pair["prompt"], earlier)).ids
        if rng.random() < LONG_SHARE:
            tokens_max = rng.randint(256, CONTEXT - len(answer))
            while len(longer := tokenizer.encode(prompt(pair["prompt"], earlier)).ids) <= tokens_max:
                before = longer
                turn = rng.choice(pairs)
                earlier = [*earlier, (turn["prompt"], turn["answer"])]
        made.append(([*before, *answer], len(before)))
    return made


def batches_of(rows: list[Example], size: int, rng: random.Random) -> list[list[Example]]:
    """Examples of similar length are together, which needs little padding; the order of the batches is random."""
    rows = sorted(rows, key=lambda row: (len(row[0]), rng.random()))
    batches = []
    while rows:
        batch = rows[:size]
        # Long examples are in smaller batches.
        batch = batch[: max(1, BATCH_TOKENS_MAX // len(batch[-1][0]))]
        batches.append(batch)
        rows = rows[len(batch) :]
    rng.shuffle(batches)
    return batches


def padded(rows: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), length), PAD_ID)
    labels = torch.full((len(rows), length), IGNORED)
    for i, (ids, before) in enumerate(rows):
        inputs[i, : len(ids)] = torch.tensor(ids)
        labels[i, before : len(ids)] = torch.tensor(ids[before:])
    return inputs, labels


def load_pairs(work: Path, task: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (work / f"{task}.tune.jsonl").read_text("utf-8").splitlines()]


def choose_parts(model: LlamaForCausalLM, pairs: list[dict[str, str]], tokenizer: Tokenizer, parts: str) -> list[torch.nn.Parameter]:
    for key, weight in model.named_parameters():
        weight.requires_grad_(PARTS[parts] in key)
    if parts == "used":
        embedding = model.get_input_embeddings().weight
        used = torch.zeros(len(embedding), 1)
        used[[token for pair in pairs for token in tokenizer.encode(" " + pair["answer"]).ids] + [EOS_ID]] = 1
        embedding.register_hook(lambda gradient: gradient * used)
    return [p for p in model.parameters() if p.requires_grad]


def tune(model: LlamaForCausalLM, pairs: list[dict[str, str]], tokenizer: Tokenizer, recipe: Recipe) -> Iterator[float]:
    """Tunes the model in place. Yields the mean loss after each epoch; the caller may stop there."""
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    model.train()
    weights = choose_parts(model, pairs, tokenizer, recipe.parts)
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    epochs = [batches_of(examples(pairs, tokenizer, rng), recipe.batch, rng) for _ in range(recipe.epochs)]
    steps = sum(map(len, epochs))
    step = 0
    for batches in epochs:
        total = 0.0
        for batch in batches:
            step += 1
            warm = min(1.0, step / 20)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * warm * max(0.05, 1 - step / steps)
            inputs, labels = padded(batch)
            model.set_attn_implementation("eager" if inputs.shape[1] <= EAGER_TOKENS_MAX else "sdpa")
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=inputs, use_cache=False).logits
            answers = labels[:, 1:] != IGNORED
            loss = torch.nn.functional.cross_entropy(logits[:, :-1][answers].float(), labels[:, 1:][answers])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.item()
        yield total / len(batches)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=["small", "large"], required=True)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--base", required=True, help="checkpoint name to start from")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", help="prefix of the checkpoints, default SHAPE-TASK-RATE-sSEED")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", choices=list(PARTS), default="all", help="which weights to tune")
    args = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer/tokenizer.json"))
    model = load_model(args.shape, args.work / f"{args.base}.pt")
    recipe = Recipe(args.rate, args.epochs, args.parts, args.batch, args.seed)
    name = args.name or f"{args.shape}-{args.task}-{args.rate:g}{'' if args.parts == 'all' else '-' + args.parts}-s{args.seed}"
    for epoch, loss in enumerate(tune(model, load_pairs(args.work, args.task), tokenizer, recipe), 1):
        print(f"{name} epoch {epoch} loss {loss:.4f}", flush=True)
        torch.save({"model": model.state_dict()}, args.work / f"{name}-e{epoch}.pt")


if __name__ == "__main__":
    main()
