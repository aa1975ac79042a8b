/** Which of the calls that wait is next. */
import { expect, test } from "vitest";
import { CallQueue, type CallKind } from "../../../../worker/engine/remote/call-queue.ts";

const never = new AbortController().signal;

/** Takes the only place; frees it again and again until no call waits. @returns the calls in the order of their starts */
async function orderOf(
  calls: readonly (readonly [kind: CallKind, owner: string, name: string])[],
): Promise<string[]> {
  const queue = new CallQueue(1);
  const leaveFirst = await queue.enter({ kind: "needed", owner: "", signal: never });
  const order: string[] = [];
  const ended = calls.map(async ([kind, owner, name]) => {
    const leave = await queue.enter({ kind, owner, signal: never });
    order.push(name);
    leave();
  });
  leaveFirst();
  await Promise.all(ended);
  return order;
}

const many = (kind: CallKind, owner: string, count: number, name = owner) =>
  Array.from({ length: count }, (_, i) => [kind, owner, `${name}${i + 1}`] as const);

test("a row that is needed comes before drafts, these before first calls, and probes before all", async () => {
  const calls = [...many("first", "a", 1, "first"), ...many("drafted", "a", 1, "drafted")];
  expect(
    await orderOf([...calls, ...many("needed", "a", 1, "needed"), ["probe", "", "p"]]),
  ).toEqual(["p", "needed1", "drafted1", "first1"]);
});

test("every fourth place goes to the call that has waited longest, so that none waits for ever", async () => {
  const calls = [...many("first", "a", 2, "first"), ...many("drafted", "a", 1, "drafted")];
  expect(await orderOf([...calls, ...many("needed", "a", 9)])).toEqual(
    "a1 a2 a3 first1 a4 a5 a6 first2 a7 a8 a9 drafted1".split(" "),
  );
});

test("tenants take turns", async () => {
  const calls = [...many("needed", "a", 4), ...many("needed", "b", 2), ...many("needed", "c", 1)];
  expect(await orderOf(calls)).toEqual(["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
});

test("a call that is aborted while it waits leaves its place in the order to the next one", async () => {
  const queue = new CallQueue(1);
  const leave = await queue.enter({ kind: "needed", owner: "a", signal: never });
  const abort = new AbortController();
  const aborted = queue.enter({ kind: "needed", owner: "a", signal: abort.signal });
  const next = queue.enter({ kind: "needed", owner: "a", signal: never });
  abort.abort(new Error("cancelled"));
  await expect(aborted).rejects.toThrow("cancelled");
  leave();
  (await next)();
  // The place is free again.
  (await queue.enter({ kind: "first", owner: "b", signal: never }))();
});
