/** The keys that may see an answer in the playground; and answers that wait, or whose worker or connection is lost: it says so, and they are whole. */
import { expect, test } from "vitest";
import type { JobInput } from "../../infra/cli/job-client.ts";
import {
  column,
  complete,
  openPlayground,
  playgroundOpener,
  QUESTION,
  runButton,
  runExample,
  textOf,
} from "../support/play-page.ts";
import { useChromium } from "../support/web-page.ts";
import { runToEnd, useStack } from "./stack.ts";

const stack = useStack(null);
const openPage = useChromium();

/** A lost worker's jobs are taken over after this time. */
const LEASES = { LOCK_MS: "2000" };

const input = (alpha: number, maxTokens = 24): JobInput => ({
  model: "atlas-qa",
  messages: [{ role: "user", content: QUESTION }],
  temperature: 0,
  max_tokens: maxTokens,
  seed: 7,
  steering: { alpha },
});
const answerOf = async (body: JobInput) => (await runToEnd(stack.client, body)).output.text;

const open = playgroundOpener(openPage, stack);

test("a job waits for a worker at its place in the queue, and another worker takes it over from one that is killed", async () => {
  const killed = await stack.startWorker(LEASES);
  const page = await open(undefined, "max_tokens=100");
  await killed.stop();
  await runButton(page).click();
  const base = column(page, "Base alone");
  await base.getByText(/^In the queue at place [12]: no worker serves this model now$/).waitFor();

  const second = await stack.startWorker(LEASES);
  await base.getByText(/^[1-9]\d* tokens$/).waitFor();
  second.child.kill("SIGKILL");
  await base.getByText("The worker was lost: another one will take the job over").waitFor();
  await stack.startWorker(LEASES);
  await base.getByText(/taken over by another worker \(attempt 2\)$/).waitFor();
  await complete(page);
  expect(await textOf(base)).toBe(await answerOf(input(0, 100)));
  expect(await textOf(column(page, "Steered"))).toBe(await answerOf(input(1, 100)));
});

test("a stream whose connection is lost goes on after its last event", async () => {
  const resumed: string[] = [];
  const page = await open((page) =>
    page.route("**/v1/jobs/*/events", async (route) => {
      const lastId = route.request().headers()["last-event-id"];
      if (lastId !== undefined) {
        resumed.push(lastId);
        return route.fallback();
      }
      const body = await (await route.fetch()).text();
      const half = body.slice(0, Math.floor(body.length / 2));
      await route.fulfill({ contentType: "text/event-stream", body: half });
    }),
  );
  await runExample(page);
  expect(resumed.length).toBe(2);
  expect(await textOf(column(page, "Base alone"))).toBe(await answerOf(input(0)));
  expect(await textOf(column(page, "Steered"))).toBe(await answerOf(input(1)));
});

test("two tenants in two tabs of a browser see neither each other's key nor jobs", async () => {
  const other = await stack.keys.create("other");
  const first = await open();
  await runExample(first);
  const answer = (await textOf(column(first, "Steered")))!;
  const job = (await column(first, "Steered")
    .getByRole("button", { name: /^job_/ })
    .textContent())!;

  const second = await first.context().newPage();
  await second.goto(`${stack.edge.url}/play`);
  await second.getByLabel("API key").waitFor();
  expect(await second.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")).toBe(
    "[{},{}]",
  );
  await openPlayground(second, { url: stack.edge.url, key: other.key, fragment: `job=${job}` });
  await second
    .getByLabel(`Record of ${job}`)
    .getByText(/^Failed: /)
    .waitFor();
  await column(second, "Steered")
    .getByText(/^Failed: /)
    .waitFor();
  expect(await second.locator("body").textContent()).not.toContain(answer);
  expect(await first.evaluate("sessionStorage.getItem('trimtab.key')")).toBe(stack.key.key);
  expect(await first.context().cookies()).toEqual([]);
});

test("a ticket in the address shows the answer of its job without a key, and does not stay there", async () => {
  const body = { ...input(1), logprobs: 1, steering: { alpha: 1, trace: true } };
  const { id, output } = await runToEnd(stack.client, body);
  const reply = await stack.client.request(`/v1/jobs/${id}/tickets`, {
    method: "POST",
    body: JSON.stringify({ action: "stream" }),
  });
  const { ticket } = (await reply.json()) as { ticket: string };
  const page = await openPage();
  await page.goto(`${stack.edge.url}/play#job=${id}&ticket=${ticket}`);
  const steered = column(page, "Steered");
  await steered.getByText("Complete").waitFor();
  await steered.getByRole("button", { name: id }).waitFor();
  expect(await textOf(steered)).toBe(output.text);
  expect(page.url()).not.toContain(ticket);
  expect(await page.evaluate("sessionStorage.length")).toBe(0);
});

test("a key that is not known is asked for again, and is not kept", async () => {
  const page = await openPage();
  await page.goto(`${stack.edge.url}/play`);
  await page.getByLabel("API key").fill("tt_wrong");
  await page.getByRole("button", { name: "Use this key" }).click();
  await page.getByText("This API key is not known").waitFor();
  expect(await page.evaluate("sessionStorage.length + localStorage.length")).toBe(0);
});
