import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { startHealthServer } from "../../../worker/telemetry/health.ts";
import { Metrics } from "../../../worker/telemetry/metrics.ts";

const metrics = new Metrics({ version: "1.2.3", commit: "" });
let problem: string | null = null;
let away: Record<string, string> = {};
let problems: string[] = [];
const start = (port: number) =>
  startHealthServer(port, {
    state: async () => ({ problem, away, problems }),
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
  problems = ["Shard 1: Redis does not answer"];
  expect(await reply("/readyz")).toEqual([200, { status: "ok", problems }]);
  problems = [];
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
  const counts = {
    promptTokens: 30,
    cachedTokens: 16,
    generatedTokens: 8,
    drafts: {
      expert: { drafted: 5, accepted: 3 },
      lookup: { drafted: 2, accepted: 1 },
      base: { drafted: 0, accepted: 0 },
    },
    firstTokenMs: [30],
  };
  const stats = {
    models: new Map([["qa", counts]]),
    stepMs: [4, 40, 400],
    running: 2,
    waiting: 1,
    awaitsBase: false,
    cacheBytes: 1000,
    prefixBytes: 500,
  };
  metrics.setModels([
    { id: "qa", base: "big" },
    { id: "idle", base: "big" },
  ]);
  metrics.addEngineStats(stats);
  const second = new Map([["qa", { ...counts, firstTokenMs: [] }]]);
  metrics.addEngineStats({ ...stats, models: second, running: 0, stepMs: [] });
  metrics.jobEnded("succeeded", "qa");
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=/);
  const lines = (await response.text()).split("\n");
  // Counters are summed; gauges have the last value.
  expect(lines).toEqual(
    expect.arrayContaining([
      'trimtab_prompt_tokens_total{model="qa",base="big"} 60',
      'trimtab_prompt_tokens_cached_total{model="qa",base="big"} 32',
      'trimtab_generated_tokens_total{model="qa",base="big"} 16',
      'trimtab_drafted_tokens_total{drafter="expert",model="qa",base="big"} 10',
      'trimtab_accepted_tokens_total{drafter="expert",model="qa",base="big"} 6',
      'trimtab_accepted_tokens_total{drafter="lookup",model="qa",base="big"} 2',
      "trimtab_jobs_running 0",
      "trimtab_jobs_waiting 1",
      "trimtab_kv_cache_bytes 1000",
      "trimtab_prefix_cache_bytes 500",
      'trimtab_step_seconds_bucket{le="0.05"} 2',
      "trimtab_step_seconds_count 3",
      'trimtab_first_token_seconds_sum{model="qa",base="big"} 0.03',
      'trimtab_jobs_ended_total{state="succeeded",model="qa",base="big"} 1',
      // They exist before the first event, so that Prometheus sees the first increase.
      'trimtab_jobs_ended_total{state="failed",model="qa",base="big"} 0',
      'trimtab_generated_tokens_total{model="idle",base="big"} 0',
      'trimtab_time_to_first_token_seconds_count{model="idle",base="big"} 0',
      'trimtab_webhook_attempts_total{state="failed"} 0',
      `trimtab_build_info{version="1.2.3",commit="",node="${process.versions.node}"} 1`,
    ]),
  );
  expect(lines.some((line) => /^process_resident_memory_bytes \d{7}/.test(line))).toBe(true);
  server.close();
});
