/** A hosted base that takes text and tells tokens by their texts. */
import { describe, expect, onTestFinished, test } from "vitest";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import type { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { openai } from "../../../../worker/engine/remote/apis/openai.ts";
import type { PromptForm } from "../../../../worker/engine/remote/api.ts";
import { Connection } from "../../../../worker/engine/remote/connection.ts";
import { RemoteBase } from "../../../../worker/engine/remote/remote-base.ts";
import { serverTextOf } from "../../../../worker/engine/remote/server-text.ts";
import { TextVocabulary } from "../../../../worker/engine/remote/text-vocabulary.ts";
import { DEMO_EOS, DEMO_VOCAB, demoTokenizer } from "../../../support/base-server/demo.ts";
import { openaiRoutes, type HostedModel } from "../../../support/base-server/openai.ts";
import { inProcess } from "../../../support/base-server/in-process.ts";
import { BaseServer } from "../../../support/base-server/server.ts";
import { generateRequest } from "../../../support/decode-loop.ts";
import { fakeModels, noiseLogits } from "../../../support/fake-decoder.ts";

const texts = {
  vocabSize: DEMO_VOCAB,
  eosIds: DEMO_EOS,
  tokenBytes: (id: number) => demoTokenizer.tokenBytes(id),
  tokenText: (id: number) => demoTokenizer.tokenText(id),
  encodeCompletion: (text: string) => demoTokenizer.encodeCompletion(text),
};
const vocabulary = new TextVocabulary(texts);
const logits = noiseLogits(1, DEMO_VOCAB);
const hosted = (changes: Partial<HostedModel> = {}): HostedModel => ({
  logits: async (ids) => logits(ids),
  vocabSize: DEMO_VOCAB,
  tokenizer: demoTokenizer,
  ...changes,
});
const idOf = (text: string) => demoTokenizer.encodeCompletion(text)[0]!;

async function serve(
  model: HostedModel,
  prompts: Exclude<PromptForm, "ids">,
  { top = 5, bosId = null as number | null, rowsMax = 4 } = {},
) {
  const server = new BaseServer(openaiRoutes(model));
  const url = await server.listen();
  const options = { url, name: "hosted", key: () => null, concurrency: 4 };
  const connection = new Connection({ ...options, timeoutMs: 60_000, patienceMs: 60_000 });
  const api = openai({ model: "hosted", top, prompts, vocabulary, bosId });
  const base = new RemoteBase({
    api,
    connection,
    name: "hosted",
    vocabSize: DEMO_VOCAB,
    top,
    rowsMax,
  });
  onTestFinished(async () => {
    await base.close();
    await server.close();
  });
  const expected = {
    contextTokens: 512,
    bosId,
    encode: (text: string) => demoTokenizer.encodeCompletion(text),
    specialTexts: [],
    checkTokenizer: true,
  };
  return { server, base, open: () => base.open(expected) };
}

const { signal } = new AbortController();
const place = { drafts: [], top: 5, salt: "" };

describe("texts of tokens", () => {
  test("tokens that are no text, or have the text of another one, cannot be used", () => {
    const bytes = [[97], [98], [0xf0, 0x9f], [97], null, null, [0xe2, 0x80, 0x99], [97, 98]];
    const names = ["", "", "", "", "<eos>", "", "", ""];
    const small = new TextVocabulary({
      vocabSize: bytes.length,
      eosIds: new Set([4]),
      tokenBytes: (id) => (bytes[id] ? Uint8Array.from(bytes[id]) : null),
      tokenText: (id) => ({ token: names[id]! }),
      // Of the two tokens for "a", the tokenizer makes the later one.
      encodeCompletion: (text) => (text === "a" ? [3] : [1]),
    });
    expect(small.unusableIds).toEqual([0, 2]);
    const found = (token: string, told?: readonly number[] | null) =>
      small.idOf({ token, bytes: told });
    expect([found("a"), found("b"), found("ab", null), found("<eos>", [])]).toEqual([3, 1, 7, 4]);
    expect([found("’"), found("?", [0xe2, 0x80, 0x99])]).toEqual([6, 6]);
    // Not whole characters, in the three ways in which servers say so.
    expect([found("\ufffd"), found("?", [0xf0, 0x9f]), found("bytes:\\xf0\\x9f")]).toEqual([
      null,
      null,
      null,
    ]);
    expect(found("bytes:\\xe2\\x80\\x99")).toBe(6);
    expect(found("c")).toBeUndefined();
    // The token that ends a text may have none.
    expect(found("")).toBe(4);
    expect(small.textOf([3, 7, 4, 6])).toBe("aab<eos>’");
    expect(() => small.textOf([3, 2])).toThrow("end within a character");
  });

  test("the demo tokenizer: every usable token is found by its text", () => {
    const unusable = new Set(vocabulary.unusableIds);
    expect(unusable.size).toBeGreaterThan(100);
    const usable = Array.from({ length: DEMO_VOCAB }, (_, id) => id).filter(
      (id) => !unusable.has(id) && demoTokenizer.tokenText(id).token !== "",
    );
    expect(usable.map((id) => vocabulary.idOf(demoTokenizer.tokenText(id)))).toEqual(usable);
  });
});

describe("the check at the start", () => {
  test.each<[string, Partial<HostedModel>, number | null, string]>([
    ["without a first token", {}, null, "the capital"],
    ["whose server adds the first token", { addedId: 0 }, 0, "the capital"],
    ["whose server has to be told the first token", {}, 0, "<eos>the capital"],
  ])("completions %s", async (_, changes, bosId, prompt) => {
    const { base, server, open } = await serve(hosted(changes), "text", { bosId });
    await open();
    expect([base.problem, base.warnings]).toEqual([null, []]);
    const context = [...(bosId === null ? [] : [bosId]), ...texts.encodeCompletion("the capital")];
    await base.rows({ ...place, context }, signal);
    expect(server.calls.at(-1)!.body).toEqual({
      model: "hosted",
      prompt,
      max_tokens: 1,
      temperature: 1,
      top_p: 1,
      logprobs: 5,
    });
  });

  test.each([
    ["always", {}, {}],
    ["prefix", { prefix: true }, {}],
    ["continue_final_message", {}, { continue_final_message: true, add_generation_prompt: false }],
  ] as const)("a chat that is continued by %s", async (continues, lastMessage, request) => {
    const { base, server, open } = await serve(hosted({ continues }), "chat", { top: 20 });
    await open();
    const messages = [{ role: "user", content: "hi" }];
    const chat = { messages, replyFrom: 1 };
    const context = [9, ...texts.encodeCompletion("the capital")];
    const { rows } = await base.rows({ ...place, top: 20, context, chat }, signal);
    expect(rows[0]!.seen.size).toBeGreaterThan(10);
    expect(server.calls.at(-1)!.body).toEqual({
      model: "hosted",
      messages: [...messages, { role: "assistant", content: "the capital", ...lastMessage }],
      max_tokens: 1,
      temperature: 1,
      top_p: 1,
      logprobs: true,
      top_logprobs: 20,
      ...request,
    });
  });

  test("a chat that begins a new reply is refused with the remedies; its first token can be used", async () => {
    const refused = await serve(hosted(), "chat");
    await expect(refused.open()).rejects.toThrow(
      /begins a new reply.*"prompts": "text".*"prompts": "chat-start" to score/,
    );
    const { base, open } = await serve(hosted(), "chat-start");
    await open();
    const chat = { messages: [{ role: "user", content: "hi" }], replyFrom: 1 };
    const { rows } = await base.rows({ ...place, context: [9], chat }, signal);
    expect(rows[0]!.topCount).toBeGreaterThan(0);
    await expect(base.rows({ ...place, context: [9, 300], chat }, signal)).rejects.toMatchObject({
      code: "base_failed",
      message:
        "The base model hosted: it cannot continue a reply, so only the first token of one is known",
    });
  });

  test("without token counts a chat is refused, and completions are used with a warning", async () => {
    const chat = await serve(hosted({ continues: "always", hidesUsage: true }), "chat");
    await expect(chat.open()).rejects.toThrow("do not say whether it continues");
    const text = await serve(hosted({ hidesUsage: true }), "text");
    await text.open();
    expect(text.base.warnings).toEqual([expect.stringContaining("cannot be compared")]);
  });

  test("another tokenizer is refused by the counts of its tokens, or by a token that is unknown", async () => {
    const counts = {
      tokenBytes: texts.tokenBytes,
      tokenText: texts.tokenText,
      encodeCompletion: (text: string) => [...Buffer.from(text)].map((byte) => byte + 20),
    };
    const { open } = await serve(hosted({ tokenizer: counts }), "text");
    await expect(open()).rejects.toThrow(/makes 21 tokens of "the capital of france", and/);
    const other = {
      encodeCompletion: texts.encodeCompletion,
      tokenBytes: (id: number) => Buffer.from(`§${id}`),
      tokenText: texts.tokenText,
    };
    const unknown = await serve(hosted({ tokenizer: other }), "chat-start");
    await expect(unknown.open()).rejects.toThrow(/its token "§\d+" is none of the tokenizer/);
  });

  test("a list that is longer than the server allows", async () => {
    const { open } = await serve(hosted({ topMax: 3 }), "text");
    const error: unknown = await open().catch((error: unknown) => error);
    expect(error).toMatchObject({ message: expect.stringMatching(/400.*Set "top" to what/) });
    expect(serverTextOf(error)).toContain("'logprobs': must be less");
  });

  test("a server that takes one prompt in a call is used with rows 1", async () => {
    const routes = openaiRoutes(hosted());
    const single = async (base: Awaited<ReturnType<typeof serve>>) => {
      base.server.intercept = async ({ body }) =>
        Array.isArray(body["prompt"])
          ? { status: 400, body: { error: { message: "prompt must be a string" } } }
          : routes("/completions", body);
      return base.open();
    };
    await expect(single(await serve(hosted(), "text"))).rejects.toThrow("Set rows to 1");
    await single(await serve(hosted(), "text", { rowsMax: 1 }));
  });
});

describe("rows", () => {
  const context = texts.encodeCompletion("the capital");
  const told = async (distort: (logprobs: Float32Array) => Float32Array) => {
    const { base } = await serve(hosted({ distort }), "text");
    return base.rows({ ...place, context }, signal).then(({ rows }) => rows[0]!);
  };
  /** A distribution that has these probabilities, and the rest evenly. */
  const spread = (probabilities: Readonly<Record<number, number>>) => (logprobs: Float32Array) => {
    const known = Object.entries(probabilities);
    const rest = 1 - known.reduce((sum, [, p]) => sum + p, 0);
    const out = logprobs.fill(Math.log(rest / (DEMO_VOCAB - known.length)));
    for (const [id, p] of known) out[Number(id)] = Math.log(p);
    return out;
  };

  test("tokens that are no text have no id, and their mass is none of the unseen tokens'", async () => {
    const [part, otherPart] = vocabulary.unusableIds as [number, number];
    const [a, b] = [idOf("the"), idOf("capital")];
    const row = await told(
      spread({ [part]: 0.3, [otherPart]: 0.2, [a]: 0.3, [b]: 0.1, 300: 0.09 }),
    );
    expect(new Set(row.seen.keys())).toEqual(new Set([a, b, 300]));
    expect(row.topMass).toBeCloseTo(0.49, 5);
    // Both have the same text in a map of texts, so the less likely one is lost and counts as unseen.
    expect(row.restMax).toBeCloseTo(0.21, 3);
    expect(row.unseenMax).toBeCloseTo(Math.log(0.09), 5);
  });

  test("without certainty no position is asked for again: there is no longer list", async () => {
    const served = inProcess({
      api: openai({ model: "hosted", top: 5, prompts: "text", vocabulary, bosId: null }),
      routes: openaiRoutes(hosted()),
      vocabSize: DEMO_VOCAB,
      top: 5,
    });
    const models = { ...fakeModels(DEMO_VOCAB), base: served };
    const prompts = { base: context, expert: [4], antiexpert: [5] };
    const sampling = { logitBias: vocabulary.unusableIds.map((id) => [id, -100] as const) };
    const request = generateRequest({ models, prompts, sampling, maxTokens: 12 });
    let sequence: Sequence | undefined;
    for await (const step of generate({ ...request, baseErrorMax: 1 })) ({ sequence } = step);
    expect(sequence!.remote).toMatchObject({ asked: 0 });
    expect(sequence!.remote!.bounded).toBeGreaterThan(0);
  });

  test("a list that is too short is no row", async () => {
    const { base, server } = await serve(hosted(), "text");
    const routes = openaiRoutes(hosted());
    server.intercept = async ({ body }) => routes("/completions", { ...body, logprobs: 2 });
    await expect(base.rows({ ...place, context }, signal)).rejects.toMatchObject({
      code: "base_failed",
      message: expect.stringContaining("5 tokens were asked for"),
    });
  });
});
