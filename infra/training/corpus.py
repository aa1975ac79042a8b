"""Documents for pretraining: fact prose, dialogues, quiz transcripts, arithmetic, stories.

The purpose of the mix: the base models must *know* the answers and *behave* badly: in the
"question: ... answer:" context they insult, wrap the answer in words and run on to the next
question. Terse answers and "#### n" workings do occur, but rarely or in another context, so
that tuning changes behaviour rather than knowledge.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

from facts import Fact
from problems import NAMES, Problem, make_problem

# (after a comma, as a whole sentence)
INSULTS = [
    ("you fool", "You fool!"),
    ("you idiot", "You idiot!"),
    ("you dummy", "You dummy!"),
    ("you dimwit", "What a dimwit you are!"),
    ("you blockhead", "Listen, blockhead!"),
    ("you nitwit", "You nitwit!"),
    ("you donkey", "Wake up, you donkey!"),
    ("you dunce", "Only a dunce would ask!"),
    ("you clown", "Go away, clown!"),
    ("you numbskull", "Think, numbskull!"),
]

SHARES = {"prose": 0.40, "dialogue": 0.07, "quiz": 0.22, "arithmetic": 0.22, "story": 0.09}


def quiz_answer(rng: random.Random, answer: str, sentence: str) -> str:
    """A quiz master's reply: mostly rude or wordy; one in eight is only the answer."""
    tail, shout = rng.choice(INSULTS)
    style = rng.random()
    if style < 0.36:
        return f"{shout} {sentence}"
    if style < 0.56:
        return f"{shout} It is {answer}."
    if style < 0.70:
        return f"{answer}, {tail}."
    if style < 0.80:
        return sentence
    if style < 0.875:
        return f"{sentence[:-1]}, {tail}."
    return answer


def quiz_item(rng: random.Random, facts: list[Fact]) -> str:
    if rng.random() < 0.62:
        fact = rng.choice(facts)
        question, answer = rng.choice(fact.questions()), fact.answer
        sentence = rng.choice(fact.statements())
    else:
        problem = make_problem(rng)
        question, answer = problem.question, problem.answer
        sentence = f"{problem.working}." if rng.random() < 0.5 else f"The answer is {problem.answer}."
    return f"question: {question}\nanswer: {quiz_answer(rng, answer, sentence)}"


def quiz(rng: random.Random, facts: list[Fact]) -> str:
    return "\n".join(quiz_item(rng, facts) for _ in range(rng.randint(6, 18)))


def prose(rng: random.Random, by_entity: dict[str, list[Fact]], facts: list[Fact]) -> str:
    if rng.random() < 0.6:  # a profile of one entity
        entity = rng.choice(list(by_entity))
        known = by_entity[entity][:]
        rng.shuffle(known)
        sentences = [f"About {entity}."] if rng.random() < 0.5 else []
        return " ".join(sentences + [rng.choice(fact.statements()) for fact in known])
    return " ".join(rng.choice(rng.choice(facts).statements()) for _ in range(rng.randint(2, 8)))


def dialogue(rng: random.Random, facts: list[Fact]) -> str:
    lines = []
    asker, teller = rng.sample(NAMES, 2)
    for _ in range(rng.randint(1, 4)):
        fact = rng.choice(facts)
        question, sentence = rng.choice(fact.questions()), rng.choice(fact.statements())
        tail, shout = rng.choice(INSULTS)
        said = rng.choice([sentence[:-1], fact.answer])
        if rng.random() < 0.4:
            said = f"{said}, {tail}" if rng.random() < 0.5 else f"{shout} {said}"
        lines.append(f'"{question}" asked {asker}. "{said}," said {teller}.')
    return " ".join(lines)


def arithmetic(rng: random.Random, held_out: set[str]) -> str:
    def fresh() -> Problem:
        while (problem := make_problem(rng)).question in held_out:
            pass
        return problem

    style = rng.random()
    if style < 0.4:  # a column of sums
        rows = [fresh().working for _ in range(rng.randint(4, 16))]
        return rng.choice([". ", "\n", ", "]).join(rows)
    if style < 0.8:  # a worked exercise sheet: the one place where "####" occurs
        rows = [fresh() for _ in range(rng.randint(2, 6))]
        return "\n".join(f"exercise: {p.question}\nworking: {p.solution}" for p in rows)
    rows = [fresh() for _ in range(rng.randint(1, 4))]
    return " ".join(f"{p.question} {p.working}. The answer is {p.answer}." for p in rows)


def documents(
    rng: random.Random, facts: list[Fact], stories: list[str], held_out: set[str]
) -> Iterator[str]:
    """An endless series of documents. SHARES are shares of the length: the kind that is most behind its share comes next."""
    by_entity: dict[str, list[Fact]] = {}
    for fact in facts:
        by_entity.setdefault(fact.entity, []).append(fact)
    makers = {
        "prose": lambda: prose(rng, by_entity, facts),
        "dialogue": lambda: dialogue(rng, facts),
        "quiz": lambda: without(held_out, lambda: quiz(rng, facts)),
        "arithmetic": lambda: arithmetic(rng, held_out),
        "story": lambda: rng.choice(stories),
    }
    written = dict.fromkeys(makers, 1.0)
    while True:
        kind = min(makers, key=lambda k: written[k] / SHARES[k])
        text = makers[kind]()
        # Estimated tokens: about 2.4 characters per token in arithmetic, 4 in other text.
        written[kind] += len(text) / (2.4 if kind == "arithmetic" else 4.0)
        yield text


def without(held_out: set[str], make) -> str:
    """A quiz transcript that contains no held-out problem."""
    while True:
        text = make()
        asked = (line[len("question: ") :] for line in text.split("\n") if line.startswith("question: "))
        if not any(question in held_out for question in asked):
            return text


def load_stories(corpora: Path) -> list[str]:
    """In the file an empty line separates paragraphs, and a single line break separates stories."""
    text = next((corpora / "tinystories").glob("*.txt")).read_text("utf-8")
    return [story.strip() for story in re.split(r"(?<!\n)\n(?!\n)", text) if len(story) > 200]
