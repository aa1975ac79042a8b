/** Webhooks survive crashes of workers and Redis: each one arrives with the same id, after its job can be read as ended. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";
import { expect, onTestFinished, test } from "vitest";
import type { Job } from "../../shared/api/jobs.ts";
import { DEADLINE_MS, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack(null);

interface Arrival {
  readonly id: string;
  readonly state: string;
  readonly body: string;
}

/** A receiver that reads the job before it answers. @param answer sends the response to arrival number `count` */
async function receiver(answer: (count: number, response: ServerResponse) => void) {
  const arrivals: Arrival[] = [];
  const secret = stack.key.webhookSecret ?? "";
  const server = createServer((request, response) => {
    void (async () => {
      const body = await text(request);
      const headers = request.headers as Record<string, string>;
      const { data } = new Webhook(secret).verify(body, headers) as { data: Job };
      const { state } = await stack.client.read(data.id);
      arrivals.push({ id: headers["webhook-id"]!, state, body });
      answer(arrivals.length, response);
    })();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const hasArrivals = (n: number) =>
    expect.poll(() => arrivals.length, { timeout: DEADLINE_MS, interval: 20 }).toBe(n);
  return { url, arrivals, hasArrivals };
}

test("a delivery whose worker is killed before the response is repeated by the next worker", async () => {
  const worker = await stack.startWorker({ LOCK_MS: "1000" });
  // The first request is never answered.
  const { url, arrivals, hasArrivals } = await receiver((n, response) => {
    if (n > 1) response.writeHead(204).end();
  });
  const { id } = await stack.client.submit({ ...SHORT_JOB, webhook: { url } });
  await hasArrivals(1);
  worker.child.kill("SIGKILL");
  await worker.child.exited;
  const next = await stack.startWorker({ LOCK_MS: "1000" });
  await hasArrivals(2);
  const [first, second] = arrivals;
  expect(first).toEqual({ id: id.replace("job_", "msg_"), state: "succeeded", body: first!.body });
  expect(second).toEqual(first);
  await expect
    .poll(() => stack.client.read(id), { timeout: DEADLINE_MS, interval: 50 })
    .toMatchObject({ webhook: { deliveries: [{ attempt: 1, status: 204 }] } });
  await next.stop();
});

test("a delivery that waits for its next attempt survives a crash of Redis", async () => {
  const worker = await stack.startWorker({ LOCK_MS: "1000" });
  const { url, arrivals, hasArrivals } = await receiver((n, response) => {
    response.writeHead(n === 1 ? 500 : 204).end();
  });
  const { id } = await stack.client.submit({ ...SHORT_JOB, webhook: { url } });
  await expect
    .poll(() => stack.client.read(id), { timeout: DEADLINE_MS, interval: 50 })
    .toMatchObject({ webhook: { deliveries: [{ status: 500 }] } });
  await stack.redisServer.crash();
  await hasArrivals(2);
  expect(arrivals[1]).toEqual(arrivals[0]);
  await worker.stop();
});
