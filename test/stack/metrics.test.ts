/** The metrics of a worker and an edge, and that dashboard and alert rules use only metrics and labels that exist. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parser } from "@prometheus-io/lezer-promql";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { readModel } from "../../shared/workers/registry.ts";
import { startReceiver } from "../support/receiver.ts";
import { runToEnd, LONG_JOB, EventReader, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack(null);
/** Time within which every metric must exist. */
const METRICS_TIMEOUT_MS = 15_000;
const INFRA = join(import.meta.dirname, "../../infra/helm/monitoring");

const read = (path: string) => readFileSync(join(INFRA, path), "utf8");

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly expr: string;
}

interface Rules {
  readonly groups: readonly { readonly rules: readonly Rule[] }[];
}

const rules = ["alerts", "slo"].flatMap((name) =>
  (parse(read(`${name}.yaml`)) as Rules).groups.flatMap((group) => group.rules),
);

/** All PromQL expressions by their panel or alert. */
function expressions(): Map<string, string> {
  const { panels } = JSON.parse(read("dashboard.json")) as Dashboard;
  return new Map([
    ...panels.flatMap(({ title, targets }) =>
      targets.map(({ expr }, i) => [`panel ${title}, ${i}`, expr] as const),
    ),
    ...rules.map(
      ({ alert, record, labels, expr }) =>
        [`rule ${alert ?? record} ${labels?.["slo"] ?? ""}`, expr] as const,
    ),
  ]);
}

/** The metrics of a PromQL expression with the labels used on each. @throws Error if it is not valid PromQL */
function selectorsOf(where: string, expr: string): { metric: string; labels: string[] }[] {
  const source = expr.replaceAll("$__rate_interval", "5m");
  const selectors: { metric: string; labels: string[] }[] = [];
  const textOf = ({ from, to }: { from: number; to: number }) => source.slice(from, to);
  parser.parse(source).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`${where}: not valid PromQL at ${node.from}: ${expr}`);
      if (node.name === "VectorSelector") {
        selectors.push({ metric: textOf(node.node.getChild("Identifier")!), labels: [] });
      }
      if (node.name === "LabelName" && node.node.parent?.name.endsWith("Matcher")) {
        selectors.at(-1)!.labels.push(textOf(node));
      }
    },
  });
  return selectors;
}

/** Scrapes a worker. @returns the labels of each metric */
async function scrape(url: string): Promise<Map<string, Set<string>>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const metrics = new Map<string, Set<string>>();
  for (const [, name, labels = ""] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = metrics.get(name!) ?? new Set();
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!);
    // Prometheus adds this label when it scrapes.
    metrics.set(name!, known.add("instance"));
  }
  // A metric of remote bases has no values here.
  for (const [, name] of text.matchAll(/^# HELP (\w+) /gm)) {
    if (!metrics.has(name!)) metrics.set(name!, new Set(["instance"]));
  }
  return metrics;
}

async function valueOf(url: string, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return Number(line?.slice(series.length));
}

test("dashboard and rules use only metrics and labels that a worker or an edge has", async () => {
  const metricsPort = await freePort();
  const env = { METRICS_PORT: String(metricsPort), WEBHOOK_ALLOW: "127.0.0.1" };
  const [worker, edge] = await Promise.all([
    stack.startWorker(),
    startEdge({ redisUrl: stack.redisServer.url, env }),
  ]);
  const receiver = await startReceiver(200);
  await runToEnd(new JobClient(edge.url, stack.key.key), {
    ...SHORT_JOB,
    webhook: { url: receiver.url },
  });
  const used = [...expressions()].flatMap(([where, expr]) =>
    selectorsOf(where, expr).map((selector) => ({ where, ...selector })),
  );
  expect(used.length).toBeGreaterThan(40);
  // A metric with labels exists from its first value on, and the engine reports once a second: hence the poll.
  const missing = async () => {
    const recorded = rules.map(({ record }) => [record ?? "", new Set(["slo"])] as const);
    const edgeUrl = `http://127.0.0.1:${metricsPort}`;
    const offered = new Map([
      ...recorded,
      ...(await scrape(worker.healthUrl)),
      ...(await scrape(edgeUrl)),
    ]);
    return used.flatMap(({ where, metric, labels }) => {
      if (!offered.has(metric)) return `${where}: ${metric}`;
      const unknown = labels.filter((label) => !offered.get(metric)!.has(label));
      return unknown.map((label) => `${where}: ${metric} by ${label}`);
    });
  };
  await expect.poll(missing, { timeout: METRICS_TIMEOUT_MS }).toEqual([]);
  await Promise.all([worker.stop(), receiver.stop(), edge.stop()]);
});

test("the runbook says what to do for each alert and each objective", () => {
  const runbook = read("runbook.md");
  const alerts = rules.flatMap(({ alert }) => alert ?? []);
  const objectives = rules.flatMap(({ record, labels }) => (record ? labels!["slo"]! : []));
  const missing = [...alerts, ...objectives].filter((name) => !runbook.includes(`| \`${name}\``));
  expect(missing).toEqual([]);
});

test("an edge counts requests by route and status, its open streams and the replies of Redis, and no path that a client chose", async () => {
  const metricsPort = await freePort();
  const env = { METRICS_PORT: String(metricsPort), ACCESS_LOG: "on" };
  const edge = await startEdge({ redisUrl: stack.redisServer.url, env });
  const metricsUrl = `http://127.0.0.1:${metricsPort}`;
  const value = (series: string) => valueOf(metricsUrl, `trimtab_edge_${series}`);
  const jobs = 'requests_total{route="/v1/jobs",method="POST",status="503"}';
  expect(await value(jobs)).toBe(0);

  const secret = "job_secret";
  const authorization = `Bearer ${stack.key.key}`;
  await fetch(`${edge.url}/v1/jobs/${secret}`, { headers: { authorization } });
  await fetch(`${edge.url}/v1/jobs/${secret}/events?ticket=hidden`);
  await fetch(`${edge.url}/${secret}`, { method: "PUT" });
  const post = (path: string, signal?: AbortSignal) =>
    fetch(`${edge.url}${path}`, {
      method: "POST",
      headers: { authorization, "content-type": "application/json" },
      body: JSON.stringify(SHORT_JOB),
      ...(signal && { signal }),
    });
  await post("/v1/jobs/quote");
  await expect.poll(() => value("open_requests"), { timeout: METRICS_TIMEOUT_MS }).toBe(0);
  // No worker runs, so the client ends before the reply.
  const leave = new AbortController();
  const left = post("/v1/chat/completions", leave.signal);
  await expect.poll(() => value("open_requests"), { timeout: METRICS_TIMEOUT_MS }).toBe(1);
  leave.abort();
  await expect(left).rejects.toMatchObject({ name: "AbortError" });
  const unanswered = 'requests_total{route="/v1/chat/completions",method="POST",status="499"}';
  await expect.poll(() => value(unanswered), { timeout: METRICS_TIMEOUT_MS }).toBe(1);

  const { id } = await stack.client.submit(SHORT_JOB);
  const stop = new AbortController();
  const stream = await fetch(`${edge.url}/v1/jobs/${id}/events`, {
    headers: { authorization },
    signal: stop.signal,
  });
  expect(await value("open_streams")).toBe(1);
  // This request and the stream.
  expect(await value("open_requests")).toBe(1);
  stop.abort();
  await stream.text().catch(() => {});
  await expect.poll(() => value("open_streams"), { timeout: METRICS_TIMEOUT_MS }).toBe(0);
  expect(await value('requests_total{route="/v1/jobs/{id}",method="GET",status="404"}')).toBe(1);
  expect(await value('requests_total{route="/v1/jobs/quote",method="POST",status="200"}')).toBe(1);
  expect(await value('requests_total{route="none",method="any",status="404"}')).toBe(1);
  expect(await value("redis_seconds_count")).toBeGreaterThan(1);
  expect(await value("redis_errors_total")).toBe(0);
  const text = await (await fetch(`${metricsUrl}/metrics`)).text();
  expect(text).toMatch(/^trimtab_build_info\{version="\d/m);
  const lines = edge.child.output.split("\n").filter((line) => line.includes('"msg":"request"'));
  expect(lines.map((line) => JSON.parse(line) as object)).toContainEqual(
    expect.objectContaining({
      route: "/v1/jobs/{id}",
      status: 404,
      request: expect.stringMatching(/^req_/) as string,
    }),
  );
  expect(lines.join()).toMatch(/"route":"\/v1\/chat\/completions","status":499/);
  expect(text + lines.join()).not.toMatch(/secret|hidden|tt_/);
  await edge.stop();
});

test("a takeover and the time of a job in the queue are counted", async () => {
  const { client } = stack;
  const first = await stack.startWorker({ SLOTS: "1" });
  const { id } = await client.submit({ ...LONG_JOB, max_tokens: 400 });
  const reader = new EventReader(client, id);
  await reader.hasTokens(10);
  const waiting = await client.submit(SHORT_JOB);
  first.child.kill("SIGKILL");

  const second = await stack.startWorker({ SLOTS: "1" });
  await Promise.all([reader.ended, new EventReader(client, waiting.id).ended]);
  const value = (series: string) => valueOf(second.healthUrl, series);
  const card = await readModel(stack.redis, SHORT_JOB.model);
  const labels = `{model="atlas-qa",base="${card!.base.slice(0, 12)}"}`;
  expect(await value(`trimtab_takeovers_total${labels}`)).toBe(1);
  expect(await value(`trimtab_time_to_first_token_seconds_count${labels}`)).toBe(1);
  expect(await value("trimtab_slots")).toBe(1);
  expect(await value(`trimtab_queue_seconds_count${labels}`)).toBe(1);
  // It waited while the other job ran.
  expect(await value(`trimtab_queue_seconds_sum${labels}`)).toBeGreaterThan(0);
  await second.stop();
});
