/** The edge's pages in a real Chromium: the API reference and the playground, with real models. */
import { spawnSync } from "node:child_process";
import type { Locator, Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import type { JobInput } from "../../infra/cli/job-client.ts";
import {
  addToMember,
  countSubmissions,
  expectAccessible,
  onScreen,
  otherHosts,
  SCREENS,
  tabTo,
  useChromium,
  type Screen,
} from "../support/web-page.ts";
import { runToEnd, useStack } from "./stack.ts";

const stack = useStack();
const openPage = useChromium();

describe("the API reference", () => {
  /** Opens the reference and waits until the document is rendered. */
  async function openReference(screen: Screen = SCREENS[0]) {
    const page = await openPage(onScreen(screen));
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

  test.each(SCREENS)(
    "at $width px in $colorScheme it is accessible, fits the screen and loads nothing from other hosts",
    async (screen) => {
      const { page, others } = await openReference(screen);
      await showOperation(page);
      await expectAccessible(page);
      expect(others).toEqual([]);
    },
  );

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
});

describe("the playground", () => {
  const QUESTION = "What currency do people pay with in Belgium?";
  const input = (alpha: number, more: Partial<JobInput> = {}): JobInput => ({
    model: "atlas-qa",
    messages: [{ role: "user", content: QUESTION }],
    temperature: 0,
    max_tokens: 24,
    seed: 7,
    steering: { alpha },
    ...more,
  });
  const answerOf = async (body: JobInput) => (await runToEnd(stack.client, body)).output.text;

  /** Opens the page with the test's key. @param fragment further settings, as a link has them */
  async function openPlayground(
    prepare: (page: Page) => Promise<unknown> = async () => {},
    fragment = "",
  ): Promise<Page> {
    const page = await openPage();
    await prepare(page);
    const parameters = `key=${stack.key.key}&max_tokens=24${fragment && `&${fragment}`}`;
    await page.goto(`${stack.edge.url}/play#${parameters}`);
    await page.locator("#model option").first().waitFor({ state: "attached" });
    return page;
  }

  const run = (page: Page) => page.getByRole("button", { name: "Run both" });
  const column = (page: Page, name: "Base alone" | "Steered") =>
    page.getByRole("article", { name: new RegExp(`^${name}`) });
  const tokensOf = (article: Locator) => article.getByRole("option");

  /** Waits until no answer is running. */
  async function complete(page: Page): Promise<void> {
    for (const name of ["Base alone", "Steered"] as const) {
      await column(page, name).getByText("Complete: it stopped").waitFor();
    }
  }

  /** The answer for a screen reader, which has no marks between its tokens. */
  const textOf = (article: Locator) => article.locator("p.unseen").textContent();

  async function runExample(page: Page): Promise<void> {
    await run(page).click();
    await complete(page);
  }

  test("a person types, sees both answers, moves alpha, looks at a token, goes on from another and shares a link", async () => {
    const page = await openPlayground();
    expect(page.url()).not.toContain("tt_");
    await page.getByRole("textbox", { name: "Prompt" }).fill(QUESTION);
    await runExample(page);
    const base = column(page, "Base alone");
    const steered = column(page, "Steered");
    expect(await textOf(base)).toBe(await answerOf(input(0)));
    expect(await textOf(steered)).toBe(await answerOf(input(1)));
    expect(await textOf(base)).not.toBe(await textOf(steered));

    // The figure: the chosen token's share is that of the trace, and every model has a share of every candidate.
    const job = await runToEnd(stack.client, input(1, { steering: { alpha: 1, trace: true } }));
    const [trace] = job.output.trace!;
    const figure = page.getByRole("dialog", { name: "How this token was chosen" });
    await tokensOf(steered).first().hover();
    await page.locator("#figure[data-scored]").waitFor();
    const chosen = await figure.locator("tr.chosen td").allTextContents();
    const { base: inBase, expert, antiexpert, steered: inSteered } = trace!;
    const shares = [inBase, expert!, antiexpert!, inSteered].map(
      (logprob) => `${(100 * Math.exp(logprob)).toFixed(2)}%`,
    );
    expect(chosen).toEqual(shares);
    expect((await figure.locator("td").allTextContents()).filter((text) => text === "…")).toEqual(
      [],
    );

    // Another alpha runs the steered answer again, and marks where it changes.
    const submissions = countSubmissions(page);
    await page.getByLabel(/^alpha/).fill("0.1");
    await page.getByText(/First change to the answer before/).waitFor();
    await complete(page);
    expect(await textOf(steered)).toBe(await answerOf(input(0.1)));
    expect(await steered.locator(".changed").count()).toBe(1);
    expect(submissions.count).toBe(1);

    // Another token: the answer keeps what is before it and goes on from there.
    const third = tokensOf(steered).nth(2);
    const kept = (await tokensOf(steered).allTextContents()).slice(0, 2);
    await third.click();
    const other = figure.locator("tr:not(.chosen) button").first();
    const name = (await other.textContent())!;
    await other.click();
    await complete(page);
    const texts = await tokensOf(steered).allTextContents();
    expect(texts.slice(0, 2)).toEqual(kept);
    expect(`“${texts[2]!.replaceAll(" ", "\u00a0")}”`).toBe(name);

    await page.getByRole("button", { name: "Copy link" }).click();
    await page.getByText(/^The link is/).waitFor();
    const link = page.url();
    expect(link).not.toContain(stack.key.key);
    const shared = await openPlayground(undefined, new URL(link).hash.slice(1));
    expect(await shared.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe(QUESTION);
    expect(await shared.getByLabel(/^alpha/).inputValue()).toBe("0.1");
    await runExample(shared);
    expect(await textOf(column(shared, "Steered"))).toBe(await answerOf(input(0.1)));
  });

  test("the keyboard alone runs both answers, opens the figure of a token and closes it", async () => {
    const page = await openPlayground();
    await page.getByRole("textbox", { name: "Prompt" }).focus();
    await tabTo(page, "run");
    await page.keyboard.press("Enter");
    await complete(page);
    await tabTo(page, "steered-tokens");
    await page.keyboard.press("ArrowRight");
    const active = page.locator("#steered-tokens [aria-selected=true]");
    expect(await active.getAttribute("id")).toBe("steered-token-1");
    await page.keyboard.press("Enter");
    await page.locator("#figure[data-scored]").waitFor();
    expect(await page.evaluate("document.activeElement.closest('#figure') !== null")).toBe(true);
    await page.keyboard.press("Escape");
    expect(await page.locator("#figure").isVisible()).toBe(false);
    expect(await page.evaluate("document.activeElement.id")).toBe("steered-tokens");
  });

  test("at two widths, in light and dark, it is accessible, fits the screen and loads nothing from other hosts", async () => {
    let others: string[] = [];
    const page = await openPlayground(async (page) => {
      others = otherHosts(page, stack.edge.url);
    });
    await expectAccessible(page);
    await page.locator("summary").first().click();
    await page.locator("#code summary").click();
    await runExample(page);
    await page.getByRole("button", { name: "Sweep alpha" }).click();
    await page.locator("#sweep-table[aria-busy=false]").waitFor();
    await tokensOf(column(page, "Steered")).first().click();
    await page.locator("#figure[data-scored]").waitFor();
    for (const { width, colorScheme } of SCREENS) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme });
      await expectAccessible(page);
    }
    expect(others).toEqual([]);
  });

  test("texts of prompts, models, tokens and errors are shown as text", async () => {
    const attack = `<img src=x onerror="document.title='attacked'"><b>bold</b>`;
    const problems: string[] = [];
    const page = await openPlayground(
      async (page) => {
        page.on("pageerror", ({ message }) => problems.push(message));
        await addToMember(page, "**/v1/models", '"description":"', attack);
        await addToMember(page, "**/v1/jobs/*/events", '"token":"', attack);
        await addToMember(page, "**/v1/score", '"token":"', attack);
      },
      `prompt=${encodeURIComponent(attack)}`,
    );
    await page.getByText(attack).first().waitFor();
    await runExample(page);
    await page.locator("#code summary").click();
    await tokensOf(column(page, "Steered")).first().click();
    await page.locator("#figure[data-scored]").getByText(attack).first().waitFor();
    await page.route("**/v1/jobs", (route) =>
      route.fulfill({ status: 400, json: { error: { message: attack, param: attack } } }),
    );
    await run(page).click();
    await page.getByText(`Failed: ${attack}`).first().waitFor();
    expect(await page.locator("img, main b").count()).toBe(0);
    expect(await page.title()).toBe("trimtab playground");
    expect(problems).toEqual([]);
  });

  test("a stream whose connection is lost goes on after its last event", async () => {
    const resumed: string[] = [];
    const page = await openPlayground((page) =>
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

  test("the request as curl gives the same answer, and contains no key", async () => {
    const page = await openPlayground();
    await page.locator("#code summary").click();
    const code = (await page.getByLabel("curl code").textContent())!;
    const env = { ...process.env, TRIMTAB_API_KEY: stack.key.key };
    const { stdout } = spawnSync("bash", ["-c", code], { env, encoding: "utf8" });
    const deltas = [...stdout.matchAll(/^data: (\{.*\})$/gm)].map(
      ([, json]) => (JSON.parse(json!) as ChatChunk).choices[0]?.delta.content ?? "",
    );
    expect(deltas.join("")).toBe(await answerOf(input(1)));
    expect(code).not.toContain(stack.key.key);
  });

  test("a blind vote is kept in the browser, reveals the sides and is exported as JSONL", async () => {
    const page = await openPlayground();
    await page.getByRole("button", { name: "Compare blind" }).click();
    await page.getByRole("button", { name: "Left is better" }).click();
    await page.getByRole("heading", { name: /^Left: / }).waitFor();
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Export as JSONL" }).click(),
    ]);
    const chunks = await Array.fromAsync(await download.createReadStream());
    const vote = JSON.parse(Buffer.concat(chunks as Buffer[]).toString()) as Vote;
    expect(vote.better).toBe("left");
    const sides = [vote.left, vote.right].sort((a, b) => a.alpha - b.alpha);
    expect(sides).toEqual([
      { alpha: 0, text: await answerOf(input(0)) },
      { alpha: 1, text: await answerOf(input(1)) },
    ]);
  });

  test("a ticket in the address shows the answer of its job without a key, and does not stay there", async () => {
    const body = input(1, { logprobs: 1, steering: { alpha: 1, trace: true } });
    const { id, output } = await runToEnd(stack.client, body);
    const reply = await stack.client.request(`/v1/jobs/${id}/tickets`, {
      method: "POST",
      body: JSON.stringify({ action: "stream" }),
    });
    const { ticket } = (await reply.json()) as { ticket: string };
    const page = await openPage();
    await page.goto(`${stack.edge.url}/play#job=${id}&ticket=${ticket}`);
    const steered = column(page, "Steered");
    await steered.getByText(`Complete: ${id}`).waitFor();
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
});

interface ChatChunk {
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

interface Vote {
  readonly better: string;
  readonly left: { readonly alpha: number };
  readonly right: { readonly alpha: number };
}
