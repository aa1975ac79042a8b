/** Grammars of the Lark toolkit: the texts that they allow, and what is refused. */
import { describe, expect, test } from "vitest";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { accepts, matcherOf } from "../../support/grammar.ts";

const matcher = (grammar: string) => matcherOf({ type: "grammar", grammar });

const CALCULATOR = String.raw`
?start: sum
      | NAME "=" sum    -> assign_var
?sum: product
    | sum "+" product   -> add
    | sum "-" product   -> sub
?product: atom
    | product "*" atom  -> mul
    | product "/" atom  -> div
?atom: NUMBER           -> number
     | "-" atom         -> neg
     | NAME             -> var
     | "(" sum ")"

%import common.CNAME -> NAME
%import common.NUMBER
%import common.WS_INLINE
%ignore WS_INLINE
`;
const JSON_GRAMMAR = String.raw`
// The grammar of Lark's tutorial.
?value: dict
      | list
      | string
      | SIGNED_NUMBER      -> number
      | "true"             -> true
      | "false" | "null"
list : "[" [value ("," value)*] "]"
dict : "{" [pair ("," pair)*] "}"
pair : string ":" value
string : ESCAPED_STRING
%import common (ESCAPED_STRING, SIGNED_NUMBER)
%import common.WS
%ignore WS
`;
const SQL = String.raw`
start: select_statement
select_statement: "SELECT"i _WS column _WS "from"i _WS table [_WS where]
where.2: "where"i _WS condition
column: /[a-z_]+\d?/i
table: "table_1" | 'table_2'
condition: expr
expr: expr "and"i expr | "not " expr | column "=" INT+ _WS?
_WS: " "+
INT.1: "0".."9"
`;
/** Repetitions end as soon as they can; an assertion sees the part before it. */
const STRINGS = String.raw`
start: STRING ("," STRING)*
_INNER: /.*?/
_END: /(?<!\\)(\\\\)*?/
STRING: /[ub]?r?/i ("\"" _INNER _END "\"" | /'.*?'/)
`;

test.each<[name: string, grammar: string, texts: string[], others: string[]]>([
  [
    "a calculator",
    CALCULATOR,
    ["1", "a_1 = 2.5e3*( b-  -3 ) / 4", "x=-.5", " 1 + 2"],
    ["1 +", "a = b = c", "(1", "1\n", "1 2"],
  ],
  [
    "JSON",
    JSON_GRAMMAR,
    [' {"a" : [1, {"é": null}], "b":"\\"x\\\\"}\n', "[]", "-1.5"],
    ['{"a":}', '"a"b"', '{"a": "\\"}'],
  ],
  [
    "SQL",
    SQL,
    ["select col_1 FROM table_2", "SELECT A  from table_1 where x=1 andnot y=22andz=3"],
    ["select col_12 from table_1", "select a from TABLE_1", "select a from table_1 where and"],
  ],
  ["strings", STRINGS, ['""', String.raw`R"a\"b",b'"'`], ['"a"b"', '"a\\"', '"a\nb"', "'a'b'"]],
  [
    "counts",
    'start: "a"~2 ("b" "c")~1..2 "d"{2,} "e"{,1}',
    ["aabcdd", "aabcbcddde"],
    ["abcdd", "aabcd", "aabcddee"],
  ],
  ["counts of terminals", 'start: A~2\nA: (/[a-c]/ "x")~2..3', ["axbxaxbx"], ["axbxax"]],
  [
    "escapes",
    String.raw`start: "\x41\u00e9\U0001F600\t\"\\" '\'"' /\/\-\ [\w\-\]]+[]"']/`,
    ['Aé😀\t"\\\'"/- a-]"'],
    ['Aé😀\t"\\\'"/- a-', 'Aé😀\t"\\\'"/-a]'],
  ],
  [
    "flags",
    String.raw`start: /a.b/s /[é]x/iu /\W/`,
    ["a\nbÉX-", "a\rbéx "],
    ["A\nbéx-", "a\nbéxy"],
  ],
  ["a dot is no line end", "start: /./", ["\r", "é"], ["\n"]],
  ["letters of any case", 'start: "straße-Σ"i', ["STRAßE-σ", "straße-Σ"], ["STRASSE-Σ"]],
  [
    "terminals of terminals",
    "start: KEY\nKEY: LETTER (LETTER | DIGIT)* \n%import common.LETTER\n%import common.DIGIT",
    ["a1", "B"],
    ["1a", ""],
  ],
  [
    "several alternatives ignored",
    'start: "a" "b"\n%ignore " " | "\\t"',
    ["a \t b ", " ab"],
    ["a\nb"],
  ],
  ["a comment within", 'start: "a" // x: y\n  | "b" # z: /\n  "c"', ["a", "bc"], ["b"]],
  [
    "comments after names",
    `start: item # one: two\n  | other ${"#".repeat(200)}\nitem // x: y\n : "a"\nother ${"#".repeat(200)}\n: "b"`,
    ["a", "b"],
    [""],
  ],
  ["the first rule without start", 'list: "a"\nother: "b"', ["a"], ["b"]],
  ["a terminal alone", "START: /ab?/", ["a", "ab"], ["b"]],
  ["names with dashes", 'start: my-rule->alias\nmy-rule: "a"', ["a"], [""]],
  ["no lines between rules", 'start: a b\na: "x"? b: ["y"]', ["", "x", "xy"], ["yx"]],
])("%s", (_name, grammar, texts, others) => {
  expect(texts.filter((text) => !accepts(matcher(grammar), text))).toEqual([]);
  expect(others.filter((text) => accepts(matcher(grammar), text))).toEqual([]);
});

test("a rule that begins and ends with itself has the texts of its repetition", () => {
  const grammar =
    'start: start "+" start | "-" start | start "!" | start start | "n" | "(" start ")"';
  const { start, ...texts } = {
    start: matcher(grammar),
    valid: ["n", "-n!+--n", "nn-(n+n)!", "n!!nn"],
    invalid: ["", "n+", "-", "+n", "!", "(n", "n-"],
  };
  expect(texts.valid.filter((text) => !accepts(start, text))).toEqual([]);
  expect(texts.invalid.filter((text) => accepts(start, text))).toEqual([]);
});

const lines = (count: number, make: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => make(i)).join("\n");
const nested = (part: string) => `${"(".repeat(60)}${part}${"+)".repeat(60)}`;

describe("a grammar is refused, with the rule that is wrong:", () => {
  test.each<[grammar: string, path: string, message: RegExp]>([
    ["x", "", /in Lark: expected a rule, such as start: "a" \(or root ::= "a" in GBNF\) \(line 1/],
    ["// a comment", "", /must define a rule/],
    ['start: "a" other', ".start", /uses the rule other, which the grammar does not define/],
    ["start: A", ".start", /uses the terminal A, which the grammar does not define/],
    ["start: A\nA: B\nB: A", ".B", /uses the terminal A, which refers to itself/],
    ['start: A\nA: rule\nrule: "x"', ".A", /uses the rule rule, but a terminal has no rules/],
    ["start: other\nother: start", ".start", /begins with itself \(start, other, start\)/],
    ['start: "p" start | start "+" start | b\nb: start "x" | "y"', ".start", /\(start, b, start\)/],
    ['start: "a"\nstart: "b"', "", /start is defined twice \(line 2/],
    ['start: "a', "", /not closed/],
    ['start: ("a"', "", /a group is not closed with \)/],
    ['start: "a"]', "", /expected a rule/],
    [`start: ${"(".repeat(65)}`, "", /more than 64 groups/],
    ['start: "a"~3..2', "", /ends before it begins/],
    ['start: "ab".."c"', "", /expected a range of characters/],
    ["start: /[/", ".start", /must be a regular expression/],
    ["start: /a/x", ".start", /flags other than i, s and u/],
    [String.raw`start: /a\b/ "c"`, ".start", /has an assertion at the edge of a terminal/],
    ["start: /^a/", ".start", /has an assertion at the edge/],
    [String.raw`start: /a(?!bc)b/`, ".start", /has a lookaround of more than one character/],
    [String.raw`start: A "b"` + "\nA: /(a)\\1/", ".A", /has back references/],
    ["start: a{b}\na{x}: x", ".start", /uses the template a/],
    ["a{x}: x", ".a", /is a template/],
    ["a[capture]: /x/", ".a", /has attributes/],
    ["start: <|end|>", ".start", /has special tokens/],
    ["start: %json {}", ".start", /has %json/],
    ["%declare A\nstart: A", "", /has %declare/],
    ["%import python.NAME\nstart: NAME", "", /imports from python, not from common/],
    ["%import .other.NAME\nstart: NAME", "", /imports from \.other, not from common/],
    ["%import common.NAMES\nstart: NAMES", "", /the library common has no terminal NAMES/],
    ['start: "a" start', "", /allows no finite text/],
    ["start: a # :", ".start", /uses the rule a, which/],
    [`start: /${"[".repeat(1_025)}/`, ".start", /must be at most 1024 characters/],
    [
      `start: A0\n${lines(5_000, (i) => `A${i}: A${i + 1}`)}`,
      ".A255",
      /is nested too deep with the terminals that it uses: at most 256/,
    ],
    // Each is read after the one that it uses.
    [
      `start: A0 A1 A2 A3 A4 A5\nA0: "x"\n${lines(5, (i) => `A${i + 1}: ${nested(`A${i}`)}`)}`,
      ".A5",
      /is nested too deep/,
    ],
    [
      `start: A30\nA0: "a"\n${lines(30, (i) => `A${i + 1}: A${i} A${i}`)}`,
      ".A17",
      /is too large with the terminals that it uses/,
    ],
  ])("%.60s", (grammar, path, message) => {
    const param = message.source.includes("finite")
      ? "response_format"
      : `response_format.grammar${path}`;
    const error = expect.objectContaining({ message: expect.stringMatching(message), param });
    expect(() => compileResponseFormat({ type: "grammar", grammar })).toThrow(error);
  });
});
