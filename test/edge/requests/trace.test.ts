/** The edge's span of a submission, as it is sent to an OTLP receiver. */
import { afterEach, expect, test, vi } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { log } from "../../../edge/runtime/log.ts";
import { card, newTenant, redisUrl } from "../harness.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test.each([
  ["accepted", card.id, { "trimtab.job.id": expect.stringMatching(/^job_/) }, 0],
  ["refused", "unknown", { "error.type": "model_not_found" }, 2],
])("a submission that is %s has a span", async (_, model, attributes, code) => {
  const client = await newTenant();
  const sent = vi.spyOn(globalThis, "fetch").mockImplementation(async () => new Response("{}"));
  const edge = createApp({
    openStores: () => new RequestStores(parseEnv({ REDIS_URL: redisUrl }), null),
    deadlineSeconds: 60,
    webhookAllow: [],
    otlp: { url: "http://collector.test/v1/traces", headers: {} },
    log,
  });
  const work: Promise<unknown>[] = [];
  const context = { waitUntil: (promise: Promise<unknown>) => work.push(promise) };
  const init = {
    method: "POST",
    headers: { authorization: `Bearer ${client.key}` },
    body: JSON.stringify({ model, prompt: "x" }),
  };
  await edge.request("/v1/jobs", init, {}, context as unknown as ExecutionContext);
  await Promise.all(work);
  const [url, request] = sent.mock.lastCall!;
  expect(url).toBe("http://collector.test/v1/traces");
  const [span] = spansOf(await new Response(request!.body).text());
  expect(span!.name).toBe("submit");
  expect(span!.status.code).toBe(code);
  expect(span!.attributes).toMatchObject(attributes);
});

interface OtlpSpan {
  readonly name: string;
  readonly status: { readonly code: number };
  readonly attributes: readonly { readonly key: string; readonly value: object }[];
}

function spansOf(body: string) {
  const { resourceSpans } = JSON.parse(body) as {
    resourceSpans: { scopeSpans: { spans: OtlpSpan[] }[] }[];
  };
  const spans = resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  return spans.map(({ attributes, ...span }) => ({
    ...span,
    attributes: Object.fromEntries(
      attributes.map(({ key, value }) => [key, Object.values(value)[0] as unknown]),
    ),
  }));
}
