/** The prepare thread and the engine thread through their client, with the demo models. */
import { on } from "node:events";
import { getPriority } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, test, vi } from "vitest";
import type { Generation } from "../../../shared/jobs/record.ts";
import { EngineClient } from "../../../worker/engine-client/client.ts";
import {
  isEndEvent,
  NO_USAGE,
  type FromEngine,
  type RunEvent,
  totalDrafts,
  type EngineStats,
  type ModelCounts,
} from "../../../worker/engine-client/messages.ts";
import { generation } from "../../support/generation.ts";
import { niceOf } from "../../support/threads.ts";
import { folderOf } from "../../support/tokenizers.ts";

const MANIFEST = join(import.meta.dirname, "../../../infra/models/ensembles.json");
const never = new AbortController().signal;

const start = (
  manifestFile: string,
  cacheBytesMax = 2 ** 28,
  onStats?: (stats: EngineStats) => void,
) =>
  EngineClient.start(
    { manifestFile, intraOpThreads: 1, cacheBytesMax, prefixBytesMax: 2 ** 24 },
    (error) => {
      throw error;
    },
    onStats,
  );
const engine = await start(MANIFEST);

const tokens = (count: number) => ({ kind: "tokens", ids: Array<number>(count).fill(5) }) as const;
/** Without end tokens, so that a run generates all its tokens. */
const endless = (changes: Partial<Generation> = {}) =>
  generation({ logitBias: [[0, -100]], ...changes });

async function run(
  generation: Generation,
  resume: readonly number[] = [],
  signal = never,
  tenant = "acme",
): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of engine.run(tenant, generation, resume, signal)) events.push(event);
  return events;
}

/** Without usage: the number of drafts depends on the clock. */
const withoutUsage = (events: readonly RunEvent[]) =>
  events.map((event) => ({ ...event, usage: null, baseCalls: 0 }));

const tokensOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === "token" ? [event.token] : []));

test.runIf(process.platform === "linux" && getPriority() < 5)(
  "the prepare thread and those of V8 have a lower priority than the engine thread",
  () => {
    expect(["prepare", "V8Worker", "engine"].map(niceOf)).toEqual([5, 5, getPriority()]);
  },
);

describe("a run", () => {
  test("yields its tokens, then an end event", async () => {
    const events = await run(endless({ maxTokens: 5 }));
    expect(events.map(({ type }) => type)).toEqual([
      "prefill",
      ...Array<string>(5).fill("token"),
      "end",
    ]);
    expect(events.at(-1)).toMatchObject({ finish: "length" });
  });

  test("counts the base's prompt tokens", async () => {
    const events = await run(endless({ input: { kind: "tokens", ids: [5, 6, 7] }, maxTokens: 1 }));
    expect(events.at(-1)).toMatchObject({ finish: "length", usage: { promptTokens: 3 } });
  });

  test("reuses a prefix of the same tenant only, and reports the cached tokens", async () => {
    const ids = Array.from({ length: 50 }, (_, i) => 5 + i);
    const input = (tenant: string) =>
      run(endless({ input: { kind: "tokens", ids }, maxTokens: 1 }), [], never, tenant);
    const cached: number[] = [];
    for (const tenant of ["one", "one", "other"]) {
      const end = (await input(tenant)).at(-1)!;
      cached.push(end.type === "end" ? end.usage.cachedTokens : -1);
    }
    expect(cached).toEqual([0, 48, 0]);
  });

  test("gives the same tokens for the same seed, and others for another seed", async () => {
    const [one, again, other] = [
      await run(endless({ seed: 1 })),
      await run(endless({ seed: 1 })),
      await run(endless({ seed: 2 })),
    ];
    expect(withoutUsage(again)).toEqual(withoutUsage(one));
    expect(tokensOf(other)).not.toEqual(tokensOf(one));
  });

  test("continues after the tokens of an earlier attempt", async () => {
    const whole = await run(endless());
    const rest = await run(endless(), tokensOf(whole).slice(0, 3));
    expect(withoutUsage(rest)).toEqual(withoutUsage(whole.toSpliced(1, 3)));
  });

  test("ends at the end of the context", async () => {
    const events = await run(endless({ input: tokens(1_021), maxTokens: 100 }));
    expect(tokensOf(events)).toHaveLength(3);
    expect(events.at(-1)).toMatchObject({ finish: "length" });
  });
});

describe("scoring a completion", () => {
  const scored = (changes: Partial<Generation> = {}) =>
    run(generation({ completion: { kind: "text", text: " Paris." }, trace: true, ...changes }));

  test("uses the base's tokenizer, keeps end tokens inside the text, and scores all tokens", async () => {
    const events = await scored({ completion: { kind: "text", text: " paris<eos><eos>." } });
    const ids = tokensOf(events);
    expect(ids.filter((id) => id === 0)).toHaveLength(2);
    expect(events.map((event) => (event.type === "token" ? event.text : "")).join("")).toBe(
      " paris.",
    );
    expect(events.at(-1)).toMatchObject({ type: "end", finish: "length" });
    expect(await scored({ completion: { kind: "tokens", ids } })).toEqual(events);
  });

  test("continues where an earlier attempt ended", async () => {
    const whole = await scored();
    expect(
      await run(
        generation({ completion: { kind: "text", text: " Paris." }, trace: true }),
        tokensOf(whole).slice(0, 1),
      ),
    ).toEqual(whole.toSpliced(1, 1));
  });

  test.each<[string, Partial<Generation>, string, string | RegExp]>([
    [
      "no token",
      { completion: { kind: "text", text: "" } },
      "invalid_request",
      "completion must have at least one token",
    ],
    [
      "more than the limit",
      { completion: { kind: "tokens", ids: [5, 6, 7] }, maxTokens: 2 },
      "invalid_request",
      "completion has 3 tokens; at most 2 can be scored with this top_logprobs",
    ],
    [
      "more than the context",
      { completion: tokens(1_023), maxTokens: 1_100 },
      "context_length_exceeded",
      /^This model's maximum context length is 1024 tokens. However, your completion has 1023 tokens and the prompt \d+.$/,
    ],
  ])("is refused for a completion with %s", async (_, changes, code, message) => {
    expect(await scored(changes)).toMatchObject([
      { type: "failed", code, message: expect.stringMatching(message) as string },
    ]);
  });

  test("can fill the context to its last token", async () => {
    const changes = {
      input: tokens(1),
      completion: tokens(1_023),
      maxTokens: 1_100,
    };
    expect(tokensOf(await scored(changes))).toHaveLength(1_023);
  });
});

test("several runs share the engine, and each gives the same tokens as alone", async () => {
  // The first one is still running when the prepare thread has the last one ready, also on a busy machine.
  const requests = [400, 20, 20].map((maxTokens, seed) => endless({ seed, maxTokens }));
  const order: number[] = [];
  const together = requests.map(async (request, i) => {
    const events: RunEvent[] = [];
    for await (const event of engine.run("acme", request, [], never)) {
      events.push(event);
      order.push(i);
    }
    return events;
  });
  const results = await Promise.all(together);
  // No run waits for the end of another: the last one has a token before the first one has all.
  expect(order.indexOf(2)).toBeLessThan(order.lastIndexOf(0));
  for (const [i, request] of requests.entries()) {
    expect(withoutUsage(await run(request))).toEqual(withoutUsage(results[i]!));
  }
});

test("a stopped run ends before its next token, with finish null", async () => {
  const stop = new AbortController();
  const events: RunEvent[] = [];
  for await (const event of engine.run("acme", endless({ maxTokens: 400 }), [], stop.signal)) {
    events.push(event);
    if (events.length === 2) stop.abort();
  }
  expect(events.length).toBeLessThan(400);
  expect(events.at(-1)).toMatchObject({ type: "end", finish: null });
});

test("a run that is stopped before it starts ends too", async () => {
  const events = await run(endless({ maxTokens: 400 }), [], AbortSignal.abort());
  expect(tokensOf(events).length).toBeLessThan(400);
  expect(events.at(-1)).toMatchObject({ type: "end", finish: null });
});

test("a run that is stopped while it is prepared ends at once, and never reaches the engine", async () => {
  // Fits the bytes of the context, and has far more tokens.
  const text = "İ".repeat(10_000);
  const order: string[] = [];
  const long = run(endless({ input: { kind: "text", text } })).then(() => order.push("long"));
  const stop = new AbortController();
  const queued = run(endless(), [], stop.signal).then((events) => {
    order.push("queued");
    return events;
  });
  stop.abort();
  expect(await queued).toEqual([{ type: "end", finish: null, usage: NO_USAGE }]);
  await long;
  expect(order).toEqual(["queued", "long"]);
});

test("leaving the loop early stops the run", async () => {
  const post = vi.spyOn(Worker.prototype, "postMessage");
  for await (const _ of engine.run("acme", endless({ maxTokens: 400 }), [], never)) break;
  // The prepare thread, then the engine thread.
  const thread = post.mock.contexts[1] as Worker;
  post.mockRestore();
  for await (const [message] of on(thread, "message") as AsyncIterable<[FromEngine]>) {
    const end = message.type === "events" && message.events.find(({ event }) => isEndEvent(event));
    if (!end) continue;
    expect(end.event).toMatchObject({ type: "end", finish: null });
    break;
  }
});

describe("a run fails with the reason:", () => {
  test("unknown ensemble", async () => {
    expect(await run(endless({ model: "missing" }))).toEqual([
      {
        type: "failed",
        code: "model_not_found",
        message: "This worker does not serve missing",
        usage: NO_USAGE,
      },
    ]);
  });

  test("prompt that fills the context, which is known before it runs", async () => {
    const full = endless({ input: tokens(1_024) });
    const refused = [{ code: "context_length_exceeded" }];
    expect(await run(full)).toMatchObject(refused);
    expect([await engine.prepare("acme", full, 0)]).toMatchObject(refused);
    expect(await engine.prepare("acme", endless(), 0)).toBeNull();
  });
  test.each([
    [
      "more bytes",
      1_000_000,
      /context length is 1024 tokens. However, your prompt resulted in \d+ bytes, and that many tokens hold at most \d+.$/,
    ],
    [
      "more tokens",
      2_000,
      /context length is 1024 tokens. However, your prompt resulted in at least 1025 tokens.$/,
    ],
  ])("prompt with %s than the context holds", async (_, length, message) => {
    const text = "İ".repeat(length);
    expect(await run(endless({ input: { kind: "text", text } }))).toEqual([
      {
        type: "failed",
        code: "context_length_exceeded",
        message: expect.stringMatching(message) as string,
        usage: NO_USAGE,
      },
    ]);
  });

  test("prompt without tokens", async () => {
    expect(await run(endless({ input: { kind: "text", text: "" } }))).toMatchObject([
      { type: "failed", code: "invalid_request" },
    ]);
  });
});

test("an error of the engine that the generation does not explain is thrown, and the next run works", async () => {
  await expect(run(endless({ alpha: Number.NaN }))).rejects.toThrow("No token can be sampled");
  expect((await run(endless({ maxTokens: 2 }))).at(-1)).toMatchObject({ finish: "length" });
});

test("the engine reports its statistics regularly", async () => {
  const reports: EngineStats[] = [];
  let wake = () => {};
  const counted = await start(MANIFEST, 2 ** 28, (stats) => {
    reports.push(stats);
    wake();
  });
  const ids = Array.from({ length: 50 }, (_, i) => 5 + i);
  const request = endless({ input: { kind: "tokens", ids }, maxTokens: 40 });
  const drafts = { drafted: 0, accepted: 0 };
  for (let i = 0; i < 2; i++) {
    for await (const event of counted.run("acme", request, [], never)) {
      if (event.type !== "end") continue;
      const { drafted, accepted } = totalDrafts(event.usage.drafts);
      drafts.drafted += drafted;
      drafts.accepted += accepted;
    }
  }
  const sum = (count: (stats: ModelCounts) => number) =>
    reports.reduce((total, { models }) => {
      const counts = models.get(request.model);
      return total + (counts ? count(counts) : 0);
    }, 0);
  while (sum((stats) => stats.promptTokens) < 100) await new Promise<void>((r) => (wake = r));
  expect(sum((stats) => stats.promptTokens)).toBe(100);
  expect(sum((stats) => stats.cachedTokens)).toBe(48);
  expect(sum((stats) => stats.generatedTokens)).toBe(80);
  expect(sum((stats) => stats.firstTokenMs.length)).toBe(2);
  expect(sum((stats) => totalDrafts(stats.drafts).drafted)).toBe(drafts.drafted);
  expect(sum((stats) => totalDrafts(stats.drafts).accepted)).toBe(drafts.accepted);
  // At most one step for each token, and two to prefill each prompt.
  const steps = reports.flatMap(({ stepMs }) => stepMs);
  expect(steps.length).toBeGreaterThan(0);
  expect(steps.length).toBeLessThanOrEqual(80 + 4);
  expect(Math.min(...steps)).toBeGreaterThan(0);
  expect(reports.at(-1)).toMatchObject({ running: 0, waiting: 0, cacheBytes: 0 });
  expect(reports.at(-1)!.prefixBytes).toBeGreaterThan(0);
  await counted.close();
});

test("the cards list the ensembles, and there are no warnings", () => {
  expect(engine.cards.map(({ id }) => id)).toEqual(["atlas-qa", "gsm-mini"]);
  expect(engine.warnings).toEqual([]);
});

test("the start fails with the error of the manifest", async () => {
  const folder = folderOf({ "ensembles.json": { ensembles: [] } });
  await expect(start(join(folder, "ensembles.json"))).rejects.toThrow("ensembles: ");
  await expect(start("/nowhere.json")).rejects.toThrow("/nowhere.json: ENOENT");
});
