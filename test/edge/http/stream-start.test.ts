/** A stream whose reply waits for its start: which errors get a status, and what is not waited for. */
import { Hono } from "hono";
import { expect, test, vi } from "vitest";
import { AppError } from "../../../shared/api/errors.ts";
import type { AppEnv } from "../../../edge/http/context.ts";
import { streamOnceStarted, type SseFrame } from "../../../edge/http/sse.ts";

const OPENING: SseFrame = { data: "opening", isOpening: true };

/** The reply for these frames, or the error that it was refused with. */
async function replyTo(source: () => AsyncIterable<SseFrame>): Promise<Response> {
  const app = new Hono<AppEnv>();
  app.get("/", (c) =>
    streamOnceStarted(c, source, (error) => ({ data: (error as Error).message })),
  );
  app.onError((error, c) => c.text(error.message, 418));
  return app.request("/");
}

async function* failing(error: Error, ...frames: SseFrame[]): AsyncGenerator<SseFrame> {
  yield* frames;
  throw error;
}

const TOO_LONG = new AppError("context_length_exceeded", "too long");

test("an error before the first frame that is not an opening one is thrown", async () => {
  const reply = await replyTo(() => failing(TOO_LONG, OPENING, OPENING));
  expect([reply.status, await reply.text()]).toEqual([418, "too long"]);
});

test("the error of a frame is thrown before the first token, and the source is ended; after it the frame is sent", async () => {
  let ended = 0;
  const source = async function* (...frames: SseFrame[]): AsyncGenerator<SseFrame> {
    try {
      yield* frames;
      yield { data: "failed", refusal: TOO_LONG };
    } finally {
      ended++;
    }
  };
  const reply = await replyTo(() => source(OPENING));
  expect([reply.status, await reply.text(), ended]).toEqual([418, "too long", 1]);
  const begun = await replyTo(() => source({ data: "token" }));
  expect([begun.status, await begun.text()]).toEqual([200, "data: token\n\ndata: failed\n\n"]);
});

test.each([
  ["after the first token", TOO_LONG, [OPENING, { data: "token" }]],
  ["that clients retry", new AppError("queue_unavailable", "again"), [OPENING]],
  ["that is no AppError", new Error("a bug"), [OPENING]],
])("an error %s is the last frame", async (_, error, frames) => {
  const reply = await replyTo(() => failing(error, ...frames));
  expect(reply.status).toBe(200);
  const sent = [...frames.map(({ data }) => data), error.message];
  expect(await reply.text()).toBe(sent.map((data) => `data: ${data}\n\n`).join(""));
});

test("after a second the reply begins without a token", async () => {
  const token = Promise.withResolvers<SseFrame>();
  vi.useFakeTimers();
  const reply = replyTo(async function* () {
    yield OPENING;
    yield await token.promise;
  });
  await vi.advanceTimersByTimeAsync(1_000);
  vi.useRealTimers();
  const text = (await reply).text();
  token.resolve({ data: "token" });
  expect(await text).toBe("data: opening\n\ndata: token\n\n");
});
