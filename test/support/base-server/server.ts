/**
 * A server of a base model for tests: it computes with real logits and keeps to the published shapes, caps and error texts of
 * an API (llama-cpp.ts and others beside this file). Faults are made by `intercept`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface BaseReply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** Instead of the body: server-sent events with JSON. */
  readonly events?: AsyncIterable<unknown>;
}

/** Answers a call; null if there is nothing at this path. */
export type BaseRoutes = (path: string, body: Record<string, unknown>) => Promise<BaseReply | null>;

export interface ReceivedCall {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Record<string, unknown>;
}

/** Changes a reply or breaks it. Returns true if it has answered itself. */
export type Intercept = (
  call: ReceivedCall,
  response: ServerResponse,
  reply: () => Promise<BaseReply>,
) => Promise<BaseReply | "answered" | null>;

export class BaseServer {
  readonly calls: ReceivedCall[] = [];
  /** Calls that are under way now, and the most at once. */
  open = 0;
  openMax = 0;
  intercept: Intercept = async () => null;
  readonly #server;

  constructor(routes: BaseRoutes) {
    this.#server = createServer((request, response) => {
      void this.#answer(routes, request, response).catch((error: unknown) => {
        response.writeHead(500).end(JSON.stringify({ error: { message: String(error) } }));
      });
    });
  }

  async listen(port = 0): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(port, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(routes: BaseRoutes, request: IncomingMessage, response: ServerResponse) {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const body = (text ? JSON.parse(text) : {}) as Record<string, unknown>;
    const path = request.url!;
    const call = { path, headers: request.headers, body };
    this.calls.push(call);
    this.openMax = Math.max(this.openMax, ++this.open);
    try {
      const reply = async () =>
        (await routes(path, body)) ?? { status: 404, body: { error: { message: "Not Found" } } };
      const answer = (await this.intercept(call, response, reply)) ?? (await reply());
      if (answer === "answered") return;
      if (answer.events) {
        response.writeHead(200, { "content-type": "text/event-stream" });
        for await (const event of answer.events) {
          if (response.destroyed) break;
          response.write(`data: ${JSON.stringify(event)}\n\n`);
        }
        response.end("data: [DONE]\n\n");
        return;
      }
      response.writeHead(answer.status ?? 200, {
        "content-type": "application/json",
        ...answer.headers,
      });
      response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body));
    } finally {
      this.open--;
    }
  }
}
