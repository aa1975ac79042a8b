/** A receiver of webhooks on this machine, which checks each signature as a customer's server would. */
import { createServer, type IncomingMessage } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";
import type { Job } from "../shared/contract.ts";

export interface Received {
  /** `job.succeeded` and so on. */
  readonly type: string;
  readonly job: Job;
  readonly verified: boolean;
  /** The `webhook-id` header: the same for every attempt. */
  readonly id: string;
  readonly body: string;
  readonly atMs: number;
}

export interface ReceiverOptions {
  /** The tenant's `whsec_…`. */
  readonly secret: string;
  /** Status of the answer to the n-th delivery, from 1; default 204. */
  readonly answer?: (count: number, received: Received) => number;
  readonly onReceived?: (received: Received) => void;
}

export interface Receiver {
  readonly url: string;
  readonly received: readonly Received[];
  /** The first delivery about a job, past or future, that was answered with success. */
  readonly accepted: (jobId: string, deadlineMs: number) => Promise<Received>;
  close(): void;
}

export async function startReceiver(options: ReceiverOptions): Promise<Receiver> {
  const { secret, answer = () => 204, onReceived } = options;
  const webhook = new Webhook(secret);
  const received: Received[] = [];
  const accepted = new Map<string, PromiseWithResolvers<Received>>();
  const acceptedOf = (jobId: string) => {
    const known = accepted.get(jobId) ?? Promise.withResolvers<Received>();
    accepted.set(jobId, known);
    return known;
  };

  const receive = (delivery: Received): number => {
    received.push(delivery);
    const status = delivery.verified ? answer(received.length, delivery) : 401;
    if (status < 300) acceptedOf(delivery.job.id).resolve(delivery);
    onReceived?.(delivery);
    return status;
  };
  const server = createServer((request, response) => {
    read(request, webhook)
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
      const late = AbortSignal.timeout(deadlineMs);
      const { promise, reject } = acceptedOf(jobId);
      late.addEventListener("abort", () => {
        reject(new Error(`no webhook about ${jobId} within ${deadlineMs / 1000} s`));
      });
      return promise;
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function read(request: IncomingMessage, webhook: Webhook): Promise<Received> {
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
