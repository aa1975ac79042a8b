/** The metrics of a worker, and that dashboard and alert rules use only metrics and labels that exist. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parser } from "@prometheus-io/lezer-promql";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { startReceiver } from "../support/receiver.ts";
import { runToEnd, LONG_JOB, EventReader, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack(null);
/** Time within which every metric must exist. */
const METRICS_TIMEOUT_MS = 15_000;
const INFRA = join(import.meta.dirname, "../../infra/deploy");

const read = (path: string) => readFileSync(join(INFRA, path), "utf8");

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string }[];
  }[];
}

/** All PromQL expressions by their panel or alert. */
function expressions(): Map<string, string> {
  const { panels } = JSON.parse(read("grafana/dashboard.json")) as Dashboard;
  const { groups } = parse(read("prometheus/alerts.yaml")) as Rules;
  return new Map([
    ...panels.flatMap(({ title, targets }) =>
      targets.map(({ expr }, i) => [`panel ${title}, ${i}`, expr] as const),
    ),
    ...groups.flatMap(({ rules }) =>
      rules.map(({ alert, expr }) => [`alert ${alert}`, expr] as const),
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
  return metrics;
}

async function valueOf(url: string, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return Number(line?.slice(series.length));
}

test("dashboard and alerts use only metrics and labels that a worker has", async () => {
  const worker = await stack.startWorker();
  const receiver = await startReceiver(200);
  await runToEnd(stack.client, { ...SHORT_JOB, webhook: { url: receiver.url } });
  const used = [...expressions()].flatMap(([where, expr]) =>
    selectorsOf(where, expr).map((selector) => ({ where, ...selector })),
  );
  expect(used.length).toBeGreaterThan(40);
  // A metric with labels exists from its first value on, and the engine reports once a second: hence the poll.
  const missing = async () => {
    const offered = await scrape(worker.healthUrl);
    return used.flatMap(({ where, metric, labels }) => {
      if (!offered.has(metric)) return `${where}: ${metric}`;
      const unknown = labels.filter((label) => !offered.get(metric)!.has(label));
      return unknown.map((label) => `${where}: ${metric} by ${label}`);
    });
  };
  await expect.poll(missing, { timeout: METRICS_TIMEOUT_MS }).toEqual([]);
  await worker.stop();
  await receiver.stop();
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
  expect(await value("trimtab_takeovers_total")).toBe(1);
  expect(await value("trimtab_slots")).toBe(1);
  expect(await value("trimtab_queue_seconds_count")).toBe(1);
  // It waited while the other job ran.
  expect(await value("trimtab_queue_seconds_sum")).toBeGreaterThan(0);
  await second.stop();
});
