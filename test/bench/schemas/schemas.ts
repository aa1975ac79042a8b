/**
 * Measures JSON Schemas of the real world: how many are accepted, whether their instances are judged rightly, and what compiling and
 * token masks cost. The data are not in this repository: `git clone https://github.com/guidance-ai/jsonschemabench` has them in
 * maskbench/data (schemas with valid and invalid instances) and in data/ (schemas only).
 *
 *     npm run bench:schemas -- --data jsonschemabench/maskbench/data --json results.json
 */
import { Command } from "commander";
import { writeFileSync } from "node:fs";
import { AppError } from "../../../shared/api/errors.ts";
import { compileGrammar } from "../../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import type { Grammar } from "../../../shared/grammar/rules/grammar.ts";
import { Matcher, type GrammarPosition } from "../../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../../worker/engine/grammar/token-trie.ts";
import { readCases, type SchemaCase } from "./cases.ts";
import { acceptedInSomeOrder, follow } from "./order.ts";
import { LongestTokens, vocabularyOf } from "./vocabulary.ts";

const options = new Command()
  .requiredOption("--data <folder>", "folder of schemas, or of schemas with instances")
  .option("--every <n>", "measures only each n-th schema", "1")
  .option("--json <file>", "writes the results to a file")
  .option("--details", "prints each refused schema and each instance that is judged otherwise")
  .parse()
  .opts<{ data: string; every: string; json?: string; details?: true }>();

const cases = [...readCases(options.data)].filter((_, i) => i % Number(options.every) === 0);
const vocabulary = vocabularyOf(
  cases.flatMap(({ instances }) => instances.map(({ text }) => text)),
);
const trie = new TokenTrie(vocabulary);
const tokens = new LongestTokens(vocabulary);
const counts = {
  schemas: 0,
  accepted: 0,
  valid: 0,
  validAccepted: 0,
  validInSomeOrder: 0,
  invalid: 0,
  invalidAccepted: 0,
};
const compileMs: number[] = [];
const maskMs: number[] = [];
const reasons = new Map<string, number>();
for (const one of cases) measure(one);

const results = {
  ...counts,
  acceptedPercent: percent(counts.accepted, counts.schemas),
  validAcceptedPercent: percent(counts.validAccepted, counts.valid),
  validInSomeOrderPercent: percent(counts.validInSomeOrder, counts.valid),
  compileMs: quantiles(compileMs),
  maskMs: quantiles(maskMs),
  vocabulary: trie.vocabSize,
  reasons: Object.fromEntries([...reasons].toSorted((a, b) => b[1] - a[1]).slice(0, 20)),
};
console.log(results);
if (options.json) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
if (counts.invalidAccepted > 0) process.exitCode = 1;

function measure({ name, schema, instances }: SchemaCase): void {
  counts.schemas++;
  const grammar = compiled(name, schema);
  if (grammar === null) return;
  counts.accepted++;
  const matcher = new Matcher(compileGrammar(grammar), trie);
  for (const { text, isValid } of instances) {
    const isAccepted = follow(matcher.start, text)?.canEnd ?? false;
    if (options.details && isAccepted !== isValid) console.log(name, { isValid, text });
    if (!isValid) {
      counts.invalid++;
      counts.invalidAccepted += Number(isAccepted);
      continue;
    }
    counts.valid++;
    counts.validAccepted += Number(isAccepted);
    counts.validInSomeOrder += Number(isAccepted || acceptedInSomeOrder(matcher, text));
    if (isAccepted) measureMasks(matcher.start, text);
  }
}

/** Null if the schema is refused. */
function compiled(name: string, schema: SchemaCase["schema"]): Grammar | null {
  const start = process.cpuUsage();
  try {
    const format = { type: "json_schema", json_schema: { name: "bench", schema } } as const;
    return compileResponseFormat(format)!;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { code, message, param } = error;
    const keyword = code === "unsupported_parameter" ? param?.split(".").at(-1) : "";
    const reason = `${keyword}: ${message.slice((param?.length ?? 0) + 1)}`;
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    if (options.details) console.log(name, message);
    return null;
  } finally {
    const { user, system } = process.cpuUsage(start);
    compileMs.push((user + system) / 1000);
  }
}

/** The mask before each token of a text, as a worker needs it: masks that were computed before are kept. */
function measureMasks(start: GrammarPosition, text: string): void {
  let position: GrammarPosition | null = start;
  for (const token of tokens.of(text)) {
    const before = performance.now();
    void position!.mask;
    maskMs.push(performance.now() - before);
    for (const byte of token) position = position!.advance(byte);
  }
}

function percent(part: number, of: number): number {
  return Math.round((10_000 * part) / Math.max(1, of)) / 100;
}

function quantiles(values: number[]): Record<string, number> {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: at(1) };
}
