/**
 * Hostile requests, made from a seed: response formats that multiply, prompts, biases and stop strings at and beyond their
 * limits, deep nesting. Each is checked as the edge and a batch check it. It must be accepted or refused with an error that
 * names its field, within the budget of steps, and what is accepted must compile again on the worker.
 */
import * as fc from "fast-check";
import { AppError } from "../../shared/api/errors.ts";
import { JobRequest } from "../../shared/api/jobs.ts";
import { parseJson } from "../../shared/api/json-text.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { Budget } from "../../shared/grammar/rules/budget.ts";
import { compileGrammar } from "../../shared/grammar/automaton/compile.ts";
import type { Grammar } from "../../shared/grammar/rules/grammar.ts";
import { submissionOf, type RequestContext } from "../../shared/submission/submission.ts";
import { inputOf, parseRequest } from "../../shared/submission/validate.ts";

const CARD = {
  id: "demo",
  description: "",
  createdAtMs: 0,
  contextTokens: 1_024,
  vocabSize: 2_048,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "base",
  fingerprint: "weights",
  reproducible: true,
};

const CONTEXT: RequestContext = {
  principal: {
    version: 1,
    id: "key",
    name: "",
    tenant: "acme",
    sha256: "",
    createdAtMs: 0,
    scopes: [],
    limits: {},
    within: [],
  },
  models: {
    workersOf: () => Promise.resolve([]),
    model: async (id) => (id === CARD.id ? CARD : null),
  },
  jobs: { record: async () => null, output: async () => null },
  webhookAllow: [],
};
const FIRST_JOB = { id: "job_1", deadlineInMs: 1_000 };

const count = fc.constantFrom(0, 1, 2, 3, 9, 40, 63, 255, 1_000, 65_535, 10 ** 9);
const times = fc.oneof(
  fc.constantFrom("*", "+", "?"),
  fc.tuple(count, count).map(([a, b]) => `{${Math.min(a, b)},${Math.max(a, b)}}`),
  count.map((n) => `{${n}}`),
  count.map((n) => `{${n},}`),
);
const set = fc.constantFrom(
  ...'a|ab|[a-z ]|[a-q ]|\\w|\\s|\\d|.|[^]|[^a]|\\p{L}|\\p{Lu}|[\\p{L}\\p{N}]|é|😀|\\u{10FFFF}|"|\\\\'.split(
    "|",
  ),
);
const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 6, depthSize: "medium" },
    set,
    fc.array(tie("pattern"), { minLength: 1, maxLength: 4 }).map((parts) => parts.join("")),
    fc
      .array(tie("pattern"), { minLength: 1, maxLength: 4 })
      .map((parts) => `(?:${parts.join("|")})`),
    fc.tuple(tie("pattern"), times).map(([part, times]) => `(${part})${times}`),
    // A little longer than a pattern may be, at most.
    fc
      .tuple(tie("pattern"), fc.integer({ min: 2, max: 200 }))
      .map(([part, n]) => part.repeat(Math.min(n, Math.ceil(LIMITS.regexCharsMax / part.length)))),
    fc.constantFrom("(", "[", "(?=a)", "\\1", "{", "a{2,1}", "((((", "^", "$"),
  ),
}));

const names = fc.array(fc.string({ maxLength: 6 }), { maxLength: 40 });
const { schema } = fc.letrec<{ schema: unknown }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 5, depthSize: "medium" },
    fc.constantFrom(
      {},
      true,
      false,
      null,
      { $ref: "#" },
      { $ref: "#/anyOf/0" },
      { type: "object" },
    ),
    pattern.map((pattern) => ({ type: "string", pattern })),
    fc.tuple(count, count).map(([minLength, maxLength]) => ({ minLength, maxLength })),
    fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 60 }).map((values) => ({ enum: values })),
    fc.array(tie("schema"), { maxLength: 5 }).map((anyOf) => ({ anyOf })),
    fc
      .tuple(tie("schema"), count, count)
      .map(([items, a, b]) => ({ items, minItems: Math.min(a, b), maxItems: Math.max(a, b) })),
    fc.array(tie("schema"), { maxLength: 5 }).map((prefixItems) => ({ prefixItems })),
    fc.tuple(names, tie("schema"), fc.boolean()).map(([names, value, isRequired]) => ({
      properties: Object.fromEntries(names.map((name) => [name, value])),
      required: isRequired ? [...new Set(names)] : [],
    })),
    fc.tuple(tie("schema"), fc.integer({ min: 1, max: 80 })).map(([inner, depth]) => {
      let nested = inner;
      for (let i = 0; i < depth; i++) nested = { items: nested };
      return nested;
    }),
  ),
}));

const format = fc.oneof(
  pattern.map((pattern) => ({ type: "regex", pattern })),
  schema.map((schema) => ({ type: "json_schema", json_schema: { name: "x", schema } })),
  fc.constantFrom({ type: "json_object" }, { type: "text" }, { type: "xml" }, null),
);
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc
    .tuple(fc.constantFrom("İ", "😀", " ", "a"), count)
    .map(([part, n]) => part.repeat(Math.min(n, 5_000))),
);
const biases = fc.dictionary(
  fc.oneof(fc.nat(3_000).map(String), fc.constantFrom("-1", "1.5", "1e3", "__proto__", "01", "")),
  fc.oneof(fc.integer({ min: -200, max: 200 }), fc.constantFrom(null, "1", 1e308)),
  { maxKeys: 30 },
);
/** One hostile field a request: a second one would mostly hide the first. */
const body = fc.oneof(
  { weight: 6, arbitrary: fc.record({ prompt: fc.constant("x"), response_format: format }) },
  fc.record({
    prompt: fc.oneof(text, fc.array(fc.integer({ min: -1, max: 3_000 }), { maxLength: 600 })),
  }),
  fc.record({ prompt: fc.constant("x"), logit_bias: biases }),
  fc.record({ prompt: fc.constant("x"), stop: fc.oneof(text, fc.array(text, { maxLength: 20 })) }),
  fc.record({ prompt: fc.constant("x"), max_tokens: count }),
  fc.record({
    prompt: fc.constant("x"),
    metadata: fc.dictionary(fc.string(), fc.oneof(text, fc.jsonValue())),
  }),
);

/** @returns how many were accepted. @throws Error with the request if one breaks a rule */
export async function fuzzRequests(seed: number, requests: number): Promise<number> {
  let accepted = 0;
  for (const request of fc.sample(body, { seed, numRuns: requests })) {
    const text = JSON.stringify({ model: CARD.id, ...request });
    try {
      for (const grammar of await grammarsOf(text)) {
        if (!grammar) continue;
        // From here on this is the worker's work: the grammar comes out of Redis.
        const budget = new Budget();
        compileGrammar(JSON.parse(JSON.stringify(grammar)) as Grammar, budget);
        if (budget.used > LIMITS.grammarStepsMax) throw new Error(`${budget.used} steps`);
      }
      accepted++;
    } catch (error) {
      if (isRefusal(error)) continue;
      throw new Error(`Seed ${seed}: ${text.slice(0, 2_000)}`, { cause: error });
    }
  }
  return accepted;
}

/** Checks a request as the edge does. @returns the grammar of each of its jobs */
async function grammarsOf(text: string): Promise<(Grammar | undefined)[]> {
  const request = parseRequest(JobRequest, parseJson(text, "The body"));
  const submission = { request, inputs: [inputOf(request)], n: 1 };
  const { jobs } = await submissionOf(CONTEXT, submission, FIRST_JOB);
  return jobs.map(({ generation }) => generation.grammar);
}

function isRefusal(error: unknown): boolean {
  if (!(error instanceof AppError) || error.status >= 500) return false;
  const isNamed = error.param != null || /nested too deep/.test(error.message);
  return isNamed && error.message.length < 2_000;
}
