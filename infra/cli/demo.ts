/**
 * `npm run demo`: starts all parts on this machine, shows answers of two ensembles beside those of their base model
 * alone, with webhooks, and prints commands to try. It runs until Ctrl-C; with `--once` it ends after the answers.
 */
import { Command } from "commander";
import type { Job } from "../../shared/api/jobs.ts";
import type { Model } from "../../shared/api/models.ts";
import { startEdge } from "../stack/edge.ts";
import { stopOnInterrupt } from "../stack/interrupt.ts";
import { ensurePortFree } from "../stack/port.ts";
import { stopAllChildren, type Child } from "../stack/process.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { startWorker } from "../stack/worker.ts";
import { JobClient, type JobInput } from "./job-client.ts";
import { createTemporaryKeys, redisForCommand } from "./redis-and-key.ts";
import { Paragraph, portOption, printLabelled } from "./terminal.ts";
import {
  startWebhookReceiver,
  type ReceivedWebhook,
  type WebhookReceiver,
} from "./webhook-receiver.ts";

const WEBHOOK_WAIT_MS = 15_000;

/** Short questions that are not in any training data: they are from the dev files in test/eval/data. */
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

interface DemoStack {
  readonly children: readonly Child[];
  readonly edgeUrl: string;
  readonly apiKey: string;
  readonly operatorKey: string | null;
  readonly receiver: WebhookReceiver;
  readonly client: JobClient;
}

/** Time from the start of this process to the first token. */
let firstTokenMs: number | undefined;
/** Once true, each webhook that arrives is printed on its own line. */
let questionsDone = false;

const options = new Command("npm run demo --")
  .description("run all parts on this machine and show what they do, until Ctrl-C")
  .option("--once", "end after the answers")
  .addOption(portOption())
  .parse()
  .opts<{ once?: boolean; port: number }>();

let revokeKey = async () => {};
const interrupted = stopOnInterrupt(async () => {
  console.log("\nstopping");
  await revokeKey();
});
try {
  const stack = await startDemoStack();
  await Promise.race([demo(stack), failOnExit(stack.children)]);
} catch (error) {
  // After an interrupt many calls fail; their errors are not of interest.
  if (!interrupted.aborted) console.error(errorText(error));
  process.exitCode = 1;
}
if (!interrupted.aborted) {
  await revokeKey();
  await stopAllChildren();
  process.exit();
}

async function demo(stack: DemoStack): Promise<void> {
  await askQuestions(stack);
  if (options.once === true) return;
  printCommands(stack);
  await new Promise(() => {});
}

async function startDemoStack(): Promise<DemoStack> {
  const { port } = options;
  await ensurePortFree(port, "pass --port N");
  const { redisUrl, child: redis } = await redisForCommand();
  // The receiver of webhooks runs on this machine.
  const env = { WEBHOOK_ALLOW: "127.0.0.1" };
  const [worker, edge] = await Promise.all([
    startWorker({ redisUrl, env }),
    startEdge({ redisUrl, port, env }),
  ]);
  printLabelled("worker", `ready, ${worker.healthUrl}/readyz`);
  printLabelled("edge", `ready, ${edge.url}`);
  const { apiKey, operatorKey, webhookSecret, revoke } = await createTemporaryKeys(
    redisUrl,
    "demo",
    redis !== null,
  );
  revokeKey = revoke;
  printLabelled("API key", `valid until the demo ends: ${apiKey}`);
  const receiver = await startWebhookReceiver({
    secret: webhookSecret,
    onReceived: (webhook) => {
      if (questionsDone) printWebhook("webhook", webhook, `, ${webhook.job.id}`);
    },
  });
  printLabelled("receiver", `for webhooks: ${receiver.url}`);
  return {
    children: [...(redis === null ? [] : [redis]), worker.child, edge.child],
    edgeUrl: edge.url,
    apiKey,
    operatorKey,
    receiver,
    client: new JobClient(edge.url, apiKey),
  };
}

/** Asks each model its questions: the base model alone, then with the model's default alpha. */
async function askQuestions(stack: DemoStack): Promise<void> {
  for (const [model, questions] of Object.entries(QUESTIONS)) {
    const reply = await stack.client.request(`/v1/models/${model}`);
    const { description, alpha } = (await reply.json()) as Model;
    console.log(`\n${model}: ${description}`);
    for (const question of questions) {
      console.log(`\n  "${question}"`);
      const input = { model, messages: [{ role: "user" as const, content: question }] };
      await printAnswer(stack, "    base alone", { ...input, steering: { alpha: 0 } });
      const job = await printAnswer(stack, `    alpha ${alpha.default}`, {
        ...input,
        steering: { alpha: alpha.default },
      });
      printWebhook("    webhook", await stack.receiver.accepted(job.id, WEBHOOK_WAIT_MS));
    }
  }
  questionsDone = true;
  const seconds = ((firstTokenMs ?? 0) / 1000).toFixed(1);
  console.log(`\nThe first token came ${seconds} s after the start.`);
}

/** Submits a job and prints its tokens as they arrive. */
async function printAnswer(
  { client, receiver }: DemoStack,
  label: string,
  input: JobInput,
): Promise<Job> {
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

function printWebhook(label: string, { type, verified }: ReceivedWebhook, details = ""): void {
  printLabelled(label, `${type}${details}, ${verified ? "signature verified" : "BAD SIGNATURE"}`);
}

function printCommands({ edgeUrl, apiKey, operatorKey, receiver }: DemoStack): void {
  const headers = `-H "authorization: Bearer ${apiKey}" -H "content-type: application/json"`;
  const curl = (flag: string, path: string, body: object) =>
    `curl ${flag} ${edgeUrl}${path} ${headers} -d '${JSON.stringify(body)}'\n`;
  const [atlas, gsm] = Object.entries(QUESTIONS).map(([model, [content]]) => ({
    model,
    messages: [{ role: "user", content }],
    temperature: 0,
  }));
  console.log(
    "\nAll parts run until Ctrl-C. Commands to try: stream an answer, and submit a job with a webhook:\n",
  );
  console.log(curl("-N", "/v1/chat/completions", { ...gsm, stream: true, steering: { alpha: 1 } }));
  console.log(curl("-s", "/v1/jobs", { ...atlas, webhook: { url: receiver.url } }));
  console.log("and receive every webhook in the terminal, without a server:\n");
  console.log(`TRIMTAB_API_KEY=${apiKey} npm run listen -- --edge ${edgeUrl}\n`);
  if (operatorKey !== null) {
    console.log("See queues, workers and jobs as the operator (the address contains a key):\n");
    console.log(`${edgeUrl}/admin#key=${operatorKey}\n`);
  }
  console.log("See in a browser what alpha does, token by token (the address contains the key):\n");
  console.log(`${edgeUrl}/play#run=1&key=${apiKey}\n`);
}

/** Rejects when one of the processes has ended. */
async function failOnExit(children: readonly Child[]): Promise<never> {
  const child = await Promise.race(children.map((child) => child.exited.then(() => child)));
  throw new UserError(`${child.name} has ended; its last output:\n${child.lastLines}`);
}
