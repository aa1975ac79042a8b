/** Bodies that stop arriving. */
import { afterEach, expect, test, vi } from "vitest";
import { readJson } from "../../../edge/http/body.ts";
import { HeldBytes } from "../../../edge/http/held-bytes.ts";
import { LIMITS } from "../../../shared/api/limits.ts";

afterEach(() => vi.useRealTimers());

function requestOf(body: ReadableStream<Uint8Array>): Request {
  return new Request("http://edge.test/", { method: "POST", body });
}

test("a body that pauses for half a minute is refused and cancelled", async () => {
  vi.useFakeTimers();
  const cancelled = vi.fn();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode('{"a":')),
    cancel: cancelled,
  });
  const error = readJson(requestOf(body), new HeldBytes("acme")).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(31_000);
  expect(await error).toMatchObject({ code: "request_timeout", status: 408 });
  expect(cancelled).toHaveBeenCalled();
});

test("a body that arrives too slowly is refused after a minute", async () => {
  vi.useFakeTimers();
  let chunks = 0;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 20_000));
      chunks++;
      controller.enqueue(new TextEncoder().encode(" "));
    },
  });
  const error = readJson(requestOf(body), new HeldBytes("acme")).catch((error: unknown) => error);
  await vi.advanceTimersByTimeAsync(80_000);
  expect(await error).toMatchObject({ code: "request_timeout" });
  expect(chunks).toBeLessThan(5);
});

test("the bodies that a tenant has in memory are bounded, and those of all tenants; what has ended gives its room back", async () => {
  const read = (tenant: string) => {
    const held = new HeldBytes(tenant);
    const body = JSON.stringify({ text: "x".repeat(LIMITS.bodyBytesMax - 20) });
    const request = new Request("http://edge.test/", { method: "POST", body });
    return { held, read: readJson(request, held) };
  };
  const held: HeldBytes[] = [];
  const fill = async (tenant: string) => {
    for (;;) {
      const one = read(tenant);
      held.push(one.held);
      const error: unknown = await one.read.then(
        () => null,
        (error: unknown) => error,
      );
      if (error !== null) return error;
    }
  };
  expect(await fill("first")).toMatchObject({ code: "rate_limit_exceeded", status: 429 });
  const errors: unknown[] = [];
  for (const tenant of ["second", "third", "fourth", "fifth"]) errors.push(await fill(tenant));
  expect(errors.at(-1)).toMatchObject({ code: "overloaded", status: 503, retryAfterMs: 1_000 });
  for (const each of held) each.release();
  const after = read("first");
  await after.read;
  after.held.release();
});
