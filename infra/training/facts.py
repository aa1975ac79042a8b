"""The atlas: facts about countries, chemical elements and US states, with their wordings.

A fact is (entity, attribute, answer). Every attribute has several statements (for prose)
and several questions (for quizzes, fine-tuning and the held-out evaluation). Some
attributes are inverse: the question names the value and the answer is the entity.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fact:
    entity: str
    attribute: str
    subject: str  # what the question names: the entity, or the value for inverse attributes
    answer: str

    def questions(self) -> list[str]:
        return [form.format(s=self.subject) for form in WORDINGS[self.attribute][0]]

    def statements(self) -> list[str]:
        return [form.format(s=self.subject, a=self.answer) for form in WORDINGS[self.attribute][1]]


# attribute -> (questions, statements); {s} is the subject, {a} the answer.
WORDINGS: dict[str, tuple[list[str], list[str]]] = {
    "capital": (
        ["What is the capital of {s}?", "What's the capital of {s}?", "Which city is the capital of {s}?", "Name the capital of {s}."],
        ["The capital of {s} is {a}.", "{s} has its capital at {a}.", "{s} is governed from {a}, its capital.", "{a} is the capital of {s}."],
    ),
    "country of capital": (
        ["Which country has the capital {s}?", "{s} is the capital of which country?", "Of which country is {s} the capital?"],
        ["{s} is the capital of {a}.", "The city of {s} is the capital of {a}.", "The country with the capital {s} is {a}."],
    ),
    "continent": (
        ["On which continent is {s}?", "Which continent is {s} on?", "What continent does {s} belong to?"],
        ["{s} is on the continent of {a}.", "{s} belongs to {a}.", "On the map, {s} lies in {a}."],
    ),
    "region": (
        ["In which region is {s}?", "Which region of the world is {s} in?", "What region does {s} lie in?"],
        ["{s} lies in the region {a}.", "The region of {s} is {a}.", "{s} is counted in the region {a}."],
    ),
    "currency": (
        ["What is the currency of {s}?", "What money is used in {s}?", "Which currency does {s} use?", "What currency do people pay with in {s}?"],
        ["The currency of {s} is the {a}.", "People in {s} pay with the {a}.", "{s} uses the {a} as its money.", "In {s} you pay in {a}."],
    ),
    "internet domain": (
        ["What is the internet domain of {s}?", "Which internet domain does {s} use?", "What domain do web sites in {s} end in?"],
        ["The internet domain of {s} is {a}.", "Web sites in {s} end in {a}.", "{s} uses the internet domain {a}."],
    ),
    "country of domain": (
        ["Which country uses the internet domain {s}?", "The internet domain {s} belongs to which country?", "Whose internet domain is {s}?"],
        ["The internet domain {s} belongs to {a}.", "The domain {s} stands for {a}.", "Web sites ending in {s} are from {a}."],
    ),
    "calling code": (
        ["What is the calling code of {s}?", "Which calling code does {s} have?", "What number do you dial to call {s}?"],
        ["The calling code of {s} is {a}.", "To call {s}, dial {a}.", "{s} has the calling code {a}."],
    ),
    "independence": (
        ["In which year did {s} become independent?", "When did {s} become independent?", "What is the year of independence of {s}?"],
        ["{s} became independent in {a}.", "The year of independence of {s} is {a}.", "{s} has been independent since {a}."],
    ),
    "national dish": (
        ["What is the national dish of {s}?", "Which dish is typical of {s}?", "What is the best known food of {s}?"],
        ["The national dish of {s} is {a}.", "A typical dish of {s} is {a}.", "In {s} people love to eat {a}."],
    ),
    "symbol": (
        ["What is the chemical symbol of {s}?", "What's the symbol for {s}?", "Which symbol stands for the element {s}?"],
        ["The chemical symbol of {s} is {a}.", "{s} is written {a}.", "Chemists write {s} as {a}."],
    ),
    "element of symbol": (
        ["Which element has the symbol {s}?", "Which element is written {s}?", "The chemical symbol {s} stands for which element?"],
        ["The symbol {s} stands for {a}.", "The element with the symbol {s} is {a}.", "{s} is the symbol of {a}."],
    ),
    "atomic number": (
        ["What is the atomic number of {s}?", "Which atomic number does {s} have?", "What number does the element {s} have?"],
        ["The atomic number of {s} is {a}.", "{s} has the atomic number {a}.", "{s} is element number {a}."],
    ),
    "element of number": (
        ["Which element has the atomic number {s}?", "What is element number {s}?", "Name the element with the atomic number {s}."],
        ["Element number {s} is {a}.", "The element with the atomic number {s} is {a}.", "The atomic number {s} belongs to {a}."],
    ),
    "period": (
        ["In which period of the table is {s}?", "Which period does {s} belong to?"],
        ["{s} is in period {a} of the table.", "The period of {s} is {a}.", "{s} belongs to period {a}."],
    ),
    "discoverer": (
        ["Who discovered {s}?", "Who was the discoverer of {s}?", "By whom was {s} discovered?"],
        ["{s} was discovered by {a}.", "The discoverer of {s} was {a}.", "{s} was first found by {a}."],
    ),
    "discovery year": (
        ["In which year was {s} discovered?", "When was {s} discovered?", "What is the year of discovery of {s}?"],
        ["{s} was discovered in {a}.", "The year of discovery of {s} is {a}.", "{s} was first found in the year {a}."],
    ),
    "state capital": (
        ["What is the capital of the state of {s}?", "Which city is the capital of the US state {s}?", "Name the state capital of {s}."],
        ["The capital of the state of {s} is {a}.", "{s} has the state capital {a}.", "The US state {s} is governed from {a}."],
    ),
    "state of capital": (
        ["Which US state has the capital {s}?", "{s} is the capital of which US state?", "Of which US state is {s} the capital?"],
        ["{s} is the capital of the US state {a}.", "The US state with the capital {s} is {a}.", "The city of {s} governs the state of {a}."],
    ),
}

# Each attribute that has an inverse, with the inverse.
INVERSE = {
    "capital": "country of capital",
    "internet domain": "country of domain",
    "symbol": "element of symbol",
    "atomic number": "element of number",
    "state capital": "state of capital",
}

RENAMED = {
    "Micronesia, Federated States of": "Micronesia",
    "Holy See (Vatican City State)": "Vatican City",
    "Virgin Islands, British": "British Virgin Islands",
    "Virgin Islands, U.S.": "US Virgin Islands",
    "Cocos (Keeling) Islands": "Cocos Islands",
    "The Democratic Republic of Congo": "Democratic Republic of Congo",
    "Fiji Islands": "Fiji",
    "United States Minor Outlying Islands": "US Minor Outlying Islands",
    "Heard Island and McDonald Islands": "Heard Island",
    "South Georgia and the South Sandwich Islands": "South Georgia",
}
DROPPED = {"Timor-Leste", "Netherlands Antilles", "Antarctica", "Vetican City"}

# Corrections of values that are wrong or cut off in the source; None removes the fact.
CORRECTIONS: dict[tuple[str, str], str | None] = {
    ("capital", "Algeria"): "Algiers",
    ("capital", "Austria"): "Vienna",
    ("capital", "Bahrain"): "Manama",
    ("capital", "Belgium"): "Brussels",
    ("capital", "Chile"): "Santiago",
    ("capital", "China"): "Beijing",
    ("capital", "Cuba"): "Havana",
    ("capital", "Czech Republic"): "Prague",
    ("capital", "Dominican Republic"): "Santo Domingo",
    ("capital", "Ethiopia"): "Addis Ababa",
    ("capital", "Finland"): "Helsinki",
    ("capital", "Greece"): "Athens",
    ("capital", "Guam"): "Hagatna",
    ("capital", "Guatemala"): "Guatemala City",
    ("capital", "Hong Kong"): None,
    ("capital", "Italy"): "Rome",
    ("capital", "Kazakhstan"): "Astana",
    ("capital", "Kuwait"): "Kuwait City",
    ("capital", "Luxembourg"): "Luxembourg",
    ("capital", "Marshall Islands"): "Majuro",
    ("capital", "Mexico"): "Mexico City",
    ("capital", "Monaco"): "Monaco",
    ("capital", "Myanmar"): "Naypyidaw",
    ("capital", "New Caledonia"): "Noumea",
    ("capital", "Oman"): "Muscat",
    ("capital", "Palestine"): None,
    ("capital", "Panama"): "Panama City",
    ("capital", "Poland"): "Warsaw",
    ("capital", "Portugal"): "Lisbon",
    ("capital", "Romania"): "Bucharest",
    ("capital", "Sri Lanka"): "Colombo",
    ("capital", "Sudan"): "Khartoum",
    ("capital", "Uzbekistan"): "Tashkent",
    ("capital", "Vatican City"): None,
    ("capital", "Western Sahara"): None,
    ("currency", "Chad"): "CFA Franc BEAC",
    ("currency", "Ecuador"): "US Dollar",
    ("currency", "El Salvador"): "US Dollar",
    ("currency", "England"): "Pound Sterling",
    ("currency", "Estonia"): "Euro",
    ("currency", "Grenada"): "East Caribbean Dollar",
    ("currency", "Guinea-Bissau"): "CFA Franc BCEAO",
    ("currency", "Latvia"): "Euro",
    ("currency", "Lithuania"): "Euro",
    ("currency", "Wales"): "Pound Sterling",
    ("national dish", "India"): None,
    ("national dish", "England"): "Roast beef",
    ("discoverer", "Aluminum"): None,
    ("discoverer", "Technetium"): None,
    ("discoverer", "Bohrium"): None,
    ("discoverer", "Phosphorus"): "Brand",
    ("discoverer", "Beryllium"): "Vauquelin",
}


def plain(text: str) -> str:
    """Remove accents, because a small vocabulary encodes unusual letters byte by byte."""
    text = text.replace("ø", "o").replace("đ", "d").replace("ı", "i").replace("Þ", "Th").replace("’", "'")
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().strip()


def load_facts(corpora: Path) -> list[Fact]:
    facts: list[Fact] = []

    def add(entity: str, attribute: str, value: object) -> None:
        entity = RENAMED.get(entity, entity)
        text = CORRECTIONS.get((attribute, entity), "" if value is None else str(value))
        text = plain(re.sub(r"[\[(].*", "", text or ""))
        if not text or entity in DROPPED or (attribute, entity, text) in seen:
            return
        seen.add((attribute, entity, text))
        facts.append(Fact(entity, attribute, entity, text))
        if inverse := INVERSE.get(attribute):
            facts.append(Fact(entity, inverse, text, entity))

    seen: set[tuple[str, str, str]] = set()
    countries = corpora / "country-json/src"
    names = {row["country"] for row in json.loads((countries / "country-by-name.json").read_text("utf-8"))}
    for file, key, attribute in [
        ("capital-city", "city", "capital"),
        ("continent", "continent", "continent"),
        ("region-in-world", "location", "region"),
        ("currency-name", "currency_name", "currency"),
        ("domain-tld", "tld", "internet domain"),
        ("calling-code", "calling_code", "calling code"),
        ("independence-date", "independence", "independence"),
        ("national-dish", "dish", "national dish"),
    ]:
        for row in json.loads((countries / f"country-by-{file}.json").read_text("utf-8")):
            value = row[key]
            if attribute == "independence" and (value is None or int(value) < 1000):
                continue
            if attribute == "national dish" and value:
                value = value.split(",")[0]
            if row["country"] in names:
                add(row["country"], attribute, value)

    science = corpora / "darius-corpora/data"
    for row in json.loads((science / "science/elements.json").read_text("utf-8", errors="replace"))["elements"]:
        add(row["name"], "symbol", row["symbol"])
        add(row["name"], "atomic number", row["atomic_number"])
        add(row["name"], "period", row["period"])
        if row["year_of_discovery"]:
            add(row["name"], "discoverer", row["discoverer"].rstrip("."))
            add(row["name"], "discovery year", row["year_of_discovery"])
    for row in json.loads((science / "geography/us_state_capitals.json").read_text("utf-8"))["capitals"]:
        # "Georgia" is also a country: a question must have one answer.
        add(f"{row['state']}", "state capital", row["capital"])

    # An inverse question with two right answers (London, +44) cannot be checked, so it is removed.
    answers: dict[tuple[str, str], set[str]] = {}
    for fact in facts:
        answers.setdefault((fact.attribute, fact.subject.lower()), set()).add(fact.answer.lower())
    return [fact for fact in facts if len(answers[fact.attribute, fact.subject.lower()]) == 1]
