/** The API reference in a real Chromium. */
import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { expectAccessible, otherHosts, SCREENS, useChromium } from "../support/web-page.ts";
import { useStack } from "./stack.ts";

const stack = useStack(null);
const openPage = useChromium();

/** Opens the reference and waits until the document is rendered. */
async function openReference() {
  const page = await openPage();
  const others = otherHosts(page, stack.edge.url);
  await page.goto(`${stack.edge.url}/docs`);
  await page.getByRole("heading", { name: "Jobs", exact: true }).first().waitFor();
  return { page, others };
}

/** Shows `POST /v1/jobs`. @returns its example as a curl command */
async function showOperation(page: Page): Promise<string> {
  await page.goto(`${stack.edge.url}/docs#tag/jobs/POST/v1/jobs`);
  const curl = page.locator("pre", { hasText: "--request POST" }).first();
  await curl.waitFor();
  return (await curl.textContent())!;
}

test("on each screen it is accessible, fits and loads nothing from other hosts", async () => {
  const { page, others } = await openReference();
  for (const { width, colorScheme } of SCREENS) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await showOperation(page);
    await expectAccessible(page);
  }
  expect(others).toEqual([]);
});

test("the example of a request has no optional header, so it can be sent again with another body", async () => {
  const { page } = await openReference();
  const curl = await showOperation(page);
  expect(curl).toContain("/v1/jobs ");
  const headers = [...curl.matchAll(/--header '([^:]+):/g)].map(([, name]) => name);
  expect(headers).toEqual(["Content-Type", "Authorization"]);
});

test("it says how to authenticate, and finds an operation by the keyboard alone", async () => {
  const { page } = await openReference();
  await page.getByText("Bearer Token").first().waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("rotate");
  await page.getByRole("option", { name: "/v1/keys/{id}/rotate" }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForFunction("location.hash.includes('rotate')");
  expect(await page.evaluate("location.hash")).toContain("rotate");
});
