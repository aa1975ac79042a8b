import { expect, test, vi } from "vitest";
import { CompileTime } from "../../../edge/requests/compile-time.ts";

let nowMs = 0;
const now = () => nowMs;

/** Work that takes a time in each of its parts. */
function* parts(count: number, ms: number, fails = false) {
  for (let i = 1; i <= count; i++) {
    nowMs += ms;
    if (i < count) yield;
  }
  if (fails) throw new Error("refused");
  return "grammar";
}

const refused = expect.objectContaining({ code: "rate_limit_exceeded", param: "response_format" });

test("a tenant that uses up its share of the time gets 429, and others do not", async () => {
  const compileTime = new CompileTime(now, now);
  const compile = (tenant: string, ms: number) => compileTime.spend(tenant, parts(3, ms / 3));
  for (let i = 0; i < 7; i++) expect(await compile("a", 150)).toBe("grammar");
  await expect(compile("a", 150)).rejects.toThrow(refused);
  expect(await compile("b", 150)).toBe("grammar");
  // A refused format costs the same time.
  await expect(compileTime.spend("b", parts(2, 450, true))).rejects.toThrow("refused");
  await expect(compile("b", 3)).rejects.toThrow(refused);
  nowMs += 4_000;
  expect(await compile("b", 3)).toBe("grammar");
});

test("formats that a tenant sends at the same time use its share together, and other work comes between their parts", async () => {
  const compileTime = new CompileTime(now, now);
  const turns: string[] = [];
  let [running, most] = [0, 0];
  const noted = function* (name: string) {
    most = Math.max(most, ++running);
    for (let i = 0; i < 20; i++) {
      turns.push(name);
      nowMs += 10;
      yield;
    }
    running--;
  };
  const all = await Promise.allSettled([
    ...Array.from({ length: 20 }, () => compileTime.spend("a", noted("a"))),
    compileTime.spend("b", noted("b")),
  ]);
  expect(turns.slice(0, 10).filter((name) => name === "b")).toHaveLength(2);
  expect(all.at(-1)).toMatchObject({ status: "fulfilled" });
  expect(most).toBe(5);
  // A format takes 200 ms, and the burst is a second. The last ones that begin use more than is left.
  const ended = all.filter(({ status }) => status === "fulfilled").length - 1;
  expect(ended).toBeGreaterThan(4);
  expect(ended).toBeLessThan(14);
  expect(all).toContainEqual(expect.objectContaining({ reason: refused }));
});

test("the time of another thread counts too, also of a refused format", async () => {
  const compileTime = new CompileTime(now, now);
  const compile = (tenant: string, spentMs: number, result = () => "grammar") =>
    compileTime.spendElsewhere(tenant, async () => ({ spentMs, result }));
  expect(await compile("a", 600)).toBe("grammar");
  const fails = () => {
    throw new Error("refused");
  };
  await expect(compile("a", 600, fails)).rejects.toThrow("refused");
  await expect(compile("a", 1)).rejects.toThrow(refused);
  expect(await compile("b", 1)).toBe("grammar");
});

/** Work that goes on until it is released. */
function heldWork() {
  const compileTime = new CompileTime(now, () => 0);
  const begun: number[] = [];
  const hold = new AbortController();
  const work = function* (i: number) {
    begun.push(i);
    while (!hold.signal.aborted) yield;
    return i;
  };
  return {
    begun,
    spend: (i: number, tenant = "a") => compileTime.spend(tenant, work(i)),
    release: () => hold.abort(),
  };
}

test("too many formats of a tenant that wait for a place get 429", async () => {
  const { begun, spend, release } = heldWork();
  const accepted = Array.from({ length: 104 }, (_, i) => spend(i));
  await expect(spend(104)).rejects.toThrow(refused);
  await expect(spend(105)).rejects.toThrow("100 requests of this account");
  expect(begun).toEqual([0, 1, 2, 3]);
  const other = spend(106, "b");
  release();
  expect(await other).toBe(106);
  expect(await Promise.all(accepted)).toEqual(Array.from({ length: 104 }, (_, i) => i));
  expect(await spend(107)).toBe(107);
});

test("a format that arrives while others wait does not go before them", async () => {
  const { begun, spend, release } = heldWork();
  const first = Array.from({ length: 4 }, (_, i) => spend(i));
  const waiting = Array.from({ length: 4 }, (_, i) => spend(4 + i));
  release();
  await Promise.all(first);
  await Promise.all([spend(8), ...waiting]);
  expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
});

test("waiting requests that the runtime has dropped do not hold up others", async () => {
  const { spend, release } = heldWork();
  const running = Array.from({ length: 4 }, (_, i) => spend(i));
  // Their timers never fire.
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  for (let i = 0; i < 4; i++) void spend(4 + i);
  vi.useRealTimers();
  nowMs += 2_000;
  const next = spend(8);
  release();
  expect(await next).toBe(8);
  await Promise.all(running);
});
