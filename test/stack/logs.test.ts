/** What the logs of edge and worker say of jobs, and what they never say. */
import { expect, test } from "vitest";
import { startEdge } from "../../infra/stack/edge.ts";
import { JobClient } from "../../infra/job-client.ts";
import { startReceiver } from "../support/receiver.ts";
import { allEvents, DEADLINE_MS, LONG, Reader, SHORT, useStack } from "./stack.ts";

const stack = useStack(null);

/** In the prompt, which the demo family answers without it. */
const MARK = "zanzibar";

const linesOf = (output: string): Record<string, unknown>[] =>
  output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("every line of a job names it, its request and its attempt; no line has a prompt, an output or a key", async () => {
  const receiver = await startReceiver(500);
  const worker = await stack.startWorker({ LOG_LEVEL: "trace" });
  // One of its own, whose Redis goes away at the end: that is what an edge logs.
  const edge = await startEdge({
    redisUrl: stack.redisServer.url,
    env: { WEBHOOK_ALLOW: "127.0.0.1" },
  });
  const { key } = stack.key;
  const client = new JobClient(edge.url, key);
  const post = (body: string, id = "req-marked") =>
    fetch(`${edge.url}/v1/jobs`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "x-request-id": id },
      body,
    });

  const messages = [{ role: "user", content: `What is the capital of ${MARK}?` }];
  const webhook = { url: `${receiver.url}/hook?token=${MARK}` };
  const accepted = await post(JSON.stringify({ ...SHORT, messages, webhook }));
  const { id } = (await accepted.json()) as { id: string };
  const events = await allEvents(client, id);
  const failing = await client.submit({ ...LONG, prompt: `${MARK} `.repeat(5_000) });
  const failed = await allEvents(client, failing.id);
  await post(`{"prompt": "${MARK}`);
  await fetch(`${edge.url}/v1/models`, { headers: { authorization: `Bearer tt_${MARK}` } });
  expect(failed.at(-1)).toMatchObject({ type: "failed" });
  const wrote = () => linesOf(worker.child.outputKept);
  await expect
    .poll(wrote, { timeout: DEADLINE_MS })
    .toContainEqual(expect.objectContaining({ msg: "webhook attempt", status: 500 }));

  const running = new Reader(client, (await client.submit(LONG)).id);
  await running.hasTokens(10);
  await stack.redisServer.crash();
  await running.ended;

  expect(wrote()[0]).toMatchObject({ msg: expect.any(String) });
  const ofJob = wrote().filter(({ job }) => job === id);
  expect(ofJob.map(({ msg }) => msg)).toEqual(["job started", "job ended", "webhook attempt"]);
  for (const line of ofJob) expect(line).toMatchObject({ request: "req-marked", attempt: 1 });

  const text = events.map((event) => (event.type === "tokens" ? event.text : "")).join("");
  await edge.stop();
  await worker.stop();
  await receiver.stop();
  const output = worker.child.outputKept + edge.child.outputKept;
  for (const secret of [MARK, text, key, key.slice(3)]) expect(output).not.toContain(secret);
});
