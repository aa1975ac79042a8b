/** `npm run listen`: every webhook once and in order, verifiable where it is forwarded to, also after the edge was away. */
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startEdge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { startReceiver } from "../../infra/webhook-receiver.ts";
import { DEADLINE_MS, finished, SHORT, useStack } from "./stack.ts";

const LISTEN = join(import.meta.dirname, "../../infra/listen.ts");
const stack = useStack();

function listen(args: readonly string[], key = stack.key.key): Child {
  const env = { TRIMTAB_API_KEY: key };
  const child = new Child({
    name: "listen",
    command: process.execPath,
    args: [LISTEN, ...args],
    env,
  });
  onTestFinished(() => child.stop());
  return child;
}

test("webhooks are forwarded as they are, and none is lost while the edge is away", async () => {
  const { client, key, redisServer } = stack;
  const receiver = await startReceiver({
    secret: key.webhookSecret ?? "",
    answer: (count) => (count === 1 ? 500 : 200),
  });
  onTestFinished(() => receiver.close());
  const port = await freePort();
  const edge = await startEdge({ redisUrl: redisServer.url, port });
  const listener = listen(["--edge", edge.url, "--forward", receiver.url]);
  const says = (line: string) =>
    listener.waitFor(line, DEADLINE_MS, () => listener.output.includes(line));
  await says(`listening to ${edge.url}, forwarding to ${receiver.url}`);

  // Through another edge, and without a webhook of their own.
  const ids = [(await finished(client, SHORT)).id];
  await says(`job.succeeded  ${ids[0]!.replace("job_", "msg_")}  ->  500`);
  await edge.stop();
  await says("connection lost");
  ids.push((await finished(client, SHORT)).id, (await finished(client, SHORT)).id);
  await startEdge({ redisUrl: redisServer.url, port });
  await says(`job.succeeded  ${ids[2]!.replace("job_", "msg_")}  ->  200`);
  expect(receiver.received).toMatchObject(
    ids.map((id) => ({ id: id.replace("job_", "msg_"), verified: true, job: { id } })),
  );
});

test("what no retry can help ends it with the reason", async () => {
  const child = listen(["--edge", stack.edge.url], "tt_nobody");
  expect(await child.exited).toMatchObject({ code: 1 });
  expect(child.output).toContain("the edge answered 401");
});
