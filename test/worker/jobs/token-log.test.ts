import { expect, test } from "vitest";
import type { AppendResult, Progress } from "../../../shared/jobs/store.ts";
import { TokenLog } from "../../../worker/jobs/token-log.ts";

const NOTHING: Progress = { ids: [], text: "" };

const turnEnd = () => new Promise(setImmediate);

/** A token log whose appends are pending until the test answers them. */
function slowLog(resume = NOTHING) {
  const appends: Progress[] = [];
  const refusals: string[] = [];
  const waiting: PromiseWithResolvers<AppendResult>[] = [];
  const places: number[] = [];
  const runs: number[] = [];
  const append = (at: number, tokens: Progress, baseCalls: number) => {
    places.push(at);
    runs.push(baseCalls);
    appends.push(tokens);
    waiting.push(Promise.withResolvers<AppendResult>());
    return waiting.at(-1)!.promise;
  };
  const log = new TokenLog(resume, append, (reason) => refusals.push(reason));
  /** Answers the oldest pending append and lets the log react. */
  const answer = async (reply: AppendResult | Error) => {
    await turnEnd();
    const oldest = waiting.shift()!;
    if (reply instanceof Error) oldest.reject(reply);
    else oldest.resolve(reply);
    await turnEnd();
  };
  return { log, places, runs, appends, refusals, answer };
}

test("tokens that come together are appended together; those that come during an append are collected for the next one", async () => {
  const { log, places, appends, answer } = slowLog();
  log.push(1, "a");
  // The events of a message are handled in microtasks.
  for (let i = 0; i < 10; i++) await Promise.resolve();
  log.push(2, "b");
  await turnEnd();
  expect(appends).toEqual([{ ids: [1, 2], text: "ab" }]);
  log.push(3, "c");
  await turnEnd();
  log.push(4, "d");
  await answer("ok");
  expect(appends.slice(1)).toEqual([{ ids: [3, 4], text: "cd" }]);
  await answer("ok");
  log.push(5, "e");
  await answer("ok");
  expect(appends.slice(2)).toEqual([{ ids: [5], text: "e" }]);
  expect(places).toEqual([0, 2, 4]);
});

test("each append has the runs of the base since the one before", async () => {
  const { log, runs, answer } = slowLog();
  log.push(0, "x", {}, 1);
  await turnEnd();
  for (const [token, calls] of [4, 4, 5].entries()) log.push(token + 1, "x", {}, calls);
  await answer("ok");
  expect(runs).toEqual([1, 4]);
  await answer("ok");
  log.push(4, "x", {}, 7);
  await turnEnd();
  expect(runs).toEqual([1, 4, 2]);
});

test("token details are appended with their tokens, one entry for each", async () => {
  const { log, appends, answer } = slowLog();
  const entry = (id: number) => ({ id, token: "x", logprob: -1, top: [] });
  for (const id of [1, 2]) log.push(id, "x", { logprobs: entry(id) });
  await answer("ok");
  expect(appends).toEqual([{ ids: [1, 2], text: "xx", logprobs: [entry(1), entry(2)] }]);
});

test("text and tokenCount cover the log, with the tokens of an earlier attempt", async () => {
  const { log, answer } = slowLog({ ids: [7, 8], text: "xy" });
  log.push(1, "a");
  expect([log.text, log.outputCount]).toEqual(["xy", 2]);
  await answer("ok");
  expect([log.text, log.outputCount]).toEqual(["xya", 3]);
});

test("drained waits for the last append", async () => {
  const { log, answer } = slowLog();
  log.push(1, "a");
  await turnEnd();
  log.push(2, "b");
  let drained = false;
  const done = log.flush().then(() => (drained = true));
  await answer("ok");
  expect(drained).toBe(false);
  await answer("ok");
  await done;
  expect(log.text).toBe("ab");
});

test("drained does not wait when nothing was pushed", async () => {
  await expect(slowLog().log.flush()).resolves.toBeUndefined();
});

test("a cancel is reported, and its append counts", async () => {
  const { log, refusals, answer } = slowLog();
  log.push(1, "a");
  await answer("cancel");
  expect(refusals).toEqual(["cancel"]);
  expect([log.text, log.outputCount]).toEqual(["a", 1]);
});

test("a fenced append is reported and does not count, and nothing is appended after it", async () => {
  const { log, appends, refusals, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  await answer("fenced");
  log.push(3, "c");
  await log.flush();
  expect(appends).toHaveLength(1);
  expect(refusals).toEqual(["fenced"]);
  expect([log.text, log.outputCount]).toEqual(["", 0]);
});

test("a failed append surfaces in drained, and later tokens leave no gap behind it", async () => {
  const { log, appends, refusals, answer } = slowLog();
  log.push(1, "a");
  log.push(2, "b");
  await answer(new Error("connection lost"));
  log.push(3, "c");
  await expect(log.flush()).rejects.toThrow("connection lost");
  expect(appends).toHaveLength(1);
  expect(refusals).toEqual(["fenced"]);
});

test("details of the prompt have entries of their own and are no output, and no entry becomes large", async () => {
  const { log, places, appends, answer } = slowLog();
  const top = Array.from({ length: 20 }, (_, id) => ({ id, token: "y", logprob: -2 }));
  const entry = { id: 1, token: "x", logprob: -1, rank: 1, top };
  for (let i = 0; i < 300; i++) log.push(1, "", { prompt: entry });
  log.push(2, "z");
  for (let i = 0; i < 4; i++) await answer("ok");
  const counts = appends.map(({ ids, prompt_logprobs = [] }) => [
    ids.length,
    prompt_logprobs.length,
  ]);
  expect(counts).toEqual([
    [0, 97],
    [0, 97],
    [0, 97],
    [0, 9],
    [1, 0],
  ]);
  expect(places).toEqual([0, 97, 194, 291, 300]);
  await answer("ok");
  expect([log.outputCount, log.text]).toEqual([1, "z"]);
  const resumed = slowLog({ ids: [2], text: "z", prompt_logprobs: [entry, entry] });
  resumed.log.push(3, "");
  await turnEnd();
  expect(resumed.places).toEqual([3]);
});
