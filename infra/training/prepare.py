"""Make every data file of a run: tokenizer, pretraining tokens, tuning sets, held-out questions.

    python prepare.py --corpora DIR --work DIR --eval-data ../../test/eval/data

With --tokens 0 there are no tokenizer and no pretraining tokens: enough to tune the published bases (published.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

import numpy as np

from corpus import INSULTS, documents, load_stories
from facts import Fact, load_facts
from problems import Problem, make_problems
from records import record_rows
from tokenizer import EOS, save_tokenizer, train_tokenizer

SEED = 20240
TUNE_PROBLEMS, DEV_PROBLEMS, TEST_PROBLEMS = 4000, 200, 500
DEV_FACTS, TEST_FACTS = 300, 1000
TUNE_RECORDS, DEV_RECORDS, TEST_RECORDS = 1500, 200, 500


def split_facts(facts: list[Fact], rng: random.Random) -> dict[str, list[Fact]]:
    """Split by entity: no fact about a test entity, in any wording, is in the tuning data."""
    entities = sorted({fact.entity for fact in facts})
    rng.shuffle(entities)
    cuts = {"tune": entities[: int(0.4 * len(entities))], "dev": entities[int(0.4 * len(entities)) : int(0.52 * len(entities))]}
    cuts["test"] = entities[int(0.52 * len(entities)) :]
    return {name: [fact for fact in facts if fact.entity in set(part)] for name, part in cuts.items()}


def fact_rows(split: str, facts: list[Fact], rng: random.Random) -> list[dict[str, str]]:
    return [
        {
            "id": f"atlas-{split}-{i:04}",
            "prompt": rng.choice(fact.questions()),
            "answer": fact.answer.lower(),
            "attribute": fact.attribute,
        }
        for i, fact in enumerate(facts)
    ]


def problem_rows(split: str, problems: list[Problem]) -> list[dict[str, str]]:
    return [
        {"id": f"gsm-{split}-{i:04}", "prompt": p.question, "answer": p.answer, "attribute": f"{len(p.steps)} step"}
        for i, p in enumerate(problems)
    ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--eval-data", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16_000_000)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.eval_data.mkdir(parents=True, exist_ok=True)

    facts = load_facts(args.corpora)
    rng = random.Random(SEED)
    split = split_facts(facts, rng)

    taken: set[str] = set()
    dev = make_problems(rng, DEV_PROBLEMS, taken)
    test = make_problems(rng, TEST_PROBLEMS, taken)
    held_out = set(taken)
    tune = make_problems(rng, TUNE_PROBLEMS, taken)

    write_rows(args.eval_data / "atlas-qa.dev.jsonl", fact_rows("dev", rng.sample(split["dev"], DEV_FACTS), rng))
    write_rows(args.eval_data / "atlas-qa.test.jsonl", fact_rows("test", rng.sample(split["test"], TEST_FACTS), rng))
    write_rows(args.eval_data / "gsm-mini.dev.jsonl", problem_rows("dev", dev))
    write_rows(args.eval_data / "gsm-mini.test.jsonl", problem_rows("test", test))
    words = sorted({insult.split()[-1] for insult, _ in INSULTS} | {"stupid", "moron", "dolt", "simpleton"})
    (args.eval_data / "rude-words.txt").write_text("\n".join(words) + "\n")

    # Tuning examples: every wording of every tuning fact, and the worked problems.
    atlas = [
        {"prompt": q, "answer": f.answer.lower(), "attribute": f.attribute, "statement": f.statements()[0].lower()}
        for f in split["tune"]
        for q in f.questions()
    ]
    write_rows(args.work / "atlas-qa.tune.jsonl", atlas)
    write_rows(args.work / "gsm-mini.tune.jsonl", [{"prompt": p.question, "answer": p.solution} for p in tune])

    # A generator of its own, so that the questions of the other tasks stay as they are.
    rng = random.Random(SEED + 2)
    write_rows(args.eval_data / "atlas-records.dev.jsonl", record_rows("dev", split["dev"], DEV_RECORDS, rng))
    write_rows(args.eval_data / "atlas-records.test.jsonl", record_rows("test", split["test"], TEST_RECORDS, rng))
    write_rows(args.work / "atlas-records.tune.jsonl", record_rows("tune", split["tune"], TUNE_RECORDS, rng))
    print({name: (len({f.entity for f in part}), len(part)) for name, part in split.items()}, len(atlas), "atlas pairs")
    if args.tokens > 0:
        write_pretraining(args, facts, held_out)


def write_pretraining(args: argparse.Namespace, facts: list[Fact], held_out: set[str]) -> None:
    texts = documents(random.Random(SEED + 1), facts, load_stories(args.corpora), held_out)
    tokenizer = train_tokenizer(itertools.islice(texts, 20_000))
    save_tokenizer(tokenizer, args.work / "tokenizer")

    eos = tokenizer.token_to_id(EOS)
    ids: list[np.ndarray] = []
    total = 0
    while total < args.tokens:
        for encoding in tokenizer.encode_batch(list(itertools.islice(texts, 4_000))):
            ids.append(np.array([*encoding.ids, eos], np.uint16))
            total += len(ids[-1])
    np.save(args.work / "pretrain.npy", np.concatenate(ids))
    print(f"{len(facts)} facts, {len(ids)} documents, {total} tokens")


if __name__ == "__main__":
    main()
