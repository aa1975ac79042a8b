/**
 * `npm run chaos`: a real stack that is killed, frozen and restarted at random from a seed while clients use it; then every
 * promise is checked from outside. Ends with 1 and the seed if one was broken.
 */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { explain } from "../../infra/stack/problem.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { ensureRedisServer } from "../../infra/stack/redis.ts";
import { printReport } from "./report.ts";
import { runChaos } from "./run.ts";

const options = new Command("npm run chaos --")
  .description("breaks a stack at random and checks that nothing is lost")
  .option("--minutes <number>", "for how long faults happen", Number, 5)
  .option("--seed <number>", "of all that is random", Number, Date.now() % 1_000_000)
  .option("--clients <number>", "at once", Number, 16)
  .option("--json <file>", "write the report to a file")
  .parse()
  .opts<{ minutes: number; seed: number; clients: number; json?: string }>();

stopOnInterrupt();
try {
  ensureRedisServer(console.log);
  const { minutes, seed, clients } = options;
  const say = (line: string) => process.stderr.write(`${line}\n`);
  const report = await runChaos({ seed, seconds: minutes * 60, clients, requests: 36, say });
  printReport(report);
  if (options.json) {
    writeFileSync(options.json, JSON.stringify(report, null, 2));
    console.log(`\nwritten to ${resolve(options.json)}`);
  }
  process.exitCode = report.violations.length === 0 ? 0 : 1;
} catch (error) {
  console.error(`seed ${options.seed}: ${explain(error)}`);
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();
