/** The log lines of edge and worker: what they say about a job, and what they must never contain. */
import { expect, test } from "vitest";
import { startEdge } from "../../infra/stack/edge.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startReceiver } from "../support/receiver.ts";
import { allEvents, DEADLINE_MS, LONG_JOB, EventReader, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack(null);

/** A word in the prompt that the demo models never generate. */
const MARK = "zanzibar";

const linesOf = (output: string): Record<string, unknown>[] =>
  output
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test("every line about a job names the job, its request and its attempt; no line has a prompt, an output or a key", async () => {
  const receiver = await startReceiver(500);
  const worker = await stack.startWorker({ LOG_LEVEL: "trace" });
  // An edge for this test only: its Redis crashes at the end, and the edge logs that.
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
  const accepted = await post(JSON.stringify({ ...SHORT_JOB, messages, webhook }));
  const { id } = (await accepted.json()) as { id: string };
  const events = await allEvents(client, id);
  // Short enough in bytes for the edge, too long in tokens for the worker.
  const failing = await client.submit({ ...LONG_JOB, prompt: `${MARK} `.repeat(2_000) });
  const failed = await allEvents(client, failing.id);
  await post(`{"prompt": "${MARK}`);
  await fetch(`${edge.url}/v1/models`, { headers: { authorization: `Bearer tt_${MARK}` } });
  expect(failed.at(-1)).toMatchObject({ type: "failed" });
  const workerLines = () => linesOf(worker.child.output);
  await expect
    .poll(workerLines, { timeout: DEADLINE_MS })
    .toContainEqual(expect.objectContaining({ msg: "Webhook attempt", status: 500 }));

  const running = new EventReader(client, (await client.submit(LONG_JOB)).id);
  await running.hasTokens(10);
  await stack.redisServer.crash();
  await running.ended;

  expect(workerLines()[0]).toMatchObject({ msg: expect.any(String) });
  const ofJob = workerLines().filter(({ job }) => job === id);
  // On a busy machine there may be a second attempt by now.
  const logged = new Set(ofJob.map(({ msg }) => msg));
  expect([...logged]).toEqual(["Job started", "Job ended", "Webhook attempt"]);
  for (const line of ofJob) expect(line).toMatchObject({ request: "req-marked" });
  expect(ofJob[0]).toMatchObject({ attempt: 1 });

  const text = events.map((event) => (event.type === "tokens" ? event.text : "")).join("");
  await edge.stop();
  await worker.stop();
  await receiver.stop();
  const output = worker.child.output + edge.child.output;
  for (const secret of [MARK, text, key, key.slice(3)]) expect(output).not.toContain(secret);
});
