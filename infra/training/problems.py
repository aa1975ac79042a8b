"""GSM-mini: sums and tiny word problems with one or two steps and one checkable number.

The worked answer is "5 + 7 = 12 #### 12", the form of GSM8K on one line. Every number is
at most 99, because the tokenizer gives each of those a token of its own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = (
    "Tom Lily Ben Anna Max Sara Sam Mia Jack Emma Tim Lucy Leo Ella Noah Ruby Omar Nina Ivan Rosa "
    "Hugo Vera Adam Kate Paul Jane Mark Ines Carl Maya Otto Zoe Finn Lena Amir Tara Luis Nora Eric Dana"
).split()
THINGS = (
    "apples pears plums eggs cakes cookies books pens coins stamps cards marbles stones shells balls "
    "kites boxes cups hats socks flowers trees birds hens ducks fish frogs toys cars boats"
).split()
GROUPS = "bags boxes baskets jars shelves rows".split()


@dataclass(frozen=True)
class Problem:
    question: str
    steps: tuple[tuple[int, str, int, int], ...]  # (left, operator, right, result)

    @property
    def answer(self) -> str:
        return str(self.steps[-1][3])

    @property
    def working(self) -> str:
        return ", ".join(f"{a} {op} {b} = {c}" for a, op, b, c in self.steps)

    @property
    def solution(self) -> str:
        return f"{self.working} #### {self.answer}"


# {n} name, {m} another name, {t} things, {g} groups, {a} {b} {c} numbers.
ADD = [
    "{n} has {a} {t}. {m} gives {n} {b} more {t}. How many {t} does {n} have now?",
    "{n} has {a} {t} and {m} has {b} {t}. How many {t} do they have together?",
    "{n} found {a} {t} in the morning and {b} {t} in the evening. How many {t} did {n} find?",
    "There are {a} {t} in a box. {n} puts in {b} more {t}. How many {t} are in the box now?",
    "{m} has {a} {t}. {n} has {b} more {t} than {m}. How many {t} does {n} have?",
    "{n} bought {a} {t} on Monday and {b} {t} on Tuesday. How many {t} did {n} buy in all?",
]
SUBTRACT = [
    "{n} has {a} {t}. {n} gives {b} {t} to {m}. How many {t} does {n} have left?",
    "There were {a} {t} on the table. {n} took {b} of them. How many {t} are left?",
    "{n} had {a} {t} and lost {b} of them. How many {t} does {n} have now?",
    "{n} has {a} {t} and {m} has {b} {t}. How many more {t} does {n} have than {m}?",
    "{n} needs {a} {t}. {n} has {b} {t}. How many more {t} does {n} need?",
    "{m} has {a} {t}. {n} has {b} {t} fewer than {m}. How many {t} does {n} have?",
]
MULTIPLY = [
    "{n} has {a} {g} with {b} {t} in each. How many {t} does {n} have?",
    "There are {a} {g} of {t}. Each of them holds {b} {t}. How many {t} are there?",
    "{n} buys {a} {t} every day. How many {t} does {n} buy in {b} days?",
]
ADD_ADD = [
    "{n} has {a} {t}, finds {b} {t} and buys {c} {t}. How many {t} does {n} have now?",
    "There are {a} red, {b} blue and {c} green {t}. How many {t} are there in all?",
]
ADD_SUBTRACT = [
    "{n} has {a} {t}. {n} gets {b} more and then loses {c}. How many {t} does {n} have now?",
    "{n} has {a} {t} and {m} has {b} {t}. Together they give away {c}. How many {t} are left?",
]
SUBTRACT_ADD = [
    "{n} had {a} {t}. {n} gave away {b} and then found {c}. How many {t} does {n} have now?",
    "There were {a} {t} in a box. {m} took out {b} and {n} put in {c}. How many {t} are in the box now?",
]
SUMS = ["What is {a} {op} {b}?", "How much is {a} {op} {b}?", "Work out {a} {op} {b}."]


def step(rng: random.Random, op: str, left: int | None = None) -> tuple[int, str, int, int]:
    if op == "+":
        a = rng.randint(2, 40) if left is None else left
        b = rng.randint(2, min(40, 99 - a))
        return a, op, b, a + b
    if op == "-":
        a = rng.randint(5, 60) if left is None else left
        b = rng.randint(1, min(a - 1, 40))
        return a, op, b, a - b
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    return a, op, b, a * b


def make_problem(rng: random.Random) -> Problem:
    kind = rng.choices(
        ["sum", "add", "subtract", "multiply", "add add", "add subtract", "subtract add"],
        weights=[20, 20, 20, 12, 8, 10, 10],
    )[0]
    n, m = rng.sample(NAMES, 2)
    words = {"n": n, "m": m, "t": rng.choice(THINGS), "g": rng.choice(GROUPS)}
    if kind == "sum":
        first = step(rng, rng.choice("++--*"))
        form = rng.choice(SUMS).format(a=first[0], op=first[1], b=first[2])
        return Problem(form, (first,))
    if kind in ("add", "subtract", "multiply"):
        op, forms = {"add": ("+", ADD), "subtract": ("-", SUBTRACT), "multiply": ("*", MULTIPLY)}[kind]
        first = step(rng, op)
        return Problem(rng.choice(forms).format(a=first[0], b=first[2], **words), (first,))
    op1, op2, forms = {
        "add add": ("+", "+", ADD_ADD),
        "add subtract": ("+", "-", ADD_SUBTRACT),
        "subtract add": ("-", "+", SUBTRACT_ADD),
    }[kind]
    first = step(rng, op1, rng.randint(2, 20) if op1 == "+" else None)
    second = step(rng, op2, first[3])
    question = rng.choice(forms).format(a=first[0], b=first[2], c=second[2], **words)
    return Problem(question, (first, second))


def make_problems(rng: random.Random, count: int, taken: set[str]) -> list[Problem]:
    """New problems whose text is in no other set; their texts are added to `taken`."""
    problems: list[Problem] = []
    while len(problems) < count:
        problem = make_problem(rng)
        if problem.question not in taken:
            taken.add(problem.question)
            problems.append(problem)
    return problems
