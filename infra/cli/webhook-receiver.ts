/** A receiver of webhooks on this machine: it checks each signature, as a customer's server does. */
import { createServer, type IncomingMessage } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";
import type { Job } from "../../shared/api/jobs.ts";

export interface ReceivedWebhook {
  /** `job.succeeded` and so on. */
  readonly type: string;
  readonly job: Job;
  readonly verified: boolean;
  /** The `webhook-id` header: the same for every attempt. */
  readonly id: string;
  readonly body: string;
  readonly atMs: number;
}

export interface WebhookReceiverOptions {
  /** The tenant's `whsec_…`. */
  readonly secret: string;
  /** Returns the status with which the n-th delivery is answered, from 1; default 204. */
  readonly answer?: (count: number, webhook: ReceivedWebhook) => number;
  readonly onReceived?: (webhook: ReceivedWebhook) => void;
}

export interface WebhookReceiver {
  readonly url: string;
  readonly received: readonly ReceivedWebhook[];
  /** Resolves with the first delivery for a job that was answered with success. @throws Error after the deadline */
  readonly accepted: (jobId: string, deadlineMs: number) => Promise<ReceivedWebhook>;
  close(): void;
}

export async function startWebhookReceiver(
  options: WebhookReceiverOptions,
): Promise<WebhookReceiver> {
  const { secret, answer = () => 204, onReceived } = options;
  const webhook = new Webhook(secret);
  const received: ReceivedWebhook[] = [];
  const accepted = new Map<string, PromiseWithResolvers<ReceivedWebhook>>();
  const acceptedDelivery = (jobId: string) => {
    const known = accepted.get(jobId) ?? Promise.withResolvers<ReceivedWebhook>();
    accepted.set(jobId, known);
    return known;
  };

  const receive = (delivery: ReceivedWebhook): number => {
    received.push(delivery);
    const status = delivery.verified ? answer(received.length, delivery) : 401;
    if (status < 300) acceptedDelivery(delivery.job.id).resolve(delivery);
    onReceived?.(delivery);
    return status;
  };
  const server = createServer((request, response) => {
    parseDelivery(request, webhook)
      .then(receive)
      .catch(() => 400)
      .then((status) => response.writeHead(status).end())
      .catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    received,
    accepted: (jobId, deadlineMs) => {
      const deadline = AbortSignal.timeout(deadlineMs);
      const { promise, reject } = acceptedDelivery(jobId);
      deadline.addEventListener("abort", () => {
        reject(new Error(`no webhook for ${jobId} within ${deadlineMs / 1000} s`));
      });
      return promise;
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function parseDelivery(request: IncomingMessage, webhook: Webhook): Promise<ReceivedWebhook> {
  const body = await text(request);
  const atMs = Date.now();
  const headers = request.headers as Record<string, string>;
  const { type, data: job } = JSON.parse(body) as { type: string; data: Job };
  let verified = true;
  try {
    webhook.verify(body, headers);
  } catch {
    verified = false;
  }
  return { type, job, verified, id: headers["webhook-id"] ?? "", body, atMs };
}
