/** What is told of tokens (log-probabilities, the shift trace) on its way from the log to each kind of reader. */
import type OpenAI from "openai";
import { beforeEach, expect, test } from "vitest";
import type { TokenLogprob, TokenShift } from "../../shared/reports.ts";
import type { Generation } from "../../shared/job.ts";
import {
  card,
  claim,
  jobEvents,
  newTenant,
  openaiOf,
  store,
  success,
  type Client,
} from "./harness.ts";

const chat = { model: card.id, messages: [{ role: "user" as const, content: "Hi" }] };
const completion = { model: card.id, prompt: "Once" };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

const train = [0xf0, 0x9f, 0x9a, 0x82];
const logprobs: TokenLogprob[] = [
  { id: 1, token: "é", logprob: -0.5, top: [{ id: 2, token: " a", logprob: -0.25 }] },
  { id: 3, token: "\\xf0\\x9f", bytes: train.slice(0, 2), logprob: -1, top: [] },
  { id: 4, token: "\\x9a\\x82", bytes: train.slice(2), logprob: -2, top: [] },
  { id: 5, token: "!", logprob: -9999, top: [{ id: 5, token: "!", logprob: -9999 }] },
];
const trace: TokenShift[] = logprobs.map(({ id, logprob }) => ({
  id,
  alpha: 1,
  base: -3,
  expert: -1,
  antiexpert: -4,
  steered: logprob,
  gain: logprob + 3,
  kl: 0.5,
  same: true,
  base_token: { id, token: "x" },
  promoted: [],
  demoted: [],
}));

/** Plays a worker that tells this of its tokens, the first of which make no text final. */
async function playTold(request: (generation: Generation) => void = () => {}): Promise<void> {
  const id = await tenant.queuedJob();
  request((await store.record(id))!.generation);
  const { attempt } = await claim(id);
  const tell = (from: number, to: number, text: string) =>
    store.appendTokens(id, attempt, from, {
      ids: logprobs.slice(from, to).map((entry) => entry.id),
      text,
      logprobs: logprobs.slice(from, to),
      trace: trace.slice(from, to),
    });
  await tell(0, 1, "é");
  await tell(1, 2, "");
  await tell(2, 4, "🚂!");
  await store.finish(id, attempt, "succeeded", "é🚂!", success);
}

const chatTokens = [
  {
    token: "é",
    logprob: -0.5,
    bytes: [0xc3, 0xa9],
    top_logprobs: [{ token: " a", logprob: -0.25, bytes: [0x20, 0x61] }],
  },
  { token: "\\xf0\\x9f", logprob: -1, bytes: train.slice(0, 2), top_logprobs: [] },
  { token: "\\x9a\\x82", logprob: -2, bytes: train.slice(2), top_logprobs: [] },
  {
    token: "!",
    logprob: -9999,
    bytes: [0x21],
    top_logprobs: [{ token: "!", logprob: -9999, bytes: [0x21] }],
  },
];

test("it is in a chat's choice, whole", async () => {
  const [, reply] = await Promise.all([
    playTold((generation) => expect(generation).toMatchObject({ logprobs: 1, trace: true })),
    openai.chat.completions.create({
      ...chat,
      logprobs: true,
      top_logprobs: 1,
      steering: { trace: true },
    } as OpenAI.ChatCompletionCreateParamsNonStreaming),
  ]);
  expect(reply.choices[0]).toMatchObject({
    message: { content: "é🚂!" },
    logprobs: { content: chatTokens, refusal: null },
    trace,
  });
});

test("it is in a chat's chunks, as the client's own accumulator gathers it", async () => {
  const stream = openai.chat.completions.stream({ ...chat, logprobs: true, top_logprobs: 1 });
  await playTold();
  const reply = await stream.finalChatCompletion();
  expect(reply.choices[0]?.message.content).toBe("é🚂!");
  expect(reply.choices[0]?.logprobs?.content).toEqual(chatTokens);
});

test("it is in the choice of a completion, whole and streamed", async () => {
  const expected = {
    tokens: ["é", "bytes:\\xf0\\x9f", "bytes:\\x9a\\x82", "!"],
    token_logprobs: [-0.5, -1, -2, -9999],
    top_logprobs: [
      { é: -0.5, " a": -0.25 },
      { "bytes:\\xf0\\x9f": -1 },
      { "bytes:\\x9a\\x82": -2 },
      { "!": -9999 },
    ],
    text_offset: [0, 1, 2, 2],
  };
  const told = { ...completion, logprobs: 1 };
  const [, reply] = await Promise.all([playTold(), openai.completions.create(told)]);
  expect(reply.choices[0]).toMatchObject({ text: "é🚂!", logprobs: expected });
  const [, stream] = await Promise.all([
    playTold(),
    openai.completions.create({ ...told, stream: true }),
  ]);
  const parts = (await Array.fromAsync(stream)).map((chunk) => chunk.choices[0]!.logprobs);
  expect(parts.flatMap((part) => part?.text_offset ?? [])).toEqual(expected.text_offset);
  expect(parts.flatMap((part) => part?.tokens ?? [])).toEqual(expected.tokens);
  expect(parts.map((part) => part?.tokens?.length)).toEqual([1, 1, 2, undefined]);
});

test("it is in the events of a job, and in the job", async () => {
  const { id } = await tenant.submit({ logprobs: 1, steering: { trace: true } });
  await playTold();
  const events = await jobEvents(await tenant.get(`/v1/jobs/${id}/events`));
  const first = {
    type: "tokens",
    ids: [1],
    logprobs: logprobs.slice(0, 1),
    trace: trace.slice(0, 1),
  };
  expect(events[2]).toMatchObject(first);
  const job = await tenant.job(id);
  expect(job.output).toEqual({ text: "é🚂!", finish_reason: "stop", logprobs, trace });
  expect(job.steering).toEqual({ alpha: card.alphaDefault, trace: true });
});
