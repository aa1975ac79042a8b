/**
 * `npm run screenshots`: pictures of the pages that the edge serves, with the demo models, in a real Chromium. The README shows them.
 * `npm run screenshots -- play-phone` makes only the pictures that are named.
 */
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import type { Browser } from "playwright-core";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { startChromium } from "../stack/chromium.ts";
import { startEdge } from "../stack/edge.ts";
import { stopOnInterrupt } from "../stack/interrupt.ts";
import { stopAllChildren } from "../stack/process.ts";
import { connectRedis, startRedis } from "../stack/redis.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { startWorker } from "../stack/worker.ts";
import { JobClient } from "./job-client.ts";
import { PICTURES, type Picture } from "./pictures.ts";
import { printLabelled } from "./terminal.ts";

const IMAGES = join(import.meta.dirname, "../../edge/docs/images");
/** Long enough for a busy machine. */
const TIMEOUT_MS = 60_000;

const command = new Command("npm run screenshots --")
  .description("make pictures of the pages that the edge serves")
  .argument("[names...]", `of pictures: ${Object.keys(PICTURES).join(", ")} (default: all)`)
  .option("--out <folder>", "where the pictures are written", IMAGES)
  .parse();

stopOnInterrupt();
try {
  await makePictures(command.args, command.opts<{ out: string }>().out);
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}
await stopAllChildren();
process.exit();

async function makePictures(names: readonly string[], folder: string): Promise<void> {
  const unknown = names.find((name) => PICTURES[name] === undefined);
  if (unknown !== undefined) throw new UserError(`there is no picture "${unknown}"`);
  mkdirSync(folder, { recursive: true });
  const { url: redisUrl } = await startRedis();
  const [edge, , browser] = await Promise.all([
    startEdge({ redisUrl }),
    startWorker({ redisUrl }),
    startChromium(),
  ]);
  const redis = await connectRedis(redisUrl);
  const key = await new KeyRegistry(redis).create("pictures", "demo", {
    scopes: ["jobs:write", "jobs:read", "admin", "operator"],
    limits: {},
  });
  for (const name of names.length === 0 ? Object.keys(PICTURES) : names) {
    const file = join(folder, `${name}.webp`);
    await submitJobs(new JobClient(edge.url, key.key), PICTURES[name]!.jobs ?? 0);
    const isMade = await makePicture(browser, PICTURES[name]!, edge.url, key.key, file);
    const kilobytes = isMade ? Math.ceil(statSync(file).size / 1000) : 0;
    printLabelled(name, isMade ? `${file}, ${kilobytes} kB` : "not made: the page is not served");
  }
  redis.disconnect();
  await browser.close();
}

/** Submits long jobs of both demo models. */
async function submitJobs(client: JobClient, count: number): Promise<void> {
  const models = ["atlas-qa", "gsm-mini"];
  for (let i = 0; i < count; i++) {
    const model = models[i % models.length]!;
    await client.submit({ model, prompt: "question:", max_tokens: 400, steering: { alpha: 0 } });
  }
}

/** @returns false if the edge does not serve the page */
async function makePicture(
  browser: Browser,
  { path, settings = "", width, height, colorScheme, prepare }: Picture,
  url: string,
  key: string,
  file: string,
): Promise<boolean> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const reply = await page.goto(`${url}${path}#key=${key}&${settings}`);
  const isServed = reply?.ok() ?? false;
  if (isServed) {
    await prepare?.(page);
    // A third of the size of PNG. Playwright itself writes no WebP.
    const session = await context.newCDPSession(page);
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 90 });
    writeFileSync(file, Buffer.from(data, "base64"));
  }
  await context.close();
  return isServed;
}
