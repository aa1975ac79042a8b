/** The worker's HTTP server: /healthz and /readyz for probes, /metrics for Prometheus. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { Registry } from "prom-client";

export interface HealthSources {
  readonly state: () => Promise<{
    /** Why the worker takes no work now, in a sentence; null if it does. */
    readonly problem: string | null;
    /** Why single models cannot be served now, by their ids. */
    readonly away: Readonly<Record<string, string>>;
    /** Why no work is taken from single shards, in a sentence each. */
    readonly problems: readonly string[];
  }>;
  /** The metrics in Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

/**
 * Starts the server.
 * @returns the listening server
 * @throws Error if the port is in use
 */
export async function startHealthServer(
  port: number,
  { state, metrics }: HealthSources,
): Promise<Server> {
  const reply = async (path: string | undefined): Promise<[number, string, string?]> => {
    if (path === "/metrics") return [200, await metrics(), Registry.PROMETHEUS_CONTENT_TYPE];
    if (path === "/healthz") return [200, JSON.stringify({ status: "ok" })];
    if (path !== "/readyz") return [404, JSON.stringify({ status: "not found" })];
    const { problem: reason, away, problems } = await state();
    const details = {
      ...(Object.keys(away).length > 0 && { away }),
      ...(problems.length > 0 && { problems }),
    };
    if (reason === null) return [200, JSON.stringify({ status: "ok", ...details })];
    return [503, JSON.stringify({ status: "not ready", reason, ...details })];
  };
  const server = createServer((request, response) => {
    void reply(request.url)
      .catch((error: unknown): [number, string, string] => [500, String(error), "text/plain"])
      .then(([status, text, type = "application/json"]) =>
        response.writeHead(status, { "content-type": type }).end(text),
      );
  });
  server.listen(port);
  await once(server, "listening");
  return server;
}
