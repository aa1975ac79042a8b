/** `npm run listen`: forwards every webhook once, in order and with a valid signature, also after the edge was down. */
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startEdge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { startWebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import { DEADLINE_MS, runToEnd, SHORT_JOB, useStack } from "./stack.ts";

const LISTEN = join(import.meta.dirname, "../../infra/cli/listen.ts");
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

test("webhooks are forwarded unchanged, and none is lost while the edge is down", async () => {
  const { client, key, redisServer } = stack;
  const receiver = await startWebhookReceiver({
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

  // These jobs are submitted through another edge, and without a webhook URL.
  const ids = [(await runToEnd(client, SHORT_JOB)).id];
  await says(`job.succeeded  ${ids[0]!.replace("job_", "msg_")}  ->  500`);
  await edge.stop();
  await says(`no connection to ${edge.url}`);
  ids.push((await runToEnd(client, SHORT_JOB)).id, (await runToEnd(client, SHORT_JOB)).id);
  await startEdge({ redisUrl: redisServer.url, port });
  await says(`job.succeeded  ${ids[2]!.replace("job_", "msg_")}  ->  200`);
  expect(receiver.received).toMatchObject(
    ids.map((id) => ({ id: id.replace("job_", "msg_"), verified: true, job: { id } })),
  );
});

test("an error that no retry can fix ends the command, with the reason", async () => {
  const child = listen(["--edge", stack.edge.url], "tt_nobody");
  expect(await child.exited).toMatchObject({ code: 1 });
  expect(child.output).toMatch(/^The edge answered 401: [A-Z][^{}]+\n$/);
});
