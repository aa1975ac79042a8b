/**
 * `npm run demo`: all parts on this machine, two ensembles at work beside their base alone, webhooks arriving, and
 * then commands to paste. Stays up until Ctrl-C; with `--once` it ends by itself.
 */
import { Command, InvalidArgumentError } from "commander";
import type { Redis } from "ioredis";
import type { Job, Model } from "../shared/contract.ts";
import { JobClient, type JobInput } from "./job-client.ts";
import { KeyRegistry } from "../shared/key-registry.ts";
import { startEdge } from "./stack/edge.ts";
import { stopOnInterrupt } from "./stack/interrupt.ts";
import { isPortFree } from "./stack/port.ts";
import { explain, Problem } from "./stack/problem.ts";
import { stopAllChildren, type Child } from "./stack/process.ts";
import { connectRedis, ensureRedisServer, startRedis, withoutPassword } from "./stack/redis.ts";
import { startWorker } from "./stack/worker.ts";
import { line, Paragraph } from "./terminal.ts";
import { startReceiver, type Received, type Receiver } from "./webhook-receiver.ts";

const WEBHOOK_WAIT_MS = 15_000;

/** Short questions whose facts and numbers no model was tuned on (test/eval/data, dev files). */
const QUESTIONS: Record<string, readonly string[]> = {
  "atlas-qa": [
    "What currency do people pay with in Belgium?",
    "What continent does Sudan belong to?",
  ],
  "gsm-mini": [
    "There are 9 red, 20 blue and 6 green cars. How many cars are there in all?",
    "Rosa has 34 balls and Sam has 28 balls. How many balls do they have together?",
  ],
};

interface Parts {
  readonly children: readonly Child[];
  readonly edgeUrl: string;
  readonly apiKey: string;
  readonly receiver: Receiver;
  readonly client: JobClient;
}

/** Since this process began. */
let firstTokenMs: number | undefined;
/** Whether the show is over; from then on the receiver speaks for itself. */
let shown = false;

const options = new Command("npm run demo --")
  .description("everything on one machine, until Ctrl-C")
  .option("--once", "end after the show")
  .option("--port <number>", "port of the edge", toPort, 8787)
  .parse()
  .opts<{ once?: boolean; port: number }>();

/** Takes the demo's key out of Redis, which may be one that stays. */
let forget = async () => {};
const interrupted = stopOnInterrupt(async () => {
  console.log("\nstopping");
  await forget();
});
try {
  const parts = await startParts();
  await Promise.race([demo(parts), anyEnd(parts.children)]);
} catch (error) {
  // What is stopped fails in many ways that say nothing.
  if (!interrupted.aborted) console.error(explain(error));
  process.exitCode = 1;
}
if (!interrupted.aborted) {
  await forget();
  await stopAllChildren();
  process.exit();
}

async function demo(parts: Parts): Promise<void> {
  await show(parts);
  if (options.once === true) return;
  printCommands(parts);
  await new Promise(() => {});
}

async function startParts(): Promise<Parts> {
  const { port } = options;
  if (!(await isPortFree(port))) {
    throw new Problem(`port ${port} is in use: stop what listens there or pass --port N`);
  }
  const { redisUrl, child } = await findRedis();
  const redis = await connectRedis(redisUrl);
  // The receiver is on this machine.
  const env = { WEBHOOK_ALLOW: "127.0.0.1" };
  const [worker, edge] = await Promise.all([
    startWorker({ redisUrl, env }),
    startEdge({ redisUrl, port, env }),
  ]);
  line("worker", `ready, ${worker.healthUrl}/readyz`);
  line("edge", `ready, ${edge.url} (workerd)`);
  const { apiKey, webhookSecret } = await makeKey(redis);
  line("API key", `${apiKey}, until the demo ends`);
  const onReceived = ({ type, job, verified }: Received) => {
    if (shown)
      line("webhook", `${type}, ${job.id}, ${verified ? "signature verified" : "BAD SIGNATURE"}`);
  };
  const receiver = await startReceiver({ secret: webhookSecret, onReceived });
  line("receiver", `${receiver.url}, for webhooks`);
  return {
    children: [...(child === null ? [] : [child]), worker.child, edge.child],
    edgeUrl: edge.url,
    apiKey,
    receiver,
    client: new JobClient(edge.url, apiKey),
  };
}

/** The one that REDIS_URL names, which must answer, or one of our own. */
async function findRedis(): Promise<{ redisUrl: string; child: Child | null }> {
  const given = process.env["REDIS_URL"];
  if (given !== undefined && given !== "") {
    (await connectRedis(given)).disconnect();
    line("redis", `${withoutPassword(given)} (REDIS_URL)`);
    return { redisUrl: given, child: null };
  }
  ensureRedisServer(console.log);
  const server = await startRedis();
  line("redis", `${server.url}, gone with the demo`);
  return { redisUrl: server.url, child: server.child };
}

async function makeKey(redis: Redis): Promise<{ apiKey: string; webhookSecret: string }> {
  const keys = new KeyRegistry(redis);
  const { id, key, tenant } = await keys.create("demo", "demo");
  forget = async () => {
    forget = async () => {};
    await keys.revoke(id).catch(() => {});
    redis.disconnect();
  };
  return { apiKey: key, webhookSecret: (await keys.webhookSecret(tenant)) ?? "" };
}

async function show(parts: Parts): Promise<void> {
  for (const [model, questions] of Object.entries(QUESTIONS)) {
    const about = (await (await parts.client.request(`/v1/models/${model}`)).json()) as Model;
    console.log(`\n${model}: ${about.description}`);
    for (const question of questions) {
      console.log(`\n  "${question}"`);
      const ask = { model, messages: [{ role: "user" as const, content: question }] };
      await stream(parts, "    base alone", { ...ask, steering: { alpha: 0 } });
      const alpha = about.alpha.default;
      const job = await stream(parts, `    alpha ${alpha}`, { ...ask, steering: { alpha } });
      await showWebhook(parts.receiver, job);
    }
  }
  shown = true;
  const seconds = ((firstTokenMs ?? 0) / 1000).toFixed(1);
  console.log(`\nThe first token came ${seconds} s after the start.`);
}

/** Submits a job and prints its tokens as they come. */
async function stream({ client, receiver }: Parts, label: string, input: JobInput): Promise<Job> {
  const paragraph = new Paragraph(label);
  const webhook = { url: receiver.url };
  const job = await client.submit({ ...input, temperature: 0, max_tokens: 40, webhook });
  for await (const event of client.events(job.id)) {
    if (event.type === "tokens") {
      firstTokenMs ??= performance.now();
      paragraph.add(event.text);
    }
    if (event.type === "succeeded" && event.finish_reason === "length") paragraph.add(" …");
    if (event.type === "failed") throw new Error(`${job.id}: ${event.error?.message}`);
  }
  paragraph.end();
  return job;
}

async function showWebhook(receiver: Receiver, job: Job): Promise<void> {
  const { type, verified } = await receiver.accepted(job.id, WEBHOOK_WAIT_MS);
  line("    webhook", `${type}, ${verified ? "signature verified" : "BAD SIGNATURE"}`);
}

function printCommands({ edgeUrl, apiKey, receiver }: Parts): void {
  const headers = `-H "authorization: Bearer ${apiKey}" -H "content-type: application/json"`;
  const curl = (flag: string, path: string, body: object) =>
    `curl ${flag} ${edgeUrl}${path} ${headers} -d '${JSON.stringify(body)}'\n`;
  const [atlas, gsm] = Object.entries(QUESTIONS).map(([model, [content]]) => ({
    model,
    messages: [{ role: "user", content }],
    temperature: 0,
  }));
  console.log(
    "\nEverything is up until Ctrl-C. To paste, an answer as it is made, and a job with a webhook:\n",
  );
  console.log(curl("-N", "/v1/chat/completions", { ...gsm, stream: true, steering: { alpha: 1 } }));
  console.log(curl("-s", "/v1/jobs", { ...atlas, webhook: { url: receiver.url } }));
  console.log("and, to see every webhook arrive without a receiver:\n");
  console.log(`TRIMTAB_API_KEY=${apiKey} npm run listen -- --edge ${edgeUrl}\n`);
}

/** Never resolves; throws when one of the parts has ended. */
async function anyEnd(children: readonly Child[]): Promise<never> {
  const child = await Promise.race(children.map((child) => child.exited.then(() => child)));
  throw new Problem(`${child.name} has ended; it last said:\n${child.output}`);
}

function toPort(value: string): number {
  const port = Number(value);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new InvalidArgumentError("expected a number from 1 to 65535");
}
