/** Grammars in GBNF, checked against a recogniser that tries every way to read a text. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AppError } from "../../../shared/api/errors.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { accepts, anyText, matcherOf } from "../../support/grammar.ts";

const compile = (grammar: string) => compileResponseFormat({ type: "grammar", grammar });
const matcher = (grammar: string) => matcherOf({ type: "grammar", grammar });

type Part =
  | { kind: "text"; text: string }
  | { kind: "set"; set: string; isNegated: boolean }
  | { kind: "rule"; name: string }
  | { kind: "all" | "any"; parts: Part[] }
  | { kind: "repeat"; of: Part; min: number; max: number };
type Rules = Record<string, Part>;

const NAMES = ["root", "one-more", "last_2"];
const guarded = fc.constantFrom(...NAMES).map((name): Part => {
  const text = (text: string): Part => ({ kind: "text", text });
  return { kind: "all", parts: [text("("), { kind: "rule", name }, text(")")] };
});
const repetition = fc.constantFrom([0, 1], [0, Infinity], [1, Infinity], [2, 2], [1, 3]);

/** Rules refer to those after them anywhere, and to all within parentheses: without left recursion. */
function partOf(later: readonly string[]): fc.Arbitrary<Part> {
  const { part } = fc.letrec<{ part: Part }>((tie) => ({
    part: fc.oneof(
      { maxDepth: 3, depthSize: "small" },
      fc
        .constantFrom("a", "b", "ab", "", '"\\', "é\n")
        .map((text): Part => ({ kind: "text", text })),
      fc
        .tuple(fc.constantFrom("ab", "bc]", "^-é"), fc.boolean())
        .map(([set, isNegated]): Part => ({ kind: "set", set, isNegated })),
      ...later.map((name) => fc.constant<Part>({ kind: "rule", name })),
      guarded,
      fc
        .array(tie("part"), { minLength: 2, maxLength: 3 })
        .map((parts): Part => ({ kind: "all", parts })),
      fc
        .array(tie("part"), { minLength: 2, maxLength: 3 })
        .map((parts): Part => ({ kind: "any", parts })),
      fc
        .tuple(tie("part"), repetition)
        .map(([of, [min, max]]): Part => ({ kind: "repeat", of, min, max })),
    ),
  }));
  return part;
}
const rulesOf: fc.Arbitrary<Rules> = fc
  .tuple(...NAMES.map((_, i) => partOf(NAMES.slice(i + 1))))
  .map((parts) => Object.fromEntries(NAMES.map((name, i) => [name, parts[i]!])));

const escaped = (text: string) =>
  text.replaceAll(/[\\"\]^-]/g, String.raw`\$&`).replaceAll("\n", String.raw`\n`);

const SHORT = new Map([
  ["0,Infinity", "*"],
  ["1,Infinity", "+"],
  ["0,1", "?"],
]);

function toText(part: Part): string {
  switch (part.kind) {
    case "text":
      return `"${escaped(part.text)}"`;
    case "set":
      return `[${part.isNegated ? "^" : ""}${escaped(part.set)}]`;
    case "rule":
      return part.name;
    case "all":
      return `(${part.parts.map(toText).join(" ")})`;
    case "any":
      return `( ${part.parts.map(toText).join("\n  | ")} )`;
    case "repeat": {
      const { min, max } = part;
      const counted = min === max ? `{${min}}` : `{${min},${max}}`;
      return `(${toText(part.of)})${SHORT.get(`${min},${max}`) ?? counted}`;
    }
  }
}
const toGrammar = (rules: Rules) =>
  Object.entries(rules)
    .map(([name, part]) => `${name} ::= ${toText(part)} # a comment ::= "x"\n`)
    .join("\n");

/** Where a text of the part that begins at `from` can end. */
function endsOf(rules: Rules, text: readonly string[], part: Part, from: number): Set<number> {
  const ends = (part: Part, starts: Iterable<number>) =>
    new Set([...starts].flatMap((start) => [...endsOf(rules, text, part, start)]));
  switch (part.kind) {
    case "text": {
      const characters = Array.from(part.text);
      const isHere = characters.every((character, i) => text[from + i] === character);
      return new Set(isHere ? [from + characters.length] : []);
    }
    case "set": {
      const character = text[from];
      const isIn = character !== undefined && part.set.includes(character) !== part.isNegated;
      return new Set(isIn ? [from + 1] : []);
    }
    case "rule":
      return endsOf(rules, text, rules[part.name]!, from);
    case "all":
      return part.parts.reduce((starts, each) => ends(each, starts), new Set([from]));
    case "any":
      return new Set(part.parts.flatMap((each) => [...endsOf(rules, text, each, from)]));
    case "repeat": {
      let last = new Set([from]);
      const all = new Set(part.min === 0 ? last : []);
      for (let count = 1; count <= Math.min(part.max, part.min + text.length + 1); count++) {
        last = ends(part.of, last);
        if (count >= part.min) for (const end of last) all.add(end);
      }
      return all;
    }
  }
}

function isText(rules: Rules, text: string): boolean {
  const characters = Array.from(text);
  return endsOf(rules, characters, rules["root"]!, 0).has(characters.length);
}

/** A random text of the part, or null if it would be long. */
function randomText(rules: Rules, part: Part, next: () => number, depth = 0): string | null {
  if (depth > 12) return null;
  const of = (part: Part) => randomText(rules, part, next, depth + 1);
  const joined = (parts: readonly Part[]) => {
    const texts = parts.map(of);
    return texts.includes(null) ? null : texts.join("");
  };
  switch (part.kind) {
    case "text":
      return part.text;
    case "set": {
      const among = Array.from("abc]^-é\n(").filter(
        (each) => part.set.includes(each) !== part.isNegated,
      );
      return among[next() % among.length]!;
    }
    case "rule":
      return of(rules[part.name]!);
    case "all":
      return joined(part.parts);
    case "any":
      return of(part.parts[next() % part.parts.length]!);
    case "repeat": {
      const count = part.min + (next() % (Math.min(part.max, part.min + 2) - part.min + 1));
      return joined(Array.from({ length: count }, () => part.of));
    }
  }
}

/** Null if the grammar has no finite text, or is too ambiguous to be held. */
function matcherOrNull(rules: Rules) {
  try {
    return matcher(toGrammar(rules));
  } catch (error) {
    if (error instanceof AppError && /allows no finite|is too large/.test(error.message))
      return null;
    throw error;
  }
}

const numbers = fc.infiniteStream(fc.nat(999));
const strings = fc
  .array(fc.constantFrom(...Array.from('aabbc()(])^-é\n\\"')), { maxLength: 7 })
  .map((characters) => characters.join(""));

test("a grammar accepts the texts that can be derived, and no others", { timeout: 120_000 }, () => {
  const counts = { refused: 0, derived: 0, nested: 0, accepted: 0, others: 0 };
  fc.assert(
    fc.property(rulesOf, numbers, fc.array(strings, { maxLength: 8 }), (rules, stream, others) => {
      const matcher = matcherOrNull(rules);
      if (matcher === null) return void counts.refused++;
      const iterator = stream[Symbol.iterator]();
      const next = () => iterator.next().value!;
      for (let i = 0; i < 6; i++) {
        const text = randomText(rules, rules["root"]!, next);
        if (text === null || text.length > 40) continue;
        expect({ text, accepted: accepts(matcher, text) }).toEqual({ text, accepted: true });
        counts.derived++;
        if (text.includes("(")) counts.nested++;
        others.push(text.slice(0, -1), `${text}a`, text.replace(/[ab(]/, ""));
      }
      for (const text of others.filter((text) => text.length <= 12)) {
        const accepted = isText(rules, text);
        expect({ text, accepted: accepts(matcher, text) }).toEqual({ text, accepted });
        counts[accepted ? "accepted" : "others"]++;
      }
    }),
    { numRuns: 250 },
  );
  expect(counts.refused).toBeLessThan(100);
  expect(Math.min(counts.derived, counts.nested, counts.accepted, counts.others)).toBeGreaterThan(
    100,
  );
});

test("every text of the tokens that a grammar allows can be derived", { timeout: 120_000 }, () => {
  let finished = 0;
  fc.assert(
    fc.property(rulesOf, fc.nat(), (rules, seed) => {
      const text = matcherOrNull(rules) && anyText(matcher(toGrammar(rules)), seed, 12);
      if (text === null || text.length > 16) return;
      finished++;
      expect({ text, isText: isText(rules, text) }).toEqual({ text, isText: true });
    }),
    { numRuns: 100 },
  );
  expect(finished).toBeGreaterThan(25);
});

const ARITHMETIC = String.raw`
# From llama.cpp's collection of grammars.
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
`;
const JSON_GRAMMAR = String.raw`
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
`;
const SQL = `
root ::= select_statement
select_statement ::= "SELECT " column " from " table " where " condition
column ::= "col_1 " | "col_2 "
table ::= "table_1 " | "table_2 "
condition ::= column "= " number
number ::= "1 " | "2 "
`;

test.each<[name: string, grammar: string, texts: string[], others: string[]]>([
  ["arithmetic", ARITHMETIC, ["a=1\n", "(a +2)*b_ = 3\nx=x\n"], ["a=\n", "(a=1\n", "a=1"]],
  [
    "JSON",
    JSON_GRAMMAR,
    ['{"a": [1, {"é": null}], "b":"\\u00e9\\\\"}', "{}"],
    ['{"a":}', "[]", '{"a": "\\x"}'],
  ],
  ["SQL", SQL, ["SELECT col_1  from table_2  where col_2 = 1 "], ["SELECT col_3  from table_2 "]],
  [
    "escapes",
    String.raw`root ::= "\x41\u00e9\U0001F600\t\"" [\]\-\x61-c]`,
    ['Aé😀\t"-', 'Aé😀\t"b'],
    ["A"],
  ],
  ["any character", 'root ::= .{2} "" | .?', ["", "é", "😀\n"], ["abc"]],
  [
    "counts",
    "root ::= [a-c]{2,} | [x]{0,3} | [y]{4}",
    ["", "abc", "xxx", "yyyy"],
    ["a", "xxxx", "yyy"],
  ],
  ["a rule over several lines", 'root ::= "a"\n  "b"\n  | "c"\nx ::= root', ["ab", "c"], ["a"]],
  ["rules with dashes in sets", "root ::= [a-] [+-]", ["a-", "-+"], ["b-"]],
])("%s", (_name, grammar, texts, others) => {
  expect(texts.filter((text) => !accepts(matcher(grammar), text))).toEqual([]);
  expect(others.filter((text) => accepts(matcher(grammar), text))).toEqual([]);
});

describe("a grammar is refused, with the rule that is wrong:", () => {
  const left = /begins with itself \(a, b, a\): left recursion is not supported/;
  test.each<[grammar: string, path: string, message: RegExp]>([
    ['root ::= a\na ::= b "x"\nb ::= ("y"? a) | "z"', ".a", left],
    ['root ::= (root) "a" | "x"? root "b" | "a"', ".root", /begins with itself \(root, root\)/],
    ['root ::= "a" x', ".root", /uses the rule x, which the grammar does not define/],
    ['start ::= "a"', "", /defines the rule root/],
    ['start: "a" ::=', "", /expected a rule, such as root ::= … \(line 1, column 1\)/],
    ['root ::= "a', "", /not closed \(line 1, column 12\)/],
    ['root ::= "a" )', "", /expected a rule/],
    ['root ::= ("a"', "", /a group is not closed/],
    ['root ::= "a"\nroot ::= "b"', "", /defined twice \(line 2/],
    ["root ::= [z-a]", "", /ends before it begins/],
    ["root ::= []", "", /a set has no characters/],
    [String.raw`root ::= "\q"`, "", /no such escape sequence/],
    [String.raw`root ::= "\ud800"`, "", /no such character/],
    [String.raw`root ::= "\u00"`, "", /has 4 hexadecimal digits/],
    ["root ::= [a]{3,2}", "", /repetition ends before/],
    ["root ::= [a]{}", "", /expected a repetition, such as/],
    ["root ::= [a]{2000000}", "", /at most 1000000 times/],
    ["root ::= <think>", "", /expected a literal/],
    ['root ::= "a" root', "", /allows no finite text/],
    [`root ::= ${"(".repeat(65)}`, "", /more than 64 groups/],
    [
      `root ::= ${Array.from({ length: 1_100 }, (_, i) => `r${i}`).join(" ")}`,
      "",
      /more than 1024/,
    ],
    // A palindrome needs more than one stack: its middle cannot be seen.
    ['root ::= x\nx ::= "a" x "a" | "b" x "b" | "a" | "b"', ".x", /is too large or too ambiguous/],
  ])("%.60s", (grammar, path, message) => {
    const error = expect.objectContaining({
      message: expect.stringMatching(message),
      param: message.source.includes("finite")
        ? "response_format"
        : `response_format.grammar${path}`,
    });
    expect(() => compile(grammar)).toThrow(error);
  });
});

test("a chain of as many rules as are allowed is compiled", () => {
  const last = LIMITS.grammarRulesMax - 2;
  const chain = Array.from({ length: last }, (_, i) => `r${i} ::= "a" r${i + 1} "b"`).join("\n");
  const grammar = `root ::= r0\n${chain}\nr${last} ::= "c"`;
  expect(accepts(matcher(grammar), `${"a".repeat(last)}c${"b".repeat(last)}`)).toBe(true);
});
