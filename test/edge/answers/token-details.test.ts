/** Token details (log-probabilities and shift trace) in the reply of each protocol. */
import type OpenAI from "openai";
import { beforeEach, expect, test } from "vitest";
import type { TokenLogprob, TokenShift } from "../../../shared/api/token-details.ts";
import type { Generation } from "../../../shared/jobs/record.ts";
import {
  card,
  claim,
  jobEvents,
  newTenant,
  openaiOf,
  store,
  success,
  type Client,
} from "../harness.ts";

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

/**
 * Plays a worker that appends tokens with these details. The second append has no text, as in the middle of a character.
 * @param request checks the job's generation
 */
async function playWithDetails(
  request: (generation: Generation) => void = () => {},
): Promise<void> {
  const id = await tenant.queuedJob();
  request((await store.record(id))!.generation);
  const { attempt } = await claim(id);
  const append = (from: number, to: number, text: string) =>
    store.appendTokens(id, attempt, from, {
      ids: logprobs.slice(from, to).map((entry) => entry.id),
      text,
      logprobs: logprobs.slice(from, to),
      trace: trace.slice(from, to),
    });
  await append(0, 1, "é");
  await append(1, 2, "");
  await append(2, 4, "🚂!");
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

test("a chat's choice has the details of every token", async () => {
  const [, reply] = await Promise.all([
    playWithDetails((generation) => expect(generation).toMatchObject({ logprobs: 1, trace: true })),
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

test("a chat's chunks have the details in the form that the client's accumulator expects", async () => {
  const stream = openai.chat.completions.stream({ ...chat, logprobs: true, top_logprobs: 1 });
  await playWithDetails();
  const reply = await stream.finalChatCompletion();
  expect(reply.choices[0]?.message.content).toBe("é🚂!");
  expect(reply.choices[0]?.logprobs?.content).toEqual(chatTokens);
});

test("a completion's choice has the log-probabilities, complete or streamed", async () => {
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
  const detailed = { ...completion, logprobs: 1 };
  const [, reply] = await Promise.all([playWithDetails(), openai.completions.create(detailed)]);
  expect(reply.choices[0]).toMatchObject({ text: "é🚂!", logprobs: expected });
  const [, stream] = await Promise.all([
    playWithDetails(),
    openai.completions.create({ ...detailed, stream: true }),
  ]);
  const parts = (await Array.fromAsync(stream)).map((chunk) => chunk.choices[0]!.logprobs);
  expect(parts.flatMap((part) => part?.text_offset ?? [])).toEqual(expected.text_offset);
  expect(parts.flatMap((part) => part?.tokens ?? [])).toEqual(expected.tokens);
  expect(parts.map((part) => part?.tokens?.length)).toEqual([1, 1, 2, undefined]);
});

test("a job and its events have the details", async () => {
  const { id } = await tenant.submit({ logprobs: 1, steering: { trace: true } });
  await playWithDetails();
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
