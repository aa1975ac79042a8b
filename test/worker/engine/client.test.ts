import { on } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, test, vi } from "vitest";
import type { Generation } from "../../../shared/job.ts";
import { allDrafts } from "../../../worker/decode/draft.ts";
import { EngineClient } from "../../../worker/engine/client.ts";
import type { Figures } from "../../../worker/engine/figures.ts";
import {
  isLast,
  NOTHING_USED,
  type FromEngine,
  type RunEvent,
} from "../../../worker/engine/messages.ts";
import { generation } from "../../support/generation.ts";
import { folderOf } from "../../support/tokenizers.ts";

const MANIFEST = join(import.meta.dirname, "../../../infra/models/ensembles.json");
const never = new AbortController().signal;

const start = (
  manifestFile: string,
  cacheBytesMax = 2 ** 28,
  onFigures?: (figures: Figures) => void,
) =>
  EngineClient.start(
    { manifestFile, intraOpThreads: 1, cacheBytesMax, prefixBytesMax: 2 ** 24 },
    (error) => {
      throw error;
    },
    onFigures,
  );
const engine = await start(MANIFEST);

/** No end token, so that a run takes all its tokens. */
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

/** What a client sees; how much was drafted is decided by the clock. */
const shown = (events: readonly RunEvent[]) =>
  events.map((event) => (event.type === "end" ? { ...event, used: null } : event));

const tokensOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === "token" ? [event.token] : []));

describe("a run", () => {
  test("gives its tokens, then how it ended", async () => {
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
    expect(events.at(-1)).toMatchObject({ finish: "length", used: { promptTokens: 3 } });
  });

  test("finds again what its tenant has said before, and tells how much", async () => {
    const ids = Array.from({ length: 50 }, (_, i) => 5 + i);
    const input = (tenant: string) =>
      run(endless({ input: { kind: "tokens", ids }, maxTokens: 1 }), [], never, tenant);
    const cached: number[] = [];
    for (const tenant of ["one", "one", "other"]) {
      const end = (await input(tenant)).at(-1)!;
      cached.push(end.type === "end" ? end.used.cachedTokens : -1);
    }
    expect(cached).toEqual([0, 48, 0]);
  });

  test("gives the same tokens for the same seed, others for another", async () => {
    const [one, again, other] = [
      await run(endless({ seed: 1 })),
      await run(endless({ seed: 1 })),
      await run(endless({ seed: 2 })),
    ];
    expect(shown(again)).toEqual(shown(one));
    expect(tokensOf(other)).not.toEqual(tokensOf(one));
  });

  test("goes on from the tokens of an earlier attempt", async () => {
    const whole = await run(endless());
    const rest = await run(endless(), tokensOf(whole).slice(0, 3));
    expect(shown(rest)).toEqual(shown(whole.toSpliced(1, 3)));
  });

  test("ends where the context ends, whatever was asked for", async () => {
    const ids = Array.from({ length: 509 }, () => 5);
    const events = await run(endless({ input: { kind: "tokens", ids }, maxTokens: 100 }));
    expect(tokensOf(events)).toHaveLength(3);
    expect(events.at(-1)).toMatchObject({ finish: "length" });
  });
});

describe("a text that is given", () => {
  const scored = (changes: Partial<Generation> = {}) =>
    run(generation({ completion: { kind: "text", text: " Paris." }, trace: true, ...changes }));

  test("is read by itself by the base's tokenizer, end tokens where they are written, and scored to its end", async () => {
    const events = await scored({ completion: { kind: "text", text: " paris<eos><eos>." } });
    const ids = tokensOf(events);
    expect(ids.filter((id) => id === 0)).toHaveLength(2);
    expect(events.map((event) => (event.type === "token" ? event.text : "")).join("")).toBe(
      " paris.",
    );
    expect(events.at(-1)).toMatchObject({ type: "end", finish: "length" });
    expect(await scored({ completion: { kind: "tokens", ids } })).toEqual(events);
  });

  test("is scored from where an earlier attempt was", async () => {
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
      "more than is told of",
      { completion: { kind: "tokens", ids: [5, 6, 7] }, maxTokens: 2 },
      "invalid_request",
      "completion has 3 tokens; at most 2 are scored with these top_logprobs",
    ],
    [
      "no room for it",
      { completion: { kind: "tokens", ids: Array.from({ length: 511 }, () => 5) }, maxTokens: 600 },
      "context_length_exceeded",
      /^completion has 511 tokens and the prompt \d+; the context of atlas-qa has room for 512 together$/,
    ],
  ])("that has %s is refused", async (_, changes, code, message) => {
    expect(await scored(changes)).toMatchObject([
      { type: "failed", code, message: expect.stringMatching(message) as string },
    ]);
  });

  test("fills the context to its last token", async () => {
    const changes = {
      input: { kind: "tokens", ids: [5] },
      completion: { kind: "tokens", ids: Array.from({ length: 511 }, () => 5) },
      maxTokens: 600,
    } as const;
    expect(tokensOf(await scored(changes))).toHaveLength(511);
  });
});

test("several runs go on together and each gives what it gives alone", async () => {
  const requests = [1, 2, 3].map((seed) => endless({ seed, maxTokens: 20 }));
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
  // No run waits for the end of another: the last has a token before the first has all.
  expect(order.indexOf(2)).toBeLessThan(order.lastIndexOf(0));
  for (const [i, request] of requests.entries()) {
    expect(shown(await run(request))).toEqual(shown(results[i]!));
  }
});

test("a run that is stopped ends at its next token, with no finish", async () => {
  const stop = new AbortController();
  const events: RunEvent[] = [];
  for await (const event of engine.run("acme", endless({ maxTokens: 400 }), [], stop.signal)) {
    events.push(event);
    if (events.length === 2) stop.abort();
  }
  expect(events.length).toBeLessThan(400);
  expect(events.at(-1)).toMatchObject({ type: "end", finish: null });
});

test("a run that is stopped before it starts still ends", async () => {
  const events = await run(endless({ maxTokens: 400 }), [], AbortSignal.abort());
  expect(tokensOf(events).length).toBeLessThan(400);
  expect(events.at(-1)).toMatchObject({ type: "end", finish: null });
});

test("a consumer that leaves early stops the run", async () => {
  const post = vi.spyOn(Worker.prototype, "postMessage");
  for await (const _ of engine.run("acme", endless({ maxTokens: 400 }), [], never)) break;
  const thread = post.mock.contexts[0] as Worker;
  post.mockRestore();
  for await (const [message] of on(thread, "message") as AsyncIterable<[FromEngine]>) {
    if (message.type !== "run" || !isLast(message.event)) continue;
    expect(message.event).toMatchObject({ type: "end", finish: null });
    break;
  }
});

describe("a run that cannot be served fails with its reason:", () => {
  test("an ensemble that is not there", async () => {
    expect(await run(endless({ model: "nobody" }))).toEqual([
      {
        type: "failed",
        code: "model_not_found",
        message: "this worker does not serve nobody",
        used: NOTHING_USED,
      },
    ]);
  });

  test("a prompt that fills the context", async () => {
    const ids = Array.from({ length: 512 }, () => 5);
    expect(await run(endless({ input: { kind: "tokens", ids } }))).toMatchObject([
      { type: "failed", code: "context_length_exceeded" },
    ]);
  });

  test("a prompt without tokens", async () => {
    expect(await run(endless({ input: { kind: "text", text: "" } }))).toMatchObject([
      { type: "failed", code: "invalid_request" },
    ]);
  });
});

test("a run that needs more cache than there is fails with both numbers", async () => {
  const small = await start(MANIFEST, 2 ** 20);
  const events: RunEvent[] = [];
  for await (const event of small.run("acme", endless({ maxTokens: 500 }), [], never))
    events.push(event);
  expect(events).toEqual([
    {
      type: "failed",
      code: "internal",
      message: expect.stringMatching(
        /^the job needs \d+ MiB of KV cache; this worker has 1$/,
      ) as string,
      used: NOTHING_USED,
    },
  ]);
  await small.close();
});

test("what the engine does is counted, and told from time to time", async () => {
  const told: Figures[] = [];
  let wake = () => {};
  const counted = await start(MANIFEST, 2 ** 28, (figures) => {
    told.push(figures);
    wake();
  });
  const ids = Array.from({ length: 50 }, (_, i) => 5 + i);
  const request = endless({ input: { kind: "tokens", ids }, maxTokens: 40 });
  const drafts = { drafted: 0, accepted: 0 };
  for (let i = 0; i < 2; i++) {
    for await (const event of counted.run("acme", request, [], never)) {
      if (event.type !== "end") continue;
      const { drafted, accepted } = allDrafts(event.used.drafts);
      drafts.drafted += drafted;
      drafts.accepted += accepted;
    }
  }
  const sum = (of: (figures: Figures) => number) => told.reduce((all, each) => all + of(each), 0);
  while (sum((figures) => figures.promptTokens) < 100) await new Promise<void>((r) => (wake = r));
  expect(sum((figures) => figures.promptTokens)).toBe(100);
  expect(sum((figures) => figures.cachedTokens)).toBe(48);
  expect(sum((figures) => figures.generatedTokens)).toBe(80);
  expect(sum((figures) => figures.firstTokenMs.length)).toBe(2);
  expect(sum((figures) => allDrafts(figures.drafts).drafted)).toBe(drafts.drafted);
  expect(sum((figures) => allDrafts(figures.drafts).accepted)).toBe(drafts.accepted);
  // At most one a token, and two to prefill each prompt.
  const steps = told.flatMap(({ stepMs }) => stepMs);
  expect(steps.length).toBeGreaterThan(0);
  expect(steps.length).toBeLessThanOrEqual(80 + 4);
  expect(Math.min(...steps)).toBeGreaterThan(0);
  expect(told.at(-1)).toMatchObject({ running: 0, waiting: 0, cacheBytes: 0 });
  expect(told.at(-1)!.prefixBytes).toBeGreaterThan(0);
  await counted.close();
});

test("the cards tell what is served, and nothing is slower than it could be", () => {
  expect(engine.cards.map(({ id }) => id)).toEqual(["atlas-qa", "gsm-mini"]);
  expect(engine.warnings).toEqual([]);
});

test("an unfit manifest is the reason why the start fails", async () => {
  const folder = folderOf({ "ensembles.json": { ensembles: [] } });
  await expect(start(join(folder, "ensembles.json"))).rejects.toThrow("ensembles: ");
  await expect(start("/nowhere.json")).rejects.toThrow("/nowhere.json: ENOENT");
});
