/** `npm run demo` as its user sees it: its output, its errors when it cannot start, and that it leaves no process. */
import { createServer, type AddressInfo } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { newMark } from "../support/marked-processes.ts";
import { DEADLINE_MS } from "./stack.ts";

const DEMO = join(import.meta.dirname, "../../infra/cli/demo.ts");

function startDemo(port: number, ...args: string[]) {
  return startDemoWith({}, port, ...args);
}

function startDemoWith(env: Record<string, string>, port: number, ...args: string[]) {
  const mark = newMark();
  const child = new Child({
    name: "demo",
    command: process.execPath,
    args: [DEMO, "--port", String(port), ...args],
    env: { REDIS_URL: "", ...mark.env, ...env },
  });
  onTestFinished(() => child.stop());
  return { child, mark };
}

test("the demo shows base and steered text, verified webhooks and the time to the first token, exits with 0 and leaves no process", async () => {
  const { child, mark } = startDemo(await freePort(), "--once");
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(child.output).toMatch(/^API key .* tt_[\w-]{43}$/m);
  expect(child.output).toMatch(/base alone +\w/);
  expect(child.output).toMatch(/alpha [\d.]+ +\w/);
  expect(child.output).toMatch(/job\.succeeded, signature verified/);
  expect(child.output).toMatch(/The first token came \d+\.\d s after the start/);
  await mark.gone();
});

test.for([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s during the demo ends every process", async ([signal, code]) => {
  const { child, mark } = startDemo(await freePort());
  await child.waitFor("the first answer", DEADLINE_MS, () => child.output.includes("base alone"));
  expect((await mark.living()).length).toBeGreaterThan(3);
  process.kill(child.pid ?? 0, signal);
  expect(await child.exited).toEqual({ code, signal: null });
  await mark.gone();
});

test("without --once the demo ends its output with the playground's address and keeps running; when one of its parts stops, it says so and stops the others", async () => {
  const { child, mark } = startDemo(await freePort());
  const playground = /http:\/\/[\d.:]+\/play#run=1&key=tt_[\w-]{43}/;
  await child.waitFor("the last line", DEADLINE_MS, () => playground.test(child.output));
  expect(child.output).toMatch(/http:\/\/[\d.:]+\/admin#key=tt_[\w-]{43}/);
  const worker = (await mark.living("worker/main.ts"))[0] ?? 0;
  process.kill(worker, "SIGKILL");
  expect(await child.exited).toEqual({ code: 1, signal: null });
  expect(child.output).toMatch(/worker has ended/);
  await mark.gone();
});

test("a port in use gives a one-line error before anything starts", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const { child } = startDemo(port);
  expect(await child.exited).toEqual({ code: 1, signal: null });
  expect(child.lastLines).toBe(
    `port ${port} is in use: stop the program that uses it or pass --port N`,
  );
});

test("a REDIS_URL that does not answer gives a one-line error", async () => {
  const { child } = startDemoWith({ REDIS_URL: "redis://127.0.0.1:1" }, await freePort());
  expect(await child.exited).toEqual({ code: 1, signal: null });
  expect(child.lastLines).toBe("Redis at redis://127.0.0.1:1 does not answer: ECONNREFUSED");
});
