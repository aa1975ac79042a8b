/** Opens web pages in a real Chromium, and checks their accessibility. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { startChromium } from "../../infra/stack/chromium.ts";

const axeScript = readFileSync(
  createRequire(import.meta.url).resolve("axe-core/axe.min.js"),
  "utf8",
);

/** Long enough for a busy machine: a test must not measure time. */
const TIMEOUT_MS = 100_000;

export const SCREENS = [
  { width: 1280, colorScheme: "light" },
  { width: 1280, colorScheme: "dark" },
  { width: 390, colorScheme: "light" },
  { width: 390, colorScheme: "dark" },
] as const;

/** A Chromium for the file's tests. @returns opens an empty page of its own context, which the test's end closes */
export function useChromium(): (options?: BrowserContextOptions) => Promise<Page> {
  let browser: Browser;
  const contexts: BrowserContext[] = [];
  // The first run on a machine installs Chromium.
  beforeAll(async () => {
    browser = await startChromium();
  }, 600_000);
  afterEach(() => Promise.all(contexts.splice(0).map((context) => context.close())));
  afterAll(() => browser.close());
  return async (options = {}) => {
    const context = await browser.newContext(options);
    contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    return page;
  };
}

/** Fails if axe finds a rule broken, or if the page is wider than the screen. */
export async function expectAccessible(page: Page): Promise<void> {
  await page.evaluate(axeScript);
  const { violations } = await page.evaluate<AxeResults>("axe.run()");
  const found = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`,
  );
  expect(found).toEqual([]);
  const contentWidth = await page.evaluate("document.documentElement.scrollWidth");
  expect(contentWidth).toBeLessThanOrEqual(page.viewportSize()!.width);
}

/** Collects what the page asks of other hosts. */
export function otherHosts(page: Page, url: string): string[] {
  const requests: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) requests.push(request.url());
  });
  return requests;
}

/** Moves the focus with the Tab key to an element. */
export async function tabTo(page: Page, id: string): Promise<void> {
  for (let i = 0; i < 40; i += 1) {
    if ((await page.evaluate("document.activeElement.id")) === id) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab does not reach #${id}`);
}

/** Counts the jobs that the page submits from now on. */
export function countSubmissions(page: Page): { readonly count: number } {
  const counter = { count: 0 };
  page.on("request", (request) => {
    if (request.method() === "POST" && request.url().endsWith("/v1/jobs")) counter.count += 1;
  });
  return counter;
}

/** Adds a text at the beginning of the named JSON strings of a reply. */
export async function addToMember(
  page: Page,
  url: string,
  member: string,
  text: string,
): Promise<void> {
  await page.route(url, async (route) => {
    const reply = await route.fetch();
    const body = (await reply.text()).replaceAll(
      member,
      member + JSON.stringify(text).slice(1, -1).replaceAll("$", "$$$$"),
    );
    await route.fulfill({ response: reply, body });
  });
}
