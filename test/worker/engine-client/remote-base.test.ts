/** Ensembles whose base is on another server, from the manifest to the tokens: an absent base, and a hosted one that only scores. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePort } from "../../../infra/stack/port.ts";
import type { Generation } from "../../../shared/jobs/record.ts";
import { EngineClient } from "../../../worker/engine-client/client.ts";
import type { RunEvent } from "../../../worker/engine-client/messages.ts";
import { DEMO_VOCAB, demoDecoder, demoTokenizer } from "../../support/base-server/demo.ts";
import { llamaRoutes } from "../../support/base-server/llama-cpp.ts";
import { cachedLogits, decoderLogits, likeliest } from "../../support/base-server/logits.ts";
import { openaiRoutes } from "../../support/base-server/openai.ts";
import { BaseServer, type BaseRoutes } from "../../support/base-server/server.ts";
import { generation } from "../../support/generation.ts";

const MODELS = join(import.meta.dirname, "../../../infra/models");
const never = new AbortController().signal;

const served = {
  logits: cachedLogits(decoderLogits(await demoDecoder("base"), DEMO_VOCAB)),
  vocabSize: DEMO_VOCAB,
  tokenizer: demoTokenizer,
};

async function listen(routes: BaseRoutes, port = 0): Promise<string> {
  const server = new BaseServer(routes);
  onTestFinished(() => server.close());
  return server.listen(port);
}

/** An engine with a local ensemble and one whose base is remote. */
async function startEngine(base: object): Promise<EngineClient> {
  const folder = mkdtempSync(join(tmpdir(), "manifest-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const pair = {
    expert: { path: join(MODELS, "atlas-expert") },
    antiexpert: { path: join(MODELS, "antiexpert") },
  };
  const ensembles = [
    { id: "local", base: { path: join(MODELS, "base") }, ...pair },
    { id: "remote", base: { model: "big", tokenizer: join(MODELS, "base"), ...base }, ...pair },
  ];
  const manifestFile = join(folder, "ensembles.json");
  writeFileSync(manifestFile, JSON.stringify({ ensembles }));
  const engine = await EngineClient.start(
    { manifestFile, intraOpThreads: 1, cacheBytesMax: 2 ** 28, prefixBytesMax: 0 },
    (error) => {
      throw error;
    },
  );
  onTestFinished(() => engine.close());
  return engine;
}

async function run(engine: EngineClient, changes: Partial<Generation>): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of engine.run("acme", generation(changes), [], never)) events.push(event);
  return events;
}

const tokensOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === "token" ? [event.token] : []));

test("a base that is away at the start does not end it: the other ensemble is served, and this one when its base is there", async () => {
  const port = await freePort();
  const engine = await startEngine({ url: `http://127.0.0.1:${port}`, api: "llama.cpp" });
  expect(engine.bases).toEqual([
    {
      model: "remote",
      problem: expect.stringMatching(/^The base model big: the connection failed \(ECONNREFUSED\)/),
      warnings: [],
      serverText: null,
    },
  ]);
  const job = { temperature: 0, maxTokens: 12 };
  const expected = tokensOf(await run(engine, { ...job, model: "local" }));
  expect(expected.length).toBeGreaterThan(0);

  const isBack = new Promise<void>((resolve) => {
    engine.onBases = ([base]) => base!.problem === null && resolve();
  });
  await listen(llamaRoutes(served), port);
  await isBack;
  expect(tokensOf(await run(engine, { ...job, model: "remote" }))).toEqual(expected);
});

test("a base that does not fit ends the start with the reason", async () => {
  const other = { encodeCompletion: () => [7] };
  const url = await listen(llamaRoutes({ ...served, tokenizer: other }));
  await expect(startEngine({ url, api: "llama.cpp" })).rejects.toThrow(
    /Ensemble remote: base big at http.*its tokenizer makes \[7\] of "the capital of france"/,
  );
});

test("multiple choice over a chat that cannot be continued: choices of one token are scored, as with a local base", async () => {
  const url = await listen(openaiRoutes(served));
  const engine = await startEngine({ url, api: "openai", prompts: "chat-start" });
  // The local base reads the tokens that the hosted model makes of the conversation.
  const question = { role: "user", content: "What is the capital of France?" } as const;
  const ids = [1, ...demoTokenizer.encodeCompletion(question.content), 2, 1];
  const [likely] = likeliest(await served.logits(ids), 1) as [number];
  const choice = { kind: "tokens", ids: [likely] } as const;
  const logprobs = async (
    model: string,
    input: Generation["input"],
    completion: NonNullable<Generation["completion"]>,
  ) => {
    const events = await run(engine, {
      model,
      input,
      completion,
      temperature: 0,
      maxTokens: 8,
      trace: true,
      alpha: 0,
    });
    const trace = events.flatMap((event) => (event.type === "token" ? [event.detail!.trace!] : []));
    return { trace, end: events.at(-1)! };
  };
  const chat = { kind: "chat", messages: [question] } as const;
  const { trace, end } = await logprobs("remote", chat, choice);
  const own = await logprobs("local", { kind: "tokens", ids }, choice);
  expect(trace).toHaveLength(1);
  expect(trace[0]!.base).toBeCloseTo(own.trace[0]!.base, 3);
  expect(end).toMatchObject({ type: "end", usage: { remote: { calls: 1 } } });

  const longer = await logprobs("remote", chat, {
    kind: "text",
    text: "the capital of france",
  });
  expect(longer.end).toMatchObject({
    type: "failed",
    code: "invalid_request",
    message: expect.stringContaining("only choices of one token are scored"),
  });
  const generated = await run(engine, { model: "remote", input: chat, maxTokens: 2 });
  expect(generated.at(-1)).toMatchObject({
    code: "invalid_request",
    message: "max_tokens: the base of remote cannot continue a reply, so it must be at most 1",
  });
  const prompt = await run(engine, { model: "remote", input: { kind: "text", text: "hi" } });
  expect(prompt.at(-1)).toMatchObject({
    message: "prompt: the base of remote takes only messages",
  });
});
