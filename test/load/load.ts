/**
 * `npm run load`: holds a number of streams open against a stack on this machine, each with a job of its own and the next
 * one as soon as that ends, and tells what that costs: throughput, latencies, memory and connections.
 */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { explain } from "../../infra/stack/problem.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { ensureRedisServer } from "../../infra/stack/redis.ts";
import { printLoad } from "./report.ts";
import { runLoad } from "./run.ts";

const options = new Command("npm run load --")
  .description("holds streams open against a local stack, and measures")
  .option("--streams <number>", "at once", Number, 50)
  .option("--minutes <number>", "for how long", Number, 1)
  .option("--workers <number>", "worker processes", Number, 1)
  .option("--tokens <number>", "of each answer", Number, 64)
  .option("--json <file>", "write the report to a file")
  .parse()
  .opts<{ streams: number; minutes: number; workers: number; tokens: number; json?: string }>();

stopOnInterrupt();
try {
  ensureRedisServer(console.log);
  const { minutes, streams, workers, tokens } = options;
  const report = await runLoad({ streams, seconds: minutes * 60, workers, tokens });
  printLoad(report);
  if (options.json) {
    writeFileSync(options.json, JSON.stringify(report, null, 2));
    console.log(`\nwritten to ${resolve(options.json)}`);
  }
  process.exitCode = report.failures.length === 0 ? 0 : 1;
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();
