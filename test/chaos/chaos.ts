/**
 * `npm run chaos`: kills, freezes and restarts the parts of a real stack at random while clients use it, then checks
 * every guarantee from outside. The exit code is 1 if one was broken; the same seed repeats the run.
 */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { printReport } from "./report.ts";
import { runChaos } from "./run.ts";

const options = new Command("npm run chaos --")
  .description("inject random faults into a stack and check that no job is lost or repeated")
  .option("--minutes <number>", "time during which faults happen", Number, 5)
  .option("--seed <number>", "seed of all random choices", Number, Date.now() % 1_000_000)
  .option("--clients <number>", "clients at the same time", Number, 16)
  .option("--busy <number>", "processes that keep the processors busy meanwhile", Number, 0)
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ minutes: number; seed: number; clients: number; busy: number; json?: string }>();

stopOnInterrupt();
try {
  const { minutes, seed, clients, busy } = options;
  const log = (line: string) => process.stderr.write(`${line}\n`);
  const seconds = Math.round(minutes * 60);
  const report = await runChaos({ seed, seconds, clients, requests: 36, busy, log });
  printReport(report);
  if (options.json) {
    writeFileSync(options.json, JSON.stringify(report, null, 2));
    console.log(`\nwritten to ${resolve(options.json)}`);
  }
  process.exitCode = report.violations.length === 0 ? 0 : 1;
} catch (error) {
  console.error(`seed ${options.seed}: ${errorText(error)}`);
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();
