/** /healthz and /readyz of a worker, for probes. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";

/**
 * @param isReady whether the worker takes jobs now: models loaded, Redis there, not draining
 * @returns the listening server; throws if the port is taken
 */
export async function startHealth(port: number, isReady: () => boolean): Promise<Server> {
  const server = createServer((request, response) => {
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
