import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { startHealthServer } from "../../../worker/telemetry/health.ts";
import { Metrics } from "../../../worker/telemetry/metrics.ts";

const metrics = new Metrics();
let problem: string | null = null;
let away: Record<string, string> = {};
const start = (port: number) =>
  startHealthServer(port, {
    state: async () => ({ problem, away }),
    metrics: () => metrics.registry.metrics(),
  });

test("/healthz is 200 while the worker runs, /readyz while it takes work and else 503 with the reason, and other paths are 404", async () => {
  problem = "Redis does not answer";
  const server = await start(0);
  const reply = async (path: string) => {
    const { port } = server.address() as AddressInfo;
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return [response.status, await response.json()];
  };
  expect(await reply("/healthz")).toEqual([200, { status: "ok" }]);
  expect(await reply("/readyz")).toEqual([503, { status: "not ready", reason: problem }]);
  problem = null;
  expect(await reply("/readyz")).toEqual([200, { status: "ok" }]);
  // Other models are served meanwhile.
  away = { "legal-70b": "The base model big: the connection failed" };
  expect(await reply("/readyz")).toEqual([200, { status: "ok", away }]);
  away = {};
  expect(await reply("/")).toEqual([404, { status: "not found" }]);
  server.closeAllConnections();
  server.close();
});

test("a port in use is an error", async () => {
  const server = await start(0);
  const { port } = server.address() as AddressInfo;
  await expect(start(port)).rejects.toThrow("EADDRINUSE");
  server.close();
});

test("/metrics has the engine's counts and those of the process", async () => {
  const server = await start(0);
  const { port } = server.address() as AddressInfo;
  const stats = {
    promptTokens: 30,
    cachedTokens: 16,
    generatedTokens: 8,
    drafts: {
      expert: { drafted: 5, accepted: 3 },
      lookup: { drafted: 2, accepted: 1 },
      base: { drafted: 0, accepted: 0 },
    },
    stepMs: [4, 40, 400],
    firstTokenMs: [30],
    running: 2,
    waiting: 1,
    awaitsBase: false,
    cacheBytes: 1000,
    prefixBytes: 500,
  };
  metrics.addEngineStats(stats);
  metrics.addEngineStats({ ...stats, running: 0, stepMs: [], firstTokenMs: [] });
  metrics.jobEnded("succeeded");
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=/);
  const lines = (await response.text()).split("\n");
  // Counters are summed; gauges have the last value.
  expect(lines).toEqual(
    expect.arrayContaining([
      "trimtab_prompt_tokens_total 60",
      "trimtab_prompt_tokens_cached_total 32",
      "trimtab_generated_tokens_total 16",
      'trimtab_drafted_tokens_total{drafter="expert"} 10',
      'trimtab_accepted_tokens_total{drafter="expert"} 6',
      'trimtab_accepted_tokens_total{drafter="lookup"} 2',
      "trimtab_jobs_running 0",
      "trimtab_jobs_waiting 1",
      "trimtab_kv_cache_bytes 1000",
      "trimtab_prefix_cache_bytes 500",
      'trimtab_step_seconds_bucket{le="0.05"} 2',
      "trimtab_step_seconds_count 3",
      "trimtab_first_token_seconds_sum 0.03",
      'trimtab_jobs_ended_total{state="succeeded"} 1',
    ]),
  );
  expect(lines.some((line) => /^process_resident_memory_bytes \d{7}/.test(line))).toBe(true);
  server.close();
});
