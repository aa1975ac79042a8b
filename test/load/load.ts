/**
 * `npm run load`: keeps a number of streams open on a local stack, each for one job after another, and measures
 * throughput, latencies, memory and connections to Redis.
 */
import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { Command } from "commander";
import { stopOnInterrupt } from "../../infra/stack/interrupt.ts";
import { errorText } from "../../infra/stack/user-error.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { printLoad } from "./report.ts";
import { runLoad } from "./run.ts";

const options = new Command("npm run load --")
  .description(
    "keep streams open on a local stack and measure throughput, latencies, memory, processor time and connections",
  )
  .option("--streams <number>", "streams at the same time", Number, 50)
  .option("--minutes <number>", "duration of the measurement", Number, 1)
  .option("--workers <number>", "number of worker processes", Number, 1)
  .option("--shards <number>", "number of Redis servers that share the streams", Number, 1)
  .option("--tokens <number>", "tokens of each answer", Number, 64)
  .option("--free-decoder", "workers whose models cost nothing: what the rest carries", false)
  .option("--token-ms <number>", "with it: time between the tokens of a stream", Number, 1_000)
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{
    streams: number;
    minutes: number;
    workers: number;
    shards: number;
    tokens: number;
    freeDecoder: boolean;
    tokenMs: number;
    json?: string;
  }>();

stopOnInterrupt();
try {
  const { minutes, streams, workers, shards, tokens, freeDecoder, tokenMs } = options;
  const report = await runLoad({
    streams,
    seconds: Math.round(minutes * 60),
    workers,
    shards,
    tokens,
    freeTokenMs: freeDecoder ? tokenMs : null,
  });
  printLoad(report);
  if (options.json) {
    writeFileSync(options.json, JSON.stringify(report, null, 2));
    console.log(`\nwritten to ${resolve(options.json)}`);
  }
  process.exitCode = report.failures.length === 0 ? 0 : 1;
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();
