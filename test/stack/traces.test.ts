/** One trace from a request to the tokens of its job, as a real OTLP receiver gets it, also if a worker is killed. */
import { expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { startReceiver, type Received } from "../support/receiver.ts";
import { DEADLINE_MS, LONG_JOB, EventReader, useStack } from "./stack.ts";

const stack = useStack(null);

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER = "00f067aa0ba902b7";

/** The fields of OTLP's JSON that are used here. */
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: object }[];
  readonly status?: { readonly code?: number; readonly message?: string };
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

interface SeenSpan extends Pick<OtlpSpan, "name" | "spanId" | "status"> {
  readonly parent: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly startMs: number;
  readonly endMs: number;
}

/** The spans of the trace, in the order of their start. */
function spansIn(received: readonly Received[]): SeenSpan[] {
  return received
    .filter(({ path }) => path === "/v1/traces")
    .flatMap(({ body }) => (JSON.parse(body) as OtlpTraces).resourceSpans)
    .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
    .filter(({ traceId }) => traceId === TRACE_ID)
    .map((span) => ({
      name: span.name,
      spanId: span.spanId,
      parent: span.parentSpanId ?? "",
      ...(span.status && { status: span.status }),
      attributes: Object.fromEntries(
        span.attributes.map(({ key, value }) => [key, Object.values(value)[0] as unknown]),
      ),
      startMs: Number(span.startTimeUnixNano) / 1e6,
      endMs: Number(span.endTimeUnixNano) / 1e6,
    }))
    .toSorted((a, b) => a.startMs - b.startMs);
}

test("a request's trace has its submission, both attempts after a worker was killed, decoding and the webhook", async () => {
  const collector = await startReceiver(200);
  const { origin } = new URL(collector.url);
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: origin };
  const hook = await startReceiver(200);
  const edge = await startEdge({
    redisUrl: stack.redisServer.url,
    env: { ...env, WEBHOOK_ALLOW: "127.0.0.1" },
  });
  const client = new JobClient(edge.url, stack.key.key);
  const first = await stack.startWorker(env);
  const reply = await client.request("/v1/jobs", {
    method: "POST",
    headers: { traceparent: `00-${TRACE_ID}-${CALLER}-01` },
    body: JSON.stringify({ ...LONG_JOB, max_tokens: 400, webhook: { url: hook.url } }),
  });
  const { id } = (await reply.json()) as { id: string };
  const reader = new EventReader(client, id);
  await reader.hasTokens(30);
  first.child.kill("SIGKILL");
  const second = await stack.startWorker(env);
  await reader.ended;

  const spans = () => spansIn(collector.received);
  await expect
    .poll(() => spans().map(({ name }) => name), { timeout: DEADLINE_MS })
    .toContain("webhook");
  await second.stop();
  const submit = spans().find(({ name }) => name === "submit")!;
  expect(submit.parent).toBe(CALLER);
  expect(submit.attributes).toMatchObject({ "trimtab.job.id": id });

  const attempts = spans().filter(({ name }) => name === "attempt");
  expect(attempts.map(({ attributes }) => attributes["trimtab.attempt"])).toEqual([1, 2]);
  const [lost, last] = attempts as [SeenSpan, SeenSpan];
  expect(lost.status).toMatchObject({ code: 2, message: "The worker was lost" });
  expect(lost.endMs).toBeLessThanOrEqual(last.startMs);
  expect(last.attributes).toMatchObject({
    "trimtab.job.id": id,
    "trimtab.state": "succeeded",
    "gen_ai.request.model": "atlas-qa",
    "gen_ai.usage.output_tokens": 400,
  });
  const steps = spans().filter(({ parent }) => parent === last.spanId);
  expect(steps.map(({ name }) => name)).toEqual(["prefill", "decode"]);
  for (const { startMs, endMs } of steps) {
    expect(startMs).toBeGreaterThanOrEqual(last.startMs);
    expect(endMs).toBeLessThanOrEqual(last.endMs);
  }
  const children = spans().filter(({ parent }) => parent === submit.spanId);
  const names = children.map(({ name }) => name);
  // Spans that a killed worker had not sent yet are lost, maybe that of the first wait in the queue.
  expect(new Set(names)).toEqual(new Set(["attempt", "queue", "webhook"]));
  // No span contains the prompt or the output.
  const sent = collector.received.map(({ body }) => body).join();
  expect(sent).not.toContain("capital of france");
  await edge.stop();
  await Promise.all([collector.stop(), hook.stop()]);
});
