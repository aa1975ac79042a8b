/** Webhooks reach a real receiver, signed as Standard Webhooks specifies, and are retried; the job lists each attempt. */
import * as v from "valibot";
import { expect, onTestFinished, test } from "vitest";
import type { Job } from "../../shared/api/jobs.ts";
import { KeyPolicy } from "../../shared/api/keys.ts";
import type { WebhookDelivery, WebhookEndpoint } from "../../shared/api/webhooks.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import {
  startWebhookReceiver,
  type WebhookReceiverOptions,
} from "../../infra/cli/webhook-receiver.ts";
import { DEADLINE_MS, LONG_JOB, SHORT_JOB, useStack } from "./stack.ts";

const SLOTS = 3;
const stack = useStack({ SLOTS: String(SLOTS) });

async function receiver(options: Partial<WebhookReceiverOptions> = {}) {
  const started = await startWebhookReceiver({ secret: stack.key.webhookSecret ?? "", ...options });
  onTestFinished(() => started.close());
  return started;
}

/** Waits until the job lists so many attempts: an attempt is recorded after the receiver has answered. @returns the job */
async function recorded(jobId: string, attempts: number): Promise<Job> {
  return expect
    .poll(() => stack.client.read(jobId), { timeout: DEADLINE_MS, interval: 50 })
    .toMatchObject({ webhook: { deliveries: { length: attempts } } })
    .then(() => stack.client.read(jobId));
}

test("the end of a job arrives signed, with the job as its body", async () => {
  const { url, received, accepted } = await receiver();
  const { id } = await stack.client.submit({
    ...SHORT_JOB,
    metadata: { order: "7" },
    webhook: { url },
  });
  const delivery = await accepted(id, DEADLINE_MS);
  expect(delivery).toMatchObject({ type: "job.succeeded", verified: true });

  const { webhook, ...job } = await recorded(id, 1);
  expect(delivery.job).toEqual(job);
  expect(webhook).toMatchObject({ url, deliveries: [{ attempt: 1, status: 204, error: null }] });
  expect(received).toHaveLength(1);
});

test("a receiver that fails at first gets the same message again until it accepts it", async () => {
  const { url, received, accepted } = await receiver({
    answer: (count) => (count === 1 ? 500 : 200),
  });
  const { id } = await stack.client.submit({ ...SHORT_JOB, webhook: { url } });
  await accepted(id, DEADLINE_MS);

  const { webhook } = await recorded(id, 2);
  expect(webhook?.deliveries).toMatchObject([
    { attempt: 1, status: 500 },
    { attempt: 2, status: 200 },
  ]);
  const [first, second] = received;
  expect(second).toMatchObject({ id: first?.id, body: first?.body, verified: true });
});

test("a cancelled job has a webhook too, whether it ran or not", async () => {
  const { client } = stack;
  const { url, accepted } = await receiver();
  const submitted = await Promise.all(
    Array.from({ length: SLOTS + 1 }, () => client.submit({ ...LONG_JOB, webhook: { url } })),
  );
  const readAll = () => Promise.all(submitted.map(({ id }) => client.read(id)));
  await expect
    .poll(async () => (await readAll()).filter((job) => job.state === "running").length, {
      timeout: DEADLINE_MS,
    })
    .toBe(SLOTS);
  const queuedFirst = (await readAll()).sort((a, b) => a.attempts - b.attempts);
  for (const [i, { id }] of queuedFirst.entries()) {
    await client.cancel(id);
    const { type, job } = await accepted(id, DEADLINE_MS);
    expect(type).toBe("job.cancelled");
    expect(job.attempts).toBe(i === 0 ? 0 : 1);
  }
});

test("an attempt without a receiver is recorded with the reason", async () => {
  const gone = await startWebhookReceiver({ secret: stack.key.webhookSecret ?? "" });
  gone.close();
  const { id } = await stack.client.submit({ ...SHORT_JOB, webhook: { url: gone.url } });
  const { webhook } = await recorded(id, 1);
  expect(webhook?.deliveries).toMatchObject([{ status: null, error: "ECONNREFUSED" }]);
});

test("an endpoint gets the end of a job; after status 410 it is disabled with the reason, and a replay sends what it missed", async () => {
  const { edge, keys, key, client } = stack;
  const policy = v.parse(KeyPolicy, { scopes: ["admin", "jobs:read", "jobs:write"] });
  const admin = new JobClient(edge.url, (await keys.create("admin", key.tenant, policy)).key);
  const send = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const reply = await admin.request(`/v1${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
    });
    expect(reply.ok).toBe(true);
    return (await reply.json()) as T;
  };
  const { url, received, accepted } = await receiver({ answer: (n) => (n === 1 ? 410 : 200) });
  const events = ["job.succeeded"];
  const { id } = await send<WebhookEndpoint>("POST", "/webhook_endpoints", { url, events });
  const job = await client.submit(SHORT_JOB);
  const endpoint = `/webhook_endpoints/${id}`;
  await expect
    .poll(() => send("GET", endpoint), { timeout: DEADLINE_MS, interval: 50 })
    .toMatchObject({ enabled: false, disabled: { reason: "the receiver answered 410 Gone" } });

  await send("PATCH", endpoint, { enabled: true });
  const list = await send<{ data: WebhookDelivery[] }>("GET", `/webhook_deliveries?endpoint=${id}`);
  expect(list.data).toMatchObject([{ job: job.id, state: "failed", attempts: [{ status: 410 }] }]);
  const delivery = `/webhook_deliveries/${list.data[0]!.id}`;
  await send("POST", `${delivery}/replay`);
  await accepted(job.id, DEADLINE_MS);
  expect(received[1]).toMatchObject({ id: received[0]!.id, body: received[0]!.body });
  await expect
    .poll(() => send("GET", delivery), { timeout: DEADLINE_MS, interval: 50 })
    .toMatchObject({ state: "delivered", attempts: [{ status: 410 }, { status: 200 }] });
  await send("DELETE", endpoint);
});
