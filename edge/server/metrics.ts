/**
 * The metrics of the self-hosted edge, for Prometheus. A scrape is not authenticated: no label contains a tenant, an id, or a path that a
 * client chose.
 */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

/** Routes answer within milliseconds, except those that wait for a generation. */
const REPLY_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const REDIS_BUCKETS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5];

/** A reply that has ended. */
export interface EndedReply {
  /** Path of the route as the API document has it; null if no route matched, or the request was not valid HTTP. */
  readonly route: string | null;
  readonly method: string;
  readonly status: number;
  /** Time from the request's headers to the first byte of the reply; null if none was sent. */
  readonly firstByteSeconds: number | null;
}

export class EdgeMetrics {
  readonly #registry = new Registry();
  readonly #requests = new Counter({
    name: "trimtab_edge_requests_total",
    help: "Requests that ended, by route, method and status; 499: the client disconnected before a reply began",
    labelNames: ["route", "method", "status"],
    registers: [this.#registry],
  });
  readonly #replySeconds = new Histogram({
    name: "trimtab_edge_reply_seconds",
    help: "Time from the headers of a request to the first byte of its reply, by route, in seconds",
    buckets: REPLY_BUCKETS_SECONDS,
    labelNames: ["route"],
    registers: [this.#registry],
  });
  readonly #openRequests = new Gauge({
    name: "trimtab_edge_open_requests",
    help: "Requests whose reply has not ended, streams included",
    registers: [this.#registry],
  });
  readonly #openStreams = new Gauge({
    name: "trimtab_edge_open_streams",
    help: "Streams of server-sent events that are open",
    registers: [this.#registry],
  });
  readonly #redisSeconds = new Histogram({
    name: "trimtab_edge_redis_seconds",
    help: "Time from a command of a request to the reply of Redis, in seconds",
    buckets: REDIS_BUCKETS_SECONDS,
    registers: [this.#registry],
  });
  readonly #redisErrors = new Counter({
    name: "trimtab_edge_redis_errors_total",
    help: "Commands of requests that failed because of Redis or the connection to it",
    registers: [this.#registry],
  });

  /** @param routes paths of all routes: their counters exist from the start, so that Prometheus sees the first increase */
  constructor(
    { version, commit }: { readonly version: string; readonly commit: string },
    routes: readonly { readonly method: string; readonly path: string }[],
  ) {
    collectDefaultMetrics({ register: this.#registry });
    const buildInfo = new Gauge({
      name: "trimtab_build_info",
      help: "Always 1; the labels name the release and its commit",
      labelNames: ["version", "commit", "node"],
      registers: [this.#registry],
    });
    buildInfo.set({ version, commit, node: process.versions.node }, 1);
    for (const { method, path: route } of routes) {
      for (const status of [200, 500, 503]) this.#requests.inc({ route, method, status }, 0);
    }
  }

  requestStarted(): void {
    this.#openRequests.inc();
  }

  requestEnded({ route, method, status, firstByteSeconds }: EndedReply): void {
    this.#openRequests.dec();
    // A client may choose any method.
    const labels = route === null ? { route: "none", method: "any" } : { route, method };
    this.#requests.inc({ ...labels, status });
    if (firstByteSeconds !== null) {
      this.#replySeconds.observe({ route: labels.route }, firstByteSeconds);
    }
  }

  streamStarted(): void {
    this.#openStreams.inc();
  }

  streamEnded(): void {
    this.#openStreams.dec();
  }

  redisReplied(seconds: number, isError: boolean): void {
    this.#redisSeconds.observe(seconds);
    if (isError) this.#redisErrors.inc();
  }

  /** All metrics in Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Serves `/metrics`. @throws Error with the code EADDRINUSE, … */
  async serve(port: number, host: string): Promise<Server> {
    const server = createServer((request, response) => {
      if (request.url !== "/metrics") return void response.writeHead(404).end();
      void this.text().then(
        (text) =>
          response.writeHead(200, { "content-type": Registry.PROMETHEUS_CONTENT_TYPE }).end(text),
        () => response.writeHead(500).end(),
      );
    });
    server.listen(port, host);
    await once(server, "listening");
    return server;
  }
}
