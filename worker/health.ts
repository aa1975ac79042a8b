/** /healthz and /readyz of a worker, for probes, and /metrics for Prometheus. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { Registry } from "prom-client";

/**
 * @param isReady whether the worker takes jobs now: models loaded, Redis there, not draining
 * @returns the listening server; throws if the port is taken
 */
export async function startHealth(
  port: number,
  isReady: () => boolean,
  registry: Registry,
): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url === "/metrics") {
      const answer = (status: number, text: string) =>
        response.writeHead(status, { "content-type": registry.contentType }).end(text);
      registry.metrics().then(
        (text) => answer(200, text),
        (error: unknown) => answer(500, String(error)),
      );
      return;
    }
    const ready = request.url === "/readyz" ? isReady() : request.url === "/healthz";
    const status = ready ? 200 : request.url === "/readyz" ? 503 : 404;
    response.writeHead(status, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ status: ready ? "ok" : status === 503 ? "not ready" : "not found" }),
    );
  });
  server.listen(port);
  await once(server, "listening");
  return server;
}
