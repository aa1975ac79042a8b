/** `npm run dev`: all parts run, and a change of a file restarts the part that it belongs to. */
import { utimesSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { freePort } from "../../infra/stack/port.ts";
import { Child } from "../../infra/stack/process.ts";
import { newMark } from "../support/marked-processes.ts";
import { DEADLINE_MS } from "./stack.ts";

const ROOT = join(import.meta.dirname, "../..");

/** Changes the time of a file, not its content. */
function touch(path: string): void {
  utimesSync(join(ROOT, path), new Date(), new Date());
}

test("a change in worker/ restarts the worker, one in edge/ restarts the edge, and Ctrl-C ends all", async () => {
  const port = await freePort();
  const mark = newMark();
  const child = new Child({
    name: "dev",
    command: process.execPath,
    args: [join(ROOT, "infra/cli/dev.ts"), "--port", String(port)],
    env: { REDIS_URL: "", ...mark.env },
  });
  onTestFinished(() => child.stop());
  const count = (text: string) => child.output.split(text).length - 1;
  const workerReady = /^worker +ready/m;
  const edgeReady = /^edge +ready/m;
  await child.waitFor("its start", DEADLINE_MS, () => {
    return edgeReady.test(child.output) && workerReady.test(child.output);
  });

  touch("worker/main.ts");
  await child.waitFor(
    "the worker's restart",
    DEADLINE_MS,
    () => count("worker          ready") === 2,
  );
  expect(child.output).toContain("worker          worker/main.ts has changed; restarting");
  expect(child.output).not.toContain("edge            edge/");
  touch("edge/app.ts");
  await child.waitFor(
    "the edge's restart",
    DEADLINE_MS,
    () => count("edge            ready") === 2,
  );
  expect(child.output).toContain("edge            edge/app.ts has changed; restarting");

  const apiKey = / (tt_[\w-]{43})$/m.exec(child.output)?.[1] ?? "";
  const client = new JobClient(`http://127.0.0.1:${port}`, apiKey);
  const { id } = await client.submit({ model: "atlas-qa", prompt: "Paris is", max_tokens: 4 });
  const events = await Array.fromAsync(client.events(id));
  expect(events.at(-1)).toMatchObject({ type: "succeeded" });

  process.kill(child.pid ?? 0, "SIGINT");
  expect(await child.exited).toEqual({ code: 130, signal: null });
  await mark.gone();
});
