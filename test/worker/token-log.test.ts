import { expect, test } from "vitest";
import type { Append, Progress } from "../../shared/job-store.ts";
import { TokenLog } from "../../worker/token-log.ts";

const NOTHING: Progress = { ids: [], text: "" };

/** A log whose appends wait until they are answered. */
function slowLog(resume = NOTHING) {
  const appends: Progress[] = [];
  const refusals: string[] = [];
  const waiting: PromiseWithResolvers<Append>[] = [];
  const places: number[] = [];
  const append = (at: number, tokens: Progress) => {
    places.push(at);
    appends.push(tokens);
    waiting.push(Promise.withResolvers<Append>());
    return waiting.at(-1)!.promise;
  };
  const log = new TokenLog(resume, append, (reason) => refusals.push(reason));
  /** Answers the oldest append and lets the log react. */
  const answer = async (reply: Append | Error) => {
    const oldest = waiting.shift()!;
    if (reply instanceof Error) oldest.reject(reply);
    else oldest.resolve(reply);
    await new Promise(setImmediate);
  };
  return { log, places, appends, refusals, answer };
}

test("a token is appended at once; those that come meanwhile go together in the next append", async () => {
  const { log, places, appends, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  log.push(3, "c");
  expect(appends).toEqual([{ ids: [1], text: "a" }]);
  await answer("ok");
  expect(appends[1]).toEqual({ ids: [2, 3], text: "bc" });
  await answer("ok");
  log.push(4, "d");
  expect(appends[2]).toEqual({ ids: [4], text: "d" });
  expect(places).toEqual([0, 1, 3]);
});

test("what is told of tokens goes with them, one entry for each", async () => {
  const { log, appends, answer } = slowLog();
  const entry = (id: number) => ({ id, token: "x", logprob: -1, top: [] });
  for (const id of [1, 2, 3]) log.push(id, "x", { logprobs: entry(id) });
  await answer("ok");
  expect(appends).toEqual([
    { ids: [1], text: "x", logprobs: [entry(1)] },
    { ids: [2, 3], text: "xx", logprobs: [entry(2), entry(3)] },
  ]);
});

test("what is in the log counts, with what an earlier attempt wrote", async () => {
  const { log, answer } = slowLog({ ids: [7, 8], text: "xy" });
  log.push(1, "a");
  expect([log.text, log.tokenCount]).toEqual(["xy", 2]);
  await answer("ok");
  expect([log.text, log.tokenCount]).toEqual(["xya", 3]);
});

test("drained waits for the last append", async () => {
  const { log, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  let drained = false;
  const done = log.drained().then(() => (drained = true));
  await answer("ok");
  expect(drained).toBe(false);
  await answer("ok");
  await done;
  expect(log.text).toBe("ab");
});

test("drained does not wait when nothing was pushed", async () => {
  await expect(slowLog().log.drained()).resolves.toBeUndefined();
});

test("a cancel is reported, and its append counts", async () => {
  const { log, refusals, answer } = slowLog();
  log.push(1, "a");
  await answer("cancel");
  expect(refusals).toEqual(["cancel"]);
  expect([log.text, log.tokenCount]).toEqual(["a", 1]);
});

test("a fenced append is reported and does not count, and nothing is appended after it", async () => {
  const { log, appends, refusals, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  await answer("fenced");
  log.push(3, "c");
  await log.drained();
  expect(appends).toHaveLength(1);
  expect(refusals).toEqual(["fenced"]);
  expect([log.text, log.tokenCount]).toEqual(["", 0]);
});

test("a failed append surfaces in drained, and later tokens leave no gap behind it", async () => {
  const { log, appends, refusals, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  await answer(new Error("connection lost"));
  log.push(3, "c");
  await expect(log.drained()).rejects.toThrow("connection lost");
  expect(appends).toHaveLength(1);
  expect(refusals).toEqual(["fenced"]);
});
