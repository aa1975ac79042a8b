import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { startHealth } from "../../worker/health.ts";
import { Metrics } from "../../worker/metrics.ts";

const metrics = new Metrics();

test("a worker is alive while it runs, ready while it takes jobs, and says nothing else", async () => {
  let ready = false;
  const server = await startHealth(0, () => ready, metrics.registry);
  const status = async (path: string) => {
    const { port } = server.address() as AddressInfo;
    return (await fetch(`http://127.0.0.1:${port}${path}`)).status;
  };
  expect(await status("/healthz")).toBe(200);
  expect(await status("/readyz")).toBe(503);
  ready = true;
  expect(await status("/readyz")).toBe(200);
  expect(await status("/")).toBe(404);
  server.closeAllConnections();
  server.close();
});

test("a port that is taken is an error", async () => {
  const server = await startHealth(0, () => true, metrics.registry);
  const { port } = server.address() as AddressInfo;
  await expect(startHealth(port, () => true, metrics.registry)).rejects.toThrow("EADDRINUSE");
  server.close();
});

test("Prometheus reads what the engine has counted, and the process", async () => {
  const server = await startHealth(0, () => true, metrics.registry);
  const { port } = server.address() as AddressInfo;
  const figures = {
    promptTokens: 30,
    cachedTokens: 16,
    generatedTokens: 8,
    drafts: { expert: { drafted: 5, accepted: 3 }, lookup: { drafted: 2, accepted: 1 } },
    stepMs: [4, 40, 400],
    firstTokenMs: [30],
    running: 2,
    waiting: 1,
    cacheBytes: 1000,
    prefixBytes: 500,
  };
  metrics.add(figures);
  metrics.add({ ...figures, running: 0, stepMs: [], firstTokenMs: [] });
  metrics.jobEnded("succeeded");
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=/);
  const lines = (await response.text()).split("\n");
  // Counters add up, gauges are the last.
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
