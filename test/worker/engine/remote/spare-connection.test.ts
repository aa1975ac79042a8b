/** Connections that are opened before they are needed. */
import { createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Pool } from "undici";
import { SpareConnection } from "../../../../worker/engine/remote/spare-connection.ts";

const HEAD = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";

let server: Server;
let sockets: Socket[];
let spare: SpareConnection;
let pool: Pool;
/** Requests of each connection. */
let requests: Map<Socket, number>;

beforeEach(async () => {
  sockets = [];
  requests = new Map();
  // A reply without an end, as that of a stream.
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", () => {
      requests.set(socket, (requests.get(socket) ?? 0) + 1);
      socket.write(HEAD);
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  spare = new SpareConnection();
  pool = new Pool(`http://127.0.0.1:${port}`, { connect: spare.connector });
});

afterEach(async () => {
  spare.close();
  await pool.destroy();
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Reads the first byte of a reply, and leaves it when there are so many connections. */
async function leaveStream(count: number): Promise<void> {
  const abort = new AbortController();
  const { body } = await pool.request({ method: "GET", path: "/", signal: abort.signal });
  await once(body, "readable");
  body.on("error", () => {});
  await connections(count);
  abort.abort();
}

const connections = async (count: number) => {
  while (sockets.length < count) await once(server, "connection");
};

test("a stream after one that was left uses a connection that was open before", async () => {
  await leaveStream(2);
  const [first, second] = sockets as [Socket, Socket];
  expect(requests.get(second)).toBeUndefined();
  // And there is another one.
  await leaveStream(3);
  expect(requests.get(first)).toBe(1);
  expect(requests.get(second)).toBe(1);
  expect(requests.size).toBe(2);
});

test("one that the server has closed is not used", async () => {
  const first = leaveStream(3);
  await connections(2);
  sockets[1]!.end();
  await once(sockets[1]!, "close");
  // The stream runs on without a spare one, until it is left.
  await leaveStream(3);
  await first;
  expect(requests.get(sockets[1]!)).toBeUndefined();
  expect(requests.size).toBe(2);
});

test("none stays open after the end", async () => {
  await leaveStream(2);
  spare.close();
  const [, second] = sockets as [Socket, Socket];
  if (!second.closed) await once(second, "close");
  expect(second.closed).toBe(true);
});
