/** The check of addresses when the connection is made, with real servers and a resolver that gives false addresses. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import * as v from "valibot";
import { afterEach, expect, test, vi } from "vitest";
import { AddressList } from "../../../shared/webhooks/url.ts";
import { post, type PostOptions, type ResolveHost } from "../../../worker/webhooks/post.ts";

let server: Server;

afterEach(async () => {
  server.closeAllConnections();
  if (server.listening) await once(server.close(), "close");
});

/** Listens on every loopback address. @returns the port */
async function listen(answer: RequestListener): Promise<number> {
  server = createServer(answer).listen(0);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

const allowed = v.parse(AddressList, "127.0.0.2");

/** A resolver that returns these lists of addresses, one for each lookup. */
function resolver(...answers: string[][]): ResolveHost {
  return vi.fn<ResolveHost>(async () =>
    answers.shift()!.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
  );
}

const send = (url: string, options: Partial<PostOptions> = {}) =>
  post(url, { "x-a": "b" }, "body", { allowed, ...options });

test("a host name is resolved once, and the address that was checked is the one connected to", async () => {
  const reached: (string | undefined)[] = [];
  const port = await listen(({ socket, headers }, response) => {
    reached.push(socket.localAddress?.replace("::ffff:", ""), headers.host);
    response.writeHead(204).end();
  });
  // The second list is the attack (DNS rebinding): a private address, returned after a harmless one was checked.
  const resolve = resolver(["127.0.0.2"], ["127.0.0.1"]);
  expect(await send(`http://rebind.test:${port}/`, { resolve })).toMatchObject({ status: 204 });
  expect(reached).toEqual(["127.0.0.2", `rebind.test:${port}`]);
  expect(resolve).toHaveBeenCalledOnce();
  await expect(send(`http://rebind.test:${port}/`, { resolve })).rejects.toThrow("private");
  expect(reached).toHaveLength(2);
});

test("only the allowed ones of several addresses are tried", async () => {
  const reached: (string | undefined)[] = [];
  const port = await listen(({ socket }, response) => {
    reached.push(socket.localAddress?.replace("::ffff:", ""));
    response.writeHead(204).end();
  });
  const resolve = resolver(["127.0.0.1", "::1", "127.0.0.2"]);
  await send(`http://mixed.test:${port}/`, { resolve });
  expect(reached).toEqual(["127.0.0.2"]);
});

test("an address that cannot be parsed fails the request only", async () => {
  const resolve = resolver(["127.0.0.2", "300.1.1.1"]);
  await expect(send("http://faulty.test/", { resolve })).rejects.toThrow("neither IPv6 nor IPv4");
});

test.each(["http://127.0.0.1:PORT/", "http://localhost:PORT/", "http://[::ffff:7f00:2]:PORT/"])(
  "no connection is made to %s",
  async (url) => {
    const connected = vi.fn<RequestListener>();
    const port = await listen(connected);
    await expect(send(url.replace("PORT", String(port)))).rejects.toThrow("private");
    expect(connected).not.toHaveBeenCalled();
  },
);

test("a redirect is a response and is not followed", async () => {
  const paths: (string | undefined)[] = [];
  const port = await listen(({ url }, response) => {
    paths.push(url);
    response.writeHead(302, { location: "/elsewhere" }).end();
  });
  expect(await send(`http://127.0.0.2:${port}/hook`)).toMatchObject({ status: 302 });
  expect(paths).toEqual(["/hook"]);
});

test("a response that never ends is cut off after its headers", async () => {
  const cutOff = Promise.withResolvers<void>();
  const port = await listen((_, response) => {
    response.on("close", cutOff.resolve).writeHead(200, { "retry-after": "7" });
    const go = () => {
      while (!response.destroyed && response.write("x".repeat(65_536)));
      response.once("drain", go);
    };
    go();
  });
  // So long that the timeout is not what cuts it off.
  const answer = await send(`http://127.0.0.2:${port}/`, { timeoutMs: 600_000 });
  expect(answer).toEqual({ status: 200, retryAfter: "7" });
  await cutOff.promise;
});

test("a receiver that sends nothing, or incomplete headers, fails after the timeout", async () => {
  const port = await listen(() => {});
  const options = { timeoutMs: 100 };
  await expect(send(`http://127.0.0.2:${port}/`, options)).rejects.toThrow(
    "No response within 0.1 s",
  );
  server.removeAllListeners("request").on("request", (request) => {
    request.socket.write("HTTP/1.1 200 OK\r\nx-slow: ");
  });
  await expect(send(`http://127.0.0.2:${port}/`, options)).rejects.toThrow(
    "No response within 0.1 s",
  );
});

test("an error message does not contain the URL", async () => {
  const port = await listen(() => {});
  server.close();
  await expect(send(`http://127.0.0.2:${port}/?token=secret`)).rejects.toThrow(/^ECONNREFUSED$/);
});
