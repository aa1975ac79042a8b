/** The operator's page in a real Chromium, with a real worker. */
import type { Page, Route } from "playwright-core";
import { expect, onTestFinished, test } from "vitest";
import type { Scope } from "../../shared/api/keys.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import type { NewKey } from "../../shared/keys/registry.ts";
import { claimJob } from "../support/claim.ts";
import { startReceiver } from "../support/receiver.ts";
import { pauseModel, resumeModel } from "../../shared/workers/model-pauses.ts";
import { expectAccessible, otherHosts, SCREENS, tabTo, useChromium } from "../support/web-page.ts";
import { allEvents, runToEnd, SHORT_JOB, useStack } from "./stack.ts";

const stack = useStack();
const openPage = useChromium();

const TENANT_ADMIN: readonly Scope[] = ["admin", "jobs:read", "jobs:write"];

/** An API key with a client. */
async function newKey(tenant: string, scopes: readonly Scope[]) {
  const key = await stack.keys.create(`key of ${tenant}`, tenant, { scopes, limits: {} });
  return { key, client: new JobClient(stack.edge.url, key.key) };
}

/** Opens the page with a key, and accepts what it asks. */
async function openAdmin(
  { key }: Pick<NewKey, "key">,
  prepare: (page: Page) => Promise<unknown> = async () => {},
): Promise<Page> {
  const page = await openPage();
  page.on("dialog", (dialog) => void dialog.accept());
  await prepare(page);
  await page.goto(`${stack.edge.url}/admin#key=${key}`);
  await page.getByText(/^Updated/).waitFor();
  return page;
}

const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();

/** Reads all parts now. */
async function update(page: Page): Promise<void> {
  await press(page, "Pause updates");
  await press(page, "Continue updates");
}

/** A row of a table. */
const row = (page: Page, table: string, text: string) =>
  page
    .getByRole("region", { name: `${table} (table)` })
    .getByRole("row")
    .filter({ hasText: text });

/** A tenant with a failed job, an endpoint that has not answered well, and an admin's key. */
async function tenantWithTrouble(tenant: string) {
  const admin = await newKey(tenant, TENANT_ADMIN);
  const receiver = await startReceiver(500, 204);
  onTestFinished(() => receiver.stop());
  const created = await admin.client.request("/v1/webhook_endpoints", {
    method: "POST",
    body: JSON.stringify({ url: receiver.url, description: `billing of ${tenant}` }),
  });
  expect(created.status).toBe(201);
  const tooLong = { model: "atlas-qa", prompt: "word ".repeat(2_000), max_tokens: 1 };
  const job = await runToEnd(admin.client, tooLong);
  expect(job.state).toBe("failed");
  return { ...admin, receiver, job };
}

test("a tenant's admin sees only its own, runs a failed job again, sends a webhook again and disables an endpoint", async () => {
  const other = await tenantWithTrouble("umbrella");
  const { key, receiver, job } = await tenantWithTrouble("acme");
  const asked: string[] = [];
  const page = await openAdmin(key, async (page) => {
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  });
  await row(page, "The latest failed jobs of this tenant", job.id).waitFor();
  const text = await page.locator("body").innerText();
  expect(text).toContain("context_length_exceeded");
  for (const foreign of ["umbrella", other.job.id, other.key.id, other.receiver.url]) {
    expect(text).not.toContain(foreign);
  }
  expect(asked.filter((path) => path.startsWith("/v1/operator"))).toEqual([]);
  expect(await page.getByRole("heading", { name: "Workers" }).isVisible()).toBe(false);

  await expect.poll(() => receiver.received.length, { timeout: 30_000 }).toBe(1);
  await page.getByRole("button", { name: /^Send again: / }).click();
  await expect.poll(() => receiver.received.length, { timeout: 30_000 }).toBe(2);
  await press(page, `Disable: ${receiver.url}`);
  await row(page, "Webhook endpoints", "disabled by its owner").waitFor();
  await press(page, `Run again: ${job.id}`);
  await page.getByText(`${job.id} was submitted again`).waitFor();
  const byCode = row(page, "Failed jobs of this tenant by code", "context_length_exceeded");
  await expect
    .poll(
      async () => {
        await update(page);
        return byCode.getByRole("cell").innerText();
      },
      { timeout: 30_000 },
    )
    .toBe("2");
});

test("at two widths, in light and dark, it is accessible, fits the screen and loads nothing from other hosts", async () => {
  const { key, job } = await tenantWithTrouble("wide");
  const both = await newKey("wide", ["operator", ...TENANT_ADMIN]);
  await pauseModel(stack.redis, "atlas-qa");
  onTestFinished(() => resumeModel(stack.redis, "atlas-qa"));
  await claimJob(stack.redis, (await both.client.submit(SHORT_JOB)).id);
  await both.client.submit(SHORT_JOB);
  let others: string[] = [];
  const page = await openAdmin(both.key, async (page) => {
    others = otherHosts(page, stack.edge.url);
  });
  await row(page, "The latest failed jobs of this tenant", job.id).waitFor();
  expect(await page.getByRole("heading", { level: 2 }).count()).toBe(10);
  for (const { width, colorScheme } of SCREENS) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await expectAccessible(page);
  }
  expect(others).toEqual([]);
  const policy = (await page.request.get(`${stack.edge.url}/admin`)).headers();
  expect(policy["content-security-policy"]).toContain("default-src 'none'");
  expect(page.url()).not.toContain(key.key);
});

test("texts of models, metadata, errors, names and addresses are shown as text", async () => {
  const attack = `<img src=x onerror="document.title='attacked'"><b>bold</b>`;
  await tenantWithTrouble("attacked");
  const { key } = await newKey("attacked", ["operator", ...TENANT_ADMIN]);
  const problems: string[] = [];
  const page = await openAdmin(key, async (page) => {
    page.on("pageerror", ({ message }) => problems.push(message));
    await page.route("**/v1/**", (route) => attackTexts(route, attack));
  });
  await row(page, "Models", attack).first().waitFor();
  for (const table of ["Workers", "Webhook endpoints", "Webhook deliveries", "API keys"]) {
    await row(page, table, attack).first().waitFor();
  }
  const failed = row(page, "The latest failed jobs of this tenant", "context_length_exceeded");
  expect(await failed.innerText()).toContain(attack);
  await page.route("**/v1/operator/models", (route) =>
    route.fulfill({ status: 400, json: { error: { message: attack, param: attack } } }),
  );
  await update(page);
  await page.getByText(`${attack}: ${attack}`).waitFor();
  expect(await page.locator("img, main b").count()).toBe(0);
  expect(await page.title()).toBe("trimtab operation");
  expect(problems).toEqual([]);
  // The page goes on reading, and its end would break off a reply that is being changed.
  await page.unrouteAll({ behavior: "wait" });
});

/** Adds a text to every text of a reply but to the words by which the page decides. */
async function attackTexts(route: Route, attack: string): Promise<void> {
  const reply = await route.fetch();
  const words = ["scopes", "object", "state", "phase", "status"];
  const changed = (name: string, value: unknown): unknown => {
    if (words.includes(name)) return value;
    if (typeof value === "string") return value + attack;
    if (Array.isArray(value)) return value.map((each) => changed("", each));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, changed(key, each)]),
    );
  };
  await route.fulfill({ response: reply, json: changed("", await reply.json()) });
}

test("a key that is unknown, or is neither an operator's nor an admin's, is refused and not kept", async () => {
  const page = await openPage();
  await page.goto(`${stack.edge.url}/admin`);
  for (const [key, problem] of [
    ["tt_wrong", "This API key is not known"],
    [stack.key.key, "neither the scope operator nor admin"],
  ] as const) {
    await page.getByRole("textbox", { name: "API key" }).fill(key);
    await press(page, "Use this key");
    await page.getByText(problem).waitFor();
    expect(await page.evaluate("sessionStorage.length + localStorage.length")).toBe(0);
  }
});

test("the keyboard alone enters the key, pauses a model and resumes it; the focus stays where it is", async () => {
  const { key } = await newKey("keyboard", ["operator"]);
  const page = await openPage();
  const asked: string[] = [];
  page.on("dialog", (dialog) => {
    asked.push(dialog.message());
    void dialog.accept();
  });
  await page.goto(`${stack.edge.url}/admin`);
  await page.keyboard.type(key.key);
  await page.keyboard.press("Enter");
  await page.getByText(/^Updated/).waitFor();
  await tabTo(page, "model-gsm-mini");
  for (const [action, state] of [
    ["Pause", "paused"],
    ["Resume", "available"],
  ] as const) {
    await page.keyboard.press("Enter");
    await row(page, "Models", "gsm-mini").getByText(state).waitFor();
    expect(asked.at(-1)).toContain(`${action} gsm-mini?`);
    expect(await page.evaluate("document.activeElement.id")).toBe("model-gsm-mini");
  }
});

test("an operator pauses a model, sees the jobs of all tenants wait and run, cancels one, resumes the model and drains the worker", async () => {
  const operator = await newKey("house", ["operator"]);
  const { client } = await newKey("globex", TENANT_ADMIN);
  const page = await openAdmin(operator.key);
  await press(page, "Pause: atlas-qa");
  await row(page, "Models", "atlas-qa")
    .getByText(/^paused for/)
    .waitFor();
  const [running, waiting] = [await client.submit(SHORT_JOB), await client.submit(SHORT_JOB)];
  expect(waiting.queue?.reason).toBe("paused");
  await claimJob(stack.redis, running.id);
  await update(page);
  const queue = row(page, "Waiting jobs by tenant", "globex").getByRole("cell");
  await queue.first().waitFor();
  expect((await queue.allInnerTexts()).slice(0, 2)).toEqual(["atlas-qa", "1"]);
  await row(page, "Queues by model", "atlas-qa").getByText("paused").waitFor();
  const job = row(page, "Running jobs", running.id);
  expect(await job.innerText()).toMatch(/globex.*loading/s);
  await press(page, `Cancel: ${running.id}`);
  await job.getByText("loading, cancelled").waitFor();
  await press(page, "Resume: atlas-qa");
  expect((await allEvents(client, waiting.id)).at(-1)?.type).toBe("succeeded");

  await page.getByRole("button", { name: /^Drain: worker_/ }).click();
  await row(page, "Workers", "worker_").getByText("drained", { exact: true }).waitFor();
  expect(await page.getByRole("button", { name: /^Drain: / }).count()).toBe(0);
  expect((await client.submit(SHORT_JOB)).queue?.reason).toBe("no_worker");
});
