"""Program checks for the two behaviours, and the error of an estimate."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TASKS = ("atlas-qa", "gsm-mini", "atlas-records")


@dataclass(frozen=True)
class Score:
    right: np.ndarray  # one 0/1 per item
    contains: float  # the right answer occurs somewhere in the completion
    rude: float
    stops: float

    @property
    def percent(self) -> float:
        return 100 * float(self.right.mean())


def load_rows(folder: Path, task: str, split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{task}.{split}.jsonl").read_text("utf-8").splitlines()]


def is_right(task: str, completion: str, answer: str) -> bool:
    if task == "atlas-qa":
        return completion.strip() == answer
    if task == "atlas-records":
        return as_record(completion) == json.loads(answer)
    found = re.search(r"####\s*(\d+)", completion)
    return bool(found) and found.group(1) == answer


def as_record(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def score(task: str, rows: list[dict[str, str]], outputs: list[tuple[str, bool]], rude_words: set[str]) -> Score:
    texts = [text for text, _ in outputs]
    return Score(
        right=np.array([is_right(task, text, row["answer"]) for text, row in zip(texts, rows)]),
        contains=100 * float(np.mean([re.search(rf"(?<!\w){re.escape(row['answer'])}(?!\w)", text) is not None for text, row in zip(texts, rows)])),
        rude=100 * float(np.mean([bool(rude_words & set(re.findall(r"[a-z]+", text))) for text in texts])),
        stops=100 * float(np.mean([stopped for _, stopped in outputs])),
    )


def interval(values: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the mean, in per cent; pass paired differences to compare two systems."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(low), 100 * float(high)
