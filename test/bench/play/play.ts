/**
 * `npm run bench:play`: frames of the playground while 500 tokens stream into each of its columns, in a real Chromium with a worker
 * on the same machine. Frame times depend on the machine's other load, so the report has it; the time that the page's own work takes
 * per token depends less on it.
 */
import { loadavg } from "node:os";
import { Command } from "commander";
import type { CDPSession, Page } from "playwright-core";
import { startChromium } from "../../../infra/stack/chromium.ts";
import { startEdge } from "../../../infra/stack/edge.ts";
import { connectRedis, startRedis } from "../../../infra/stack/redis.ts";
import { startWorker } from "../../../infra/stack/worker.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { column, complete, openPlayground, runButton, tokensOf } from "../../support/play-page.ts";
import { describeMachine } from "../machine.ts";
import { runBench } from "../run-bench.ts";
import { quantile } from "../statistics.ts";

const TOKENS = 500;
/** Target: at most this many ms between two frames at the 95th percentile. */
const FRAME_MS_MAX = 50;
const TIMEOUT_MS = 300_000;
/** Longer than 500 tokens, so that both answers end at their limit. */
const FORMAT = { type: "regex", pattern: "([a-z]{3,9} ){600,700}" };

const { json } = new Command("npm run bench:play --")
  .description("measure the playground's frames while 500 tokens stream into each column")
  .option("--json <file>", "also write the report to this file")
  .parse()
  .opts<{ json?: string }>();

await runBench(bench, print, json);

async function bench() {
  const { url: redisUrl } = await startRedis();
  const [edge, , browser, redis] = await Promise.all([
    startEdge({ redisUrl }),
    startWorker({ redisUrl }),
    startChromium(),
    connectRedis(redisUrl),
  ]);
  const { key } = await new KeyRegistry(redis).create("bench");
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const fragment = new URLSearchParams({
    max_tokens: String(TOKENS),
    response_format: JSON.stringify(FORMAT),
  });
  await openPlayground(page, { url: edge.url, key, fragment: fragment.toString() });
  const loadBefore = loadavg()[0]!;
  const startedMs = performance.now();
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const busyBeforeMs = await busyMs(session);
  await startFrames(page);
  await runButton(page).click();
  await complete(page);
  const frames = (await page.evaluate<number[]>("window.stopFrames()")).toSorted((a, b) => a - b);
  const ms = performance.now() - startedMs;
  const busy = (await busyMs(session)) - busyBeforeMs;
  const counts = await Promise.all(
    (["Base alone", "Steered"] as const).map((name) => tokensOf(column(page, name)).count()),
  );
  const tokens = counts.reduce((sum, count) => sum + count, 0);
  await browser.close();
  redis.disconnect();
  return {
    machine: describeMachine(),
    load: { before: loadBefore, after: loadavg()[0]! },
    tokens: counts,
    tokensPerSecond: tokens / (ms / 1000),
    frames: frames.length,
    frameMs: {
      p50: quantile(frames, 0.5),
      p95: quantile(frames, 0.95),
      p99: quantile(frames, 0.99),
      max: frames.at(-1)!,
    },
    pageMsPerToken: busy / tokens,
  };
}

/** Records the time between frames until the page's `stopFrames` is called. */
async function startFrames(page: Page): Promise<void> {
  await page.evaluate(`
    const frames = [];
    let last = performance.now();
    let running = true;
    const tick = (now) => {
      frames.push(now - last);
      last = now;
      if (running) requestAnimationFrame(tick);
    };
    requestAnimationFrame((now) => { last = now; requestAnimationFrame(tick); });
    window.stopFrames = () => { running = false; return frames; };
  `);
}

/** The time that the page's main thread has worked so far. */
async function busyMs(session: CDPSession): Promise<number> {
  const { metrics } = await session.send("Performance.getMetrics");
  return 1000 * (metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0);
}

function print(report: Awaited<ReturnType<typeof bench>>): void {
  const { frameMs, load } = report;
  const isMet = frameMs.p95 <= FRAME_MS_MAX;
  const lines = [
    `${report.tokens.join(" and ")} tokens, ${report.tokensPerSecond.toFixed(0)} tokens/s in both columns together`,
    `${report.frames} frames: p50 ${frameMs.p50.toFixed(1)} ms, p95 ${frameMs.p95.toFixed(1)} ms, p99 ${frameMs.p99.toFixed(1)} ms, longest ${frameMs.max.toFixed(1)} ms`,
    `target p95 at most ${FRAME_MS_MAX} ms: ${isMet ? "met" : "missed"}`,
    `the page's main thread works ${report.pageMsPerToken.toFixed(2)} ms per token`,
    `load of the machine before and after: ${load.before.toFixed(1)}, ${load.after.toFixed(1)}`,
  ];
  console.log(lines.join("\n"));
}
