/**
 * Runs every stage with every execution provider in under five minutes, and prints tables. It works without network, without npm and
 * with an empty PATH. A stage that fails, crashes or hangs is reported, and the others go on; the exit code is then 1.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { ExecutionProvider } from "../../worker/engine-client/messages.ts";
import { FAMILY_NAMES } from "../bench/models/family.ts";
import { describeEnvironment } from "./environment.ts";
import { printEnvironment, printStage } from "./report.ts";
import { runStage } from "./run-stage.ts";
import { PROVIDERS, type StageName, type StageResult } from "./stage.ts";

/** Longest time of a stage in seconds; `speed` takes what is left, in equal parts. */
const LIMITS: Readonly<Record<Exclude<StageName, "speed">, number>> = {
  models: 90,
  provider: 20,
  golden: 60,
  transfer: 20,
  cache: 40,
};
/** For the end of a stage that is late, and for this process. */
const RESERVE_SECONDS = 15;
const SHORTEST_SECONDS = 2;
const MINUTES_MIN = 0.5;
const MINUTES_MAX = 60;

const { values: args } = parseArgs({
  options: {
    json: { type: "string" },
    minutes: { type: "string", default: "4.8" },
    family: { type: "string", default: "inflated" },
    providers: { type: "string", default: PROVIDERS.join(",") },
    help: { type: "boolean", default: false },
  },
});
if (args.help) {
  console.log(
    `options: --json FILE, --minutes N (default 4.8), --family ${FAMILY_NAMES.join("|")}, --providers ${PROVIDERS.join(",")}`,
  );
  process.exit();
}
const minutes = Number(args.minutes);
if (!(minutes >= MINUTES_MIN && minutes <= MINUTES_MAX)) {
  console.error(`--minutes: expected ${MINUTES_MIN} to ${MINUTES_MAX}, not ${args.minutes}`);
  process.exit(1);
}
const family = oneOf("--family", FAMILY_NAMES, args.family);
const providers = args.providers.split(",").map((name) => oneOf("--providers", PROVIDERS, name));
const startedMs = performance.now();
const elapsedSeconds = () => (performance.now() - startedMs) / 1000;
const leftSeconds = () => 60 * minutes - RESERVE_SECONDS - elapsedSeconds();

const environment = describeEnvironment();
printEnvironment(environment);
const results: StageResult[] = [];
await run("models", "cpu", LIMITS.models);
for (const stage of ["provider", "golden", "transfer", "cache"] as const) {
  for (const provider of working(providers)) await run(stage, provider, LIMITS[stage]);
}
const measured = working(providers);
for (const [i, provider] of measured.entries()) {
  await run("speed", provider, leftSeconds() / (measured.length - i));
}
const seconds = Math.round(elapsedSeconds());
console.log(`\n${seconds} s`);
if (args.json !== undefined) {
  writeFileSync(args.json, JSON.stringify({ environment, family, seconds, results }, null, 2));
  console.log(`written to ${args.json}`);
}
process.exit(results.some(hasFailed) ? 1 : 0);

/** A provider that this machine lacks is no failure. */
function hasFailed({ stage, error, rows }: StageResult): boolean {
  const isWrong = rows.some((row) => Object.values(row).includes("FAILED"));
  return isWrong || (stage !== "provider" && error !== null);
}

async function run(stage: StageName, provider: ExecutionProvider, limit: number): Promise<void> {
  const seconds = Math.min(limit, leftSeconds());
  const result =
    seconds < SHORTEST_SECONDS
      ? { stage, provider, seconds: 0, error: "left out: the time is used up", rows: [] }
      : await runStage({ stage, provider, family, seconds });
  results.push(result);
  printStage(result);
}

/** Those whose stage `provider` has not failed. */
function working(providers: readonly ExecutionProvider[]): ExecutionProvider[] {
  return providers.filter(
    (name) =>
      !results.some(
        ({ stage, provider, error }) => stage === "provider" && provider === name && error !== null,
      ),
  );
}

function oneOf<Name extends string>(option: string, names: readonly Name[], value: string): Name {
  const name = names.find((known) => known === value);
  if (name !== undefined) return name;
  console.error(`${option}: expected one of ${names.join(", ")}, not ${value}`);
  process.exit(1);
}
