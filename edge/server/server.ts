/**
 * The HTTP server of the self-hosted edge: its limits, its own errors, and its end. It knows neither routes nor Redis.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { getRequestListener } from "@hono/node-server";
import type { ExecutionContext } from "hono";
import type { OpenBody } from "../http/body.ts";
import type { Log } from "../runtime/log.ts";
import { bodyReader } from "./body-reader.ts";
import {
  hasTwoHosts,
  invalidTarget,
  rejectConnect,
  rejectConnection,
  rejectHost,
} from "./raw-errors.ts";
import type { EndedReply } from "./metrics.ts";
import type { Settings } from "./settings.ts";

/** How often connections are checked for headers and bodies that have not arrived in time. */
const TIMEOUT_CHECK_MS = 1_000;
/** For a client that does not read, and for work that continues after its request: after it, both are cut. */
const END_MS = 2_000;
/** At most one line for refused connections in this time: an attacker could fill the log. */
const REFUSED_LOG_MS = 60_000;

/** Is told of requests and streams, for metrics. */
export interface RequestObserver {
  /** The route that a request has reached. */
  readonly routeOf: (request: Request) => string | null;
  readonly requestStarted: () => void;
  readonly requestEnded: (reply: EndedReply) => void;
  readonly streamStarted: () => void;
  readonly streamEnded: () => void;
}

/** The status of a request whose client disconnected before a reply began; none was sent. */
const NO_REPLY_STATUS = 499;

/** A reply that has begun. */
interface MeasuredReply {
  readonly startMs: number;
  readonly isStream: boolean;
  readonly requestId: string | null;
}

export type Handler = (
  request: Request,
  context: ExecutionContext,
  openBody: OpenBody,
) => Response | Promise<Response>;

export class EdgeServer {
  readonly #settings: Settings;
  readonly #log: Log;
  readonly #server: Server;
  /** The replies that are not complete, by their connection. */
  readonly #open = new Map<Socket, ServerResponse>();
  readonly #requests = new WeakMap<ServerResponse, Request>();
  readonly #measured = new WeakMap<ServerResponse, MeasuredReply>();
  readonly #observer: RequestObserver;
  /** Work that continues after its request. */
  readonly #background = new Set<Promise<unknown>>();
  readonly #connectionsOf = new Map<string, number>();
  #refusedLogMs = -Infinity;
  #stopping = false;

  constructor(handle: Handler, settings: Settings, log: Log, observer: RequestObserver) {
    this.#settings = settings;
    this.#observer = observer;
    this.#log = log;
    const context = this.#executionContext();
    const reply = async (request: Request, incoming: IncomingMessage, outgoing: ServerResponse) => {
      this.#requests.set(outgoing, request);
      const response = await handle(request, context, () => bodyReader(incoming));
      this.#measure(outgoing, response);
      return response;
    };
    const listener = getRequestListener(
      (request, { incoming, outgoing }) =>
        reply(request, incoming as IncomingMessage, outgoing as ServerResponse),
      {
        // A request of HTTP/1.0 may have no Host.
        hostname: "localhost",
        errorHandler: (error) => {
          if (error instanceof Error && error.name === "RequestError") return invalidTarget();
          log({ event: "internal", error });
          return new Response(null, { status: 500 });
        },
      },
    );
    this.#server = createServer({
      maxHeaderSize: settings.HEADER_BYTES_MAX,
      headersTimeout: settings.HEADERS_TIMEOUT_SECONDS * 1000,
      requestTimeout: settings.REQUEST_TIMEOUT_SECONDS * 1000,
      keepAliveTimeout: settings.KEEP_ALIVE_SECONDS * 1000,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      noDelay: true,
    });
    this.#server.maxConnections = settings.CONNECTIONS_MAX;
    this.#server
      .on("connection", (socket: Socket) => this.#count(socket))
      .on("drop", () => this.#logRefused())
      .on("request", (incoming: IncomingMessage, outgoing: ServerResponse) => {
        this.#track(incoming, outgoing);
        if (hasTwoHosts(incoming)) return rejectHost(outgoing);
        void listener(incoming, outgoing);
      })
      .on("connect", (_: IncomingMessage, socket: Socket) => rejectConnect(socket))
      .on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
        rejectConnection(socket, error.code, this.#open.get(socket));
      });
  }

  get isStopping(): boolean {
    return this.#stopping;
  }

  /** @returns the URL, once the server listens. @throws Error with the code EADDRINUSE, … */
  async listen(): Promise<string> {
    const { HOST, PORT } = this.#settings;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject).listen(PORT, HOST, resolve);
    await promise;
    const { address, family, port } = this.#server.address() as AddressInfo;
    return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  }

  /**
   * Accepts no more connections and waits up to DRAIN_SECONDS for the open replies. Those that are left are cut between two
   * writes, so after a whole event, and without the end of the body: a client must not take a part for the whole.
   */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#server.close();
    for (const outgoing of this.#open.values()) outgoing.shouldKeepAlive = false;
    await this.#untilNoneOpen(this.#settings.DRAIN_SECONDS * 1000);
    for (const [socket, outgoing] of this.#open) {
      if (!outgoing.headersSent) outgoing.statusCode = 503;
      socket.destroySoon();
    }
    await this.#untilNoneOpen(END_MS);
    this.#server.closeAllConnections();
    await Promise.race([Promise.all(this.#background), delay(END_MS)]);
  }

  /** Resolves when no reply is open, or after the time. */
  async #untilNoneOpen(timeMs: number): Promise<void> {
    const endMs = performance.now() + timeMs;
    while (this.#open.size > 0 && performance.now() < endMs) await delay(20);
  }

  #track(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { socket } = incoming;
    const startMs = performance.now();
    this.#open.set(socket, outgoing);
    this.#observer.requestStarted();
    if (this.#stopping) outgoing.shouldKeepAlive = false;
    outgoing.statusCode = NO_REPLY_STATUS;
    // A write after the client has disconnected is no error of the server.
    outgoing.on("error", () => {});
    outgoing.on("close", () => {
      // In a pipeline of requests the next one may have begun.
      if (this.#open.get(socket) === outgoing) this.#open.delete(socket);
      this.#end(incoming, outgoing, startMs);
    });
  }

  #measure(outgoing: ServerResponse, response: Response): void {
    // The client has disconnected, so nothing would end the measurement.
    if (outgoing.closed) return;
    const type = response.headers.get("content-type") ?? "";
    const isStream = type.startsWith("text/event-stream");
    if (isStream) this.#observer.streamStarted();
    const requestId = response.headers.get("x-request-id");
    this.#measured.set(outgoing, { startMs: performance.now(), isStream, requestId });
  }

  #end(incoming: IncomingMessage, outgoing: ServerResponse, startMs: number): void {
    const reply = this.#measured.get(outgoing);
    if (reply?.isStream) this.#observer.streamEnded();
    const request = this.#requests.get(outgoing);
    const route = request === undefined ? null : this.#observer.routeOf(request);
    const method = incoming.method ?? "";
    const status = outgoing.statusCode;
    this.#observer.requestEnded({
      route,
      method,
      status,
      firstByteSeconds: reply === undefined ? null : (reply.startMs - startMs) / 1000,
    });
    const { ACCESS_LOG, LOG_LEVEL } = this.#settings;
    if (ACCESS_LOG === "off" && LOG_LEVEL !== "debug") return;
    this.#log({
      event: "request",
      level: "info",
      ...(reply?.requestId && { requestId: reply.requestId }),
      details: {
        method,
        // Not the path with its query: these may hold a ticket, or anything else that a client sends.
        route: route ?? "none",
        status,
        ms: Math.round(performance.now() - startMs),
        complete: String(outgoing.writableFinished),
      },
    });
  }

  /** Counts the connections of an address, and closes one that is too many. */
  #count(socket: Socket): void {
    const max = this.#settings.CONNECTIONS_PER_ADDRESS_MAX;
    const address = socket.remoteAddress;
    if (max === 0 || address === undefined) return;
    const count = (this.#connectionsOf.get(address) ?? 0) + 1;
    this.#connectionsOf.set(address, count);
    socket.once("close", () => {
      const left = this.#connectionsOf.get(address)! - 1;
      if (left === 0) this.#connectionsOf.delete(address);
      else this.#connectionsOf.set(address, left);
    });
    if (count <= max) return;
    socket.destroy();
    this.#logRefused();
  }

  #logRefused(): void {
    const nowMs = performance.now();
    if (nowMs - this.#refusedLogMs < REFUSED_LOG_MS) return;
    this.#refusedLogMs = nowMs;
    this.#log({ event: "connections_refused", level: "warn" });
  }

  #executionContext(): ExecutionContext {
    return {
      waitUntil: (promise) => {
        const work = promise.catch(() => {}).finally(() => this.#background.delete(work));
        this.#background.add(work);
      },
      passThroughOnException: () => {},
      props: {},
    };
  }
}
