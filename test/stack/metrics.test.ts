/** What a worker tells Prometheus, and that dashboard and alert rules ask for nothing else. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parser } from "@prometheus-io/lezer-promql";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { startReceiver } from "../support/receiver.ts";
import { finished, LONG, Reader, SHORT, useStack } from "./stack.ts";

const stack = useStack(null);
/** Everything is told by then. */
const TOLD_MS = 15_000;
const INFRA = join(import.meta.dirname, "../../infra");

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

/** Expressions by where they are. */
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

/** Metrics and, of each, the labels of a PromQL expression; throws if it is not one. */
function selectorsOf(where: string, expr: string): { metric: string; labels: string[] }[] {
  const source = expr.replaceAll("$__rate_interval", "5m");
  const selectors: { metric: string; labels: string[] }[] = [];
  const textOf = ({ from, to }: { from: number; to: number }) => source.slice(from, to);
  parser.parse(source).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`${where}: not PromQL at ${node.from}: ${expr}`);
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

/** Labels by metric, of a scrape. */
async function scrape(url: string): Promise<Map<string, Set<string>>> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const metrics = new Map<string, Set<string>>();
  for (const [, name, labels = ""] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = metrics.get(name!) ?? new Set();
    for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!);
    // Prometheus adds it when it scrapes.
    metrics.set(name!, known.add("instance"));
  }
  return metrics;
}

async function valueOf(url: string, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return Number(line?.slice(series.length));
}

test("dashboard and alerts ask only for what a worker tells", async () => {
  const worker = await stack.startWorker();
  const receiver = await startReceiver(200);
  await finished(stack.client, { ...SHORT, webhook: { url: receiver.url } });
  const asked = [...expressions()].flatMap(([where, expr]) =>
    selectorsOf(where, expr).map((selector) => ({ where, ...selector })),
  );
  expect(asked.length).toBeGreaterThan(40);
  // What has a label is there from its first value on, and the engine tells its figures once a second.
  const lacking = async () => {
    const told = await scrape(worker.healthUrl);
    return asked.flatMap(({ where, metric, labels }) => {
      if (!told.has(metric)) return `${where}: ${metric}`;
      const unknown = labels.filter((label) => !told.get(metric)!.has(label));
      return unknown.map((label) => `${where}: ${metric} by ${label}`);
    });
  };
  await expect.poll(lacking, { timeout: TOLD_MS }).toEqual([]);
  await worker.stop();
  await receiver.stop();
});

test("a takeover, and how long a job was in the queue, are counted", async () => {
  const { client } = stack;
  const first = await stack.startWorker({ SLOTS: "1" });
  const { id } = await client.submit({ ...LONG, max_tokens: 400 });
  const reader = new Reader(client, id);
  await reader.hasTokens(10);
  const waiting = await client.submit(SHORT);
  first.child.kill("SIGKILL");

  const second = await stack.startWorker({ SLOTS: "1" });
  await Promise.all([reader.ended, new Reader(client, waiting.id).ended]);
  const value = (series: string) => valueOf(second.healthUrl, series);
  expect(await value("trimtab_takeovers_total")).toBe(1);
  expect(await value("trimtab_slots")).toBe(1);
  expect(await value("trimtab_queue_seconds_count")).toBe(1);
  // It waited while the other ran.
  expect(await value("trimtab_queue_seconds_sum")).toBeGreaterThan(0);
  await second.stop();
});
