/** Calls to a base that is busy, away, slow or broken. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import { AppError } from "../../../../shared/api/errors.ts";
import { keyReader } from "../../../../worker/engine/model/load-remote.ts";
import { InvalidRow } from "../../../../worker/engine/remote/base-row.ts";
import { Connection } from "../../../../worker/engine/remote/connection.ts";
import { BaseServer, type Intercept } from "../../../support/base-server/server.ts";

const KEY = "sk-very-secret";
let failures = 0;

async function connect(
  intercept: Intercept,
  { timeoutMs = 60_000, patienceMs = 60_000, concurrency = 4 } = {},
) {
  const server = new BaseServer(async () => ({ body: { value: 7 } }));
  server.intercept = intercept;
  const url = await server.listen();
  onTestFinished(() => server.close());
  return {
    server,
    url,
    connection: connectTo(`${url}/llm/`, { timeoutMs, patienceMs, concurrency }),
  };
}

function connectTo(
  url: string,
  { timeoutMs = 60_000, patienceMs = 60_000, concurrency = 4 } = {},
): Connection {
  const options = { url, name: "big", key: () => KEY, concurrency, timeoutMs, patienceMs };
  const connection = new Connection(options);
  connection.onFailure = () => void failures++;
  onTestFinished(() => connection.close());
  return connection;
}

const valueOf = (reply: unknown): number => {
  const { value } = reply as { value?: number };
  if (value === undefined) throw new InvalidRow("no value came");
  return value;
};

const call = (connection: Connection, signal = new AbortController().signal) =>
  connection.call({
    path: "/rows",
    body: { a: 1 },
    bytesMax: 1_000,
    kind: "needed",
    owner: "",
    signal,
    parse: valueOf,
  });

/** Answers the first calls with these, then as the server does. */
function first(...answers: Intercept[]): Intercept {
  let count = 0;
  return (...of) => answers[count++]?.(...of) ?? Promise.resolve(null);
}

afterEach(() => {
  failures = 0;
});

test("sends the key and the body, below the path of the URL", async () => {
  const { server, connection } = await connect(async () => null);
  expect((await call(connection)).value).toBe(7);
  const [{ path, headers, body }] = server.calls as [(typeof server.calls)[0]];
  expect([path, body, headers.authorization]).toEqual(["/llm/rows", { a: 1 }, `Bearer ${KEY}`]);
});

describe("what passes is tried again", () => {
  test.each<[string, Intercept, number]>([
    [
      "429 with Retry-After",
      async () => ({ status: 429, headers: { "retry-after": "0" }, body: "{}" }),
      0,
    ],
    [
      "503 with a date in Retry-After",
      async () => ({ status: 503, headers: { "retry-after": new Date().toUTCString() }, body: "" }),
      1,
    ],
    ["a reply that is cut", async () => ({ body: '{"val' }), 0],
    ["a reply in another form", async () => ({ body: { other: 1 } }), 0],
    ["a reply that is too long", async () => ({ body: `{"value":"${"x".repeat(2_000)}"}` }), 0],
    [
      "a connection that is reset",
      async (_, response) => {
        response.socket!.resetAndDestroy();
        return "answered";
      },
      1,
    ],
    [
      "a connection that is reset in the middle of a reply",
      async (_, response) => {
        response.writeHead(200, { "content-length": "100" });
        response.write('{"value"', () => response.socket!.resetAndDestroy());
        return "answered";
      },
      1,
    ],
  ])("%s", async (_, fault, expectedFailures) => {
    const { server, connection } = await connect(first(fault));
    expect((await call(connection)).value).toBe(7);
    expect(server.calls).toHaveLength(2);
    // Whether the base may be another one now, so that it has to be compared.
    expect(failures).toBe(expectedFailures);
  });

  test("a reply that does not come in time", async () => {
    const { server, connection } = await connect(
      first(() => new Promise(() => {})),
      {
        timeoutMs: 200,
      },
    );
    expect((await call(connection)).value).toBe(7);
    expect(server.calls).toHaveLength(2);
  });

  test("a base that is away until it listens again", async () => {
    const { server, connection, url } = await connect(async () => null);
    await call(connection);
    await server.close();
    const failed = new Promise<void>((resolve) => (connection.onFailure = resolve));
    const waiting = call(connection);
    await failed;
    const again = new BaseServer(async () => ({ body: { value: 8 } }));
    onTestFinished(() => again.close());
    await again.listen(Number(new URL(url).port));
    expect((await waiting).value).toBe(8);
  });
});

describe("what does not pass", () => {
  test("a base that stays away: the error names it and the reason, and not the address or the key", async () => {
    const { server, connection } = await connect(
      async () => ({ status: 503, body: { error: { message: `loading, ${KEY}` } } }),
      { patienceMs: 600 },
    );
    const texts: string[] = [];
    connection.onServerText = (text) => texts.push(text);
    const error = await call(connection).catch((error: Error) => error);
    expect(error).toMatchObject({
      code: "base_unavailable",
      message: "The base model big: it answered 503",
    });
    expect(new Set(texts)).toEqual(new Set(["loading, ***"]));
    expect(server.calls.length).toBeGreaterThan(1);
  });

  test.each([
    [400, "it answered 400", ["greater than max allowed: 20"]],
    [404, "it answered 404", ["greater than max allowed: 20"]],
    [401, "it answered 401: it gives the worker no access", []],
    [403, "it answered 403: it gives the worker no access", []],
  ])("a refusal with %d is not repeated; its text is for the log", async (status, reason, log) => {
    const texts: string[] = [];
    const { server, connection } = await connect(async () => ({
      status,
      body: { object: "error", message: "greater than max allowed: 20" },
    }));
    connection.onServerText = (text) => texts.push(text);
    await expect(call(connection)).rejects.toMatchObject({
      code: "base_failed",
      message: `The base model big: ${reason}`,
    });
    expect(texts).toEqual(log);
    expect(server.calls).toHaveLength(1);
  });

  test("replies that are wrong three times", async () => {
    const { server, connection } = await connect(async () => ({ body: {} }));
    await expect(call(connection)).rejects.toMatchObject({
      code: "base_failed",
      message: "The base model big: no value came",
    });
    expect(server.calls).toHaveLength(3);
  });
});

test("a key of which only the first part fits into the error's text is not told", async () => {
  const { connection } = await connect(async () => ({
    status: 400,
    body: { error: { message: `${"x".repeat(195)}${KEY}` } },
  }));
  const texts: string[] = [];
  connection.onServerText = (text) => texts.push(text);
  await expect(call(connection)).rejects.toThrow("it answered 400");
  expect(texts).toEqual([`${"x".repeat(195)}***`]);
});

test("a base that says Retry-After: 0 each time is not called without pauses", async () => {
  const { server, connection } = await connect(
    async () => ({ status: 429, headers: { "retry-after": "0" }, body: "{}" }),
    { patienceMs: 1_000 },
  );
  await expect(call(connection)).rejects.toMatchObject({ code: "base_unavailable" });
  // Pauses of 100, 200 and 400 ms; the next one is beyond the patience.
  expect(server.calls.length).toBeLessThanOrEqual(4);
});

test("the last key stays while its file is missing", () => {
  const folder = mkdtempSync(join(tmpdir(), "key-"));
  const file = join(folder, "key");
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(file, "one\n");
  const key = keyReader({ key: { file } });
  rmSync(file);
  expect(key()).toBe("one");
  writeFileSync(file, "two\n");
  expect(key()).toBe("two");
});

test("an abort ends a call that waits for its reply, and one that waits to be repeated", async () => {
  const arrived = Promise.withResolvers<void>();
  const { connection } = await connect(async () => {
    arrived.resolve();
    return new Promise(() => {});
  });
  const abort = new AbortController();
  const waiting = call(connection, abort.signal);
  await arrived.promise;
  abort.abort(new Error("cancelled"));
  await expect(waiting).rejects.toThrow("cancelled");

  const second = new AbortController();
  const busy = await connect(async () => {
    // The reply arrives before the abort does.
    setImmediate(() => second.abort(new Error("cancelled")));
    return { status: 429, headers: { "retry-after": "30" }, body: "{}" };
  });
  await expect(call(busy.connection, second.signal)).rejects.toThrow("cancelled");
});

test("the wait for a place counts neither towards the time of a call nor towards its patience", async () => {
  // Each waits for those before, the last one for longer than a call may take. A busy machine may be half a second late.
  const slow = async () => {
    await sleep(150);
    return null;
  };
  const options = { concurrency: 1, timeoutMs: 700, patienceMs: 1 };
  const { server, connection } = await connect(slow, options);
  const replies = await Promise.all(Array.from({ length: 6 }, () => call(connection)));
  expect(replies.map(({ value }) => value)).toEqual([7, 7, 7, 7, 7, 7]);
  expect(server.calls).toHaveLength(6);
});

test("a check is awaited before each try, and its failure counts as one of the call", async () => {
  const { server, connection } = await connect(async () => null, { patienceMs: 600 });
  let checks = 0;
  connection.beforeTry = async () => {
    if (++checks < 3) throw new AppError("base_unavailable", "The base model big: it restarts");
  };
  expect((await call(connection)).value).toBe(7);
  expect([checks, server.calls.length]).toEqual([3, 1]);
  const away: string[] = [];
  connection.onAway = (reason) => away.push(reason);
  connection.beforeTry = async () => {
    throw new AppError("base_unavailable", "The base model big: it restarts");
  };
  const message = "The base model big: it restarts";
  await expect(call(connection)).rejects.toMatchObject({ code: "base_unavailable", message });
  expect(away).toContain(message);
  connection.beforeTry = async () => {
    throw new AppError("base_failed", "another model answers");
  };
  await expect(call(connection)).rejects.toMatchObject({ code: "base_failed" });
  expect(server.calls).toHaveLength(1);
});

test("no more calls than the concurrency run at once", async () => {
  const { server, connection } = await connect(async () => null, { concurrency: 2 });
  await Promise.all(Array.from({ length: 12 }, () => call(connection)));
  expect(server.openMax).toBeLessThanOrEqual(2);
});

const STREAM = { path: "/rows", body: {}, bytesMax: 10_000, eventsMin: 4, owner: "" };

test("a stream makes room for a call that waits, after its first rows", async () => {
  const server = new BaseServer(async (_, { stream }) => {
    if (!stream) return { body: { value: 7 } };
    async function* events() {
      for (let i = 0; i < 12; i++) yield i;
    }
    return { body: null, events: events() };
  });
  const connection = connectTo(await server.listen(), { concurrency: 1 });
  onTestFinished(() => server.close());
  const { signal } = new AbortController();
  const stream = () => connection.events({ ...STREAM, body: { stream: true }, signal });
  expect(await Array.fromAsync(stream())).toHaveLength(12);
  const rows = stream();
  await rows.next();
  const waiting = call(connection);
  // The first row was taken before.
  expect(await Array.fromAsync(rows)).toHaveLength(3);
  expect((await waiting).value).toBe(7);
});

test.each([
  [400, "RefusedStream", 0],
  [429, "Passing", 0],
  [503, "Passing", 1],
])("a stream with the status %i", async (status, kind, failuresExpected) => {
  const { connection } = await connect(async () => ({ status, body: { error: {} } }));
  const { signal } = new AbortController();
  const events = connection.events({ ...STREAM, signal });
  const error = await events.next().catch((thrown: unknown) => thrown as Error);
  expect(error).toMatchObject({ message: `its stream has the status ${status}` });
  expect([(error as Error).constructor.name, failures]).toEqual([kind, failuresExpected]);
});
