/** A web server that receives webhooks: it records the requests and answers with given statuses. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Receiver {
  readonly url: string;
  readonly received: readonly Received[];
  stop(): Promise<void>;
}

/** A status, or a status and headers. */
type Answer = number | { readonly status: number; readonly headers: Record<string, string> };

/** @param answers in the order of requests; the last one is repeated. Every answer has `location: /elsewhere`. */
export async function startReceiver(...answers: Answer[]): Promise<Receiver> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const answer = answers[received.length] ?? answers.at(-1)!;
      const { status, headers } =
        typeof answer === "number" ? { status: answer, headers: {} } : answer;
      received.push({ path: request.url!, headers: request.headers, body });
      response.writeHead(status, { location: "/elsewhere", ...headers }).end("thanks");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    received,
    stop: async () => {
      server.closeAllConnections();
      if (server.listening) await once(server.close(), "close");
    },
  };
}
