/** The API reference in a real Chromium: readable and usable at two widths, in light and dark, without another host. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { AxeResults } from "axe-core";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startChromium } from "../../infra/stack/chromium.ts";
import { useStack } from "./stack.ts";

const axeScript = readFileSync(
  createRequire(import.meta.url).resolve("axe-core/axe.min.js"),
  "utf8",
);

const stack = useStack(null);
let browser: Browser;
let context: BrowserContext;

// The first run on a machine installs Chromium.
beforeAll(async () => {
  browser = await startChromium();
}, 600_000);
afterEach(() => context.close());
afterAll(() => browser.close());

/** Opens the reference and waits until the document is rendered. @returns the page and what it asked of other hosts */
async function openReference(width: number, colorScheme: "light" | "dark" = "light") {
  context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(100_000);
  const otherHosts: string[] = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(stack.edge.url)) otherHosts.push(request.url());
  });
  await page.goto(`${stack.edge.url}/docs`);
  await page.getByRole("heading", { name: "Jobs", exact: true }).first().waitFor();
  return { page, otherHosts };
}

/** Shows `POST /v1/jobs`. @returns its example as a curl command */
async function showOperation(page: Page): Promise<string> {
  await page.goto(`${stack.edge.url}/docs#tag/jobs/POST/v1/jobs`);
  const curl = page.locator("pre", { hasText: "--request POST" }).first();
  await curl.waitFor();
  return (await curl.textContent())!;
}

/** The accessibility rules that axe finds broken, with the elements. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axeScript);
  const results = await page.evaluate<AxeResults>("axe.run()");
  return results.violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`,
  );
}

test.each([
  { width: 1280, colorScheme: "light" },
  { width: 1280, colorScheme: "dark" },
  { width: 390, colorScheme: "light" },
  { width: 390, colorScheme: "dark" },
] as const)(
  "at $width px in $colorScheme the reference is accessible, fits the screen and loads nothing from other hosts",
  { timeout: 300_000 },
  async ({ width, colorScheme }) => {
    const { page, otherHosts } = await openReference(width, colorScheme);
    await showOperation(page);
    expect(await violations(page)).toEqual([]);
    const contentWidth = await page.evaluate("document.documentElement.scrollWidth");
    expect(contentWidth).toBeLessThanOrEqual(width);
    expect(otherHosts).toEqual([]);
  },
);

test("the example of a request has no optional header, so it can be sent again with another body", async () => {
  const { page } = await openReference(1280);
  const curl = await showOperation(page);
  expect(curl).toContain("/v1/jobs ");
  const headers = [...curl.matchAll(/--header '([^:]+):/g)].map(([, name]) => name);
  expect(headers).toEqual(["Content-Type", "Authorization"]);
});

test("the reference says how to authenticate, and finds an operation by the keyboard alone", async () => {
  const { page } = await openReference(1280);
  await page.getByText("Bearer Token").first().waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("rotate");
  await page.getByRole("option", { name: "/v1/keys/{id}/rotate" }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForFunction("location.hash.includes('rotate')");
  expect(await page.evaluate("location.hash")).toContain("rotate");
});
