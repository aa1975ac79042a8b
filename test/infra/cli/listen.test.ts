/** `npm run listen` without an edge: errors that end it, and what it prints while it tries to connect. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Child } from "../../../infra/stack/process.ts";

const LISTEN = join(import.meta.dirname, "../../../infra/cli/listen.ts");

function listen(edge: string): Child {
  const args = [LISTEN, "--key", "tt_test", "--edge", edge];
  const child = new Child({ name: "listen", command: process.execPath, args });
  onTestFinished(() => child.stop());
  return child;
}

test.for([
  ["foo", "error: option '--edge <url>' argument 'foo' is invalid. Expected an http"],
  ["ftp://host", "error: option '--edge <url>' argument 'ftp://host' is invalid. Expected an http"],
  ["http://127.0.0.1:25", "--edge http://127.0.0.1:25: bad port"],
] as const)("with --edge %s it ends, because it can never connect", async ([edge, message]) => {
  const child = listen(edge);
  expect(await child.exited).toEqual({ code: 1, signal: null });
  expect(child.lastLines).toContain(message);
});

test("while the edge answers with errors it tries again, and prints the reason once", async () => {
  let attempts = 0;
  const server = createServer((_request, reply) => {
    attempts++;
    reply.writeHead(503).end();
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const edge = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const child = listen(edge);
  // The third attempt comes after the second failure, which has the same reason.
  await child.waitFor("the third attempt", 30_000, () => attempts >= 3);
  expect(child.output).toBe(`no connection to ${edge} (the edge answered 503); trying again\n`);
  expect(child.running).toBe(true);
});
