import { expect, test } from "vitest";
import type { Measurement } from "./measure.ts";
import { servingReport } from "./report.ts";
import type { Turn } from "./rounds.ts";
import { OWN_BASE, STEERED } from "./servers.ts";

const sample = (tokensPerSecond: number, firstTokenMs: number): Measurement => ({
  tokensPerSecond,
  firstTokenMs,
  firstTokenP90Ms: firstTokenMs,
  seconds: 1,
  isCut: false,
  otherCores: 0,
});
const LLAMA = ["llama.cpp, base alone, 1 thread", "llama.cpp, base alone, 2 threads"] as const;
const turn = (clients: number, measured: Turn["measured"]): Turn => ({
  form: "fp32",
  clients,
  measured,
});

const TURNS = [
  turn(1, {
    [STEERED]: sample(90, 20),
    [OWN_BASE]: sample(60, 10),
    [LLAMA[0]]: sample(30, 40),
    [LLAMA[1]]: sample(45, 10),
  }),
  turn(1, { [STEERED]: sample(80, 30), [OWN_BASE]: sample(100, 10), [LLAMA[1]]: sample(40, 10) }),
  turn(8, { [STEERED]: sample(70, 5), [OWN_BASE]: sample(100, 5) }),
];
const machine = { cores: 2, cpu: "", memoryGiB: 1, node: "" };
const { rows, ratios, targets } = servingReport(TURNS, {
  machine,
  options: {},
  seconds: 1,
});

test("ratios are taken within a round, to the faster llama.cpp server", () => {
  const [one, eight] = ratios;
  expect(one!.toLlama).toEqual({ median: 2, min: 2, max: 2 });
  expect(one!.toOwnBase!.median).toBeCloseTo((1.5 + 0.8) / 2);
  expect(one!.firstTokenToLlama).toEqual({ median: 2.5, min: 2, max: 3 });
  expect(eight).toMatchObject({ clients: 8, toLlama: null, toOwnBase: { median: 0.7 } });
});

test("a measurement that was cut off is in no ratio", () => {
  const cut = { ...sample(50, 5), isCut: true };
  const turns = [TURNS[2]!, turn(8, { [STEERED]: sample(90, 5), [OWN_BASE]: cut })];
  const [eight] = servingReport(turns, { machine, options: {}, seconds: 1 }).ratios;
  expect(eight!.toOwnBase).toEqual({ median: 0.7, min: 0.7, max: 0.7 });
});

test("a row has the medians of a server's rounds", () => {
  expect(rows.find(({ server, clients }) => server === STEERED && clients === 1)).toMatchObject({
    rounds: 2,
    tokensPerSecond: { median: 85, min: 80, max: 90 },
  });
});

test("a target is judged by its worst number of clients, and only where it was measured", () => {
  expect(targets.map(({ measured, isMet }) => [measured.toFixed(2), isMet])).toEqual([
    ["2.00", true],
    ["0.70", false],
    ["1.15", true],
    ["2.50", false],
  ]);
});
