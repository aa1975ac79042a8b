/**
 * `npm run fuzz:grammar -- --minutes 5 --seed 1 --json FILE`: compares the grammars of random JSON Schemas with an independent
 * validator (ajv). A text that a grammar generates must be valid, and a value that it accepts, too. Each counterexample is made
 * small, printed, and saved with its seed; with any, the command fails.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as fc from "fast-check";
import { errorText, UserError } from "../../infra/stack/user-error.ts";
import { generated, jsonValues, judged, schemas } from "../support/schemas.ts";

const USAGE = "npm run fuzz:grammar -- [--minutes MINUTES] [--seed SEED] [--json FILE]";
/** Schemas from one seed. A new seed follows, so that a counterexample is found again without those before it. */
const RUNS = 20;

interface Counterexample {
  /** `--seed` with this number finds it again first. */
  readonly seed: number;
  readonly problem: "an invalid text is generated" | "an invalid value is accepted";
  readonly schema: object;
  /** The text, or the values that were tried. */
  readonly example: unknown;
  readonly error: string;
}

/** Counts of the comparisons. */
const counts = { schemas: 0, held: 0, texts: 0, values: 0, valid: 0, acceptedValid: 0 };

const texts = fc.property(schemas, fc.nat(), (schema, seed) => {
  counts.schemas++;
  const result = generated(schema, seed);
  if (result === null) return;
  counts.texts++;
  if (result.errors !== null) throw new Error(`${result.text}: ${result.errors}`);
});

const values = fc.property(schemas, jsonValues, (schema, candidates) => {
  counts.schemas++;
  const results = judged(schema, candidates);
  if (results.length > 0) counts.held++;
  for (const { value, isValid, isAccepted } of results) {
    counts.values++;
    if (isValid) counts.valid++;
    if (isValid && isAccepted) counts.acceptedValid++;
    if (isAccepted && !isValid) throw new Error(JSON.stringify(value));
  }
});

function compare(seed: number): Counterexample[] {
  const checks = [
    [texts, "an invalid text is generated"],
    [values, "an invalid value is accepted"],
  ] as const;
  return checks.flatMap(([property, problem]) => {
    const result = fc.check<[object, unknown]>(property as fc.IProperty<[object, unknown]>, {
      seed,
      numRuns: RUNS,
    });
    if (!result.failed) return [];
    const [schema, example] = result.counterexample!;
    return [{ seed, problem, schema, example, error: errorText(result.errorInstance) }];
  });
}

function numberOption(name: string, text: string, min: number): number {
  const value = Number(text);
  if (!(value >= min))
    throw new UserError(`--${name} must be a number of at least ${min}\n${USAGE}`);
  return value;
}

try {
  const { values: options } = parseArgs({
    options: {
      minutes: { type: "string", default: "5" },
      seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
      json: { type: "string" },
    },
  });
  const minutes = numberOption("minutes", options.minutes, 0);
  const firstSeed = Math.floor(numberOption("seed", options.seed, 0));
  console.log(`${minutes} minutes from --seed ${firstSeed}`);
  const endMs = performance.now() + minutes * 60_000;
  const found: Counterexample[] = [];
  let seed = firstSeed;
  do {
    for (const counterexample of compare(seed)) {
      found.push(counterexample);
      console.log(JSON.stringify(counterexample));
    }
    seed++;
  } while (performance.now() < endMs);
  console.log({ seeds: seed - firstSeed, ...counts, counterexamples: found.length });
  if (options.json !== undefined) {
    const report = { seed: firstSeed, seeds: seed - firstSeed, ...counts, counterexamples: found };
    writeFileSync(options.json, JSON.stringify(report, null, 2));
  }
  if (found.length > 0) process.exitCode = 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}
