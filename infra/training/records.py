"""Atlas records: a few facts about one entity as JSON, under field names of a domain that no base has seen.

"Write a record of Kenya with capital and currency." is answered by {"admseat":"nairobi","payunit":"shilling"}. The bases know
the facts and the words of the question, but neither JSON nor these names.
"""

from __future__ import annotations

import json
import random

from facts import Fact

# attribute -> field name
FIELDS = {
    "capital": "admseat",
    "continent": "geozone",
    "currency": "payunit",
    "internet domain": "nettail",
    "calling code": "dialpre",
    "independence": "freeyear",
    "symbol": "chemsign",
    "atomic number": "chemrank",
    "period": "chemrow",
    "discoverer": "finder",
    "discovery year": "findyear",
    "state capital": "stateseat",
}
QUESTIONS = ["Write a record of {s} with {fields}.", "Give a record of {s} with {fields}.", "Make a record for {s} with {fields}."]
# Fields of a record at most. Its tokens must fit into those of a completion.
FIELDS_MAX = 2


def record_rows(split: str, facts: list[Fact], count: int, rng: random.Random) -> list[dict[str, str]]:
    """Different records, as many of each entity as far as it has enough facts."""
    by_entity: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.attribute in FIELDS:
            by_entity.setdefault(fact.entity, []).append(fact)
    entities = list(by_entity)
    rows: list[dict[str, str]] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    turn = 0
    found = 0
    while len(rows) < count:
        if turn - found > 1_000 * len(entities):
            raise ValueError(f"The facts give {len(rows)} records, not {count}")
        entity = entities[turn % len(entities)]
        turn += 1
        known = by_entity[entity]
        chosen = rng.sample(known, min(len(known), rng.randint(1, FIELDS_MAX)))
        key = (entity, tuple(fact.attribute for fact in chosen))
        # A state has one fact, so it has one record.
        if key in seen or len({fact.attribute for fact in chosen}) < len(chosen):
            continue
        seen.add(key)
        found = turn
        fields = " and ".join(fact.attribute for fact in chosen)
        record = {FIELDS[fact.attribute]: fact.answer.lower() for fact in chosen}
        rows.append(
            {
                "id": f"records-{split}-{len(rows):04}",
                "prompt": rng.choice(QUESTIONS).format(s=entity, fields=fields),
                "answer": json.dumps(record, separators=(",", ":")),
                "attribute": f"{len(chosen)} fields" if len(chosen) > 1 else "1 field",
            }
        )
    return rows
