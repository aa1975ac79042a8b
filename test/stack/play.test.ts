/** The playground in a real Chromium, with real models. */
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import type { JobInput } from "../../infra/cli/job-client.ts";
import {
  column,
  complete,
  openFigure,
  playgroundOpener,
  QUESTION,
  runButton,
  runExample,
  textOf,
  tokensOf,
  unfold,
} from "../support/play-page.ts";
import {
  addToMember,
  countSubmissions,
  expectAccessible,
  otherHosts,
  SCREENS,
  tabTo,
  useChromium,
} from "../support/web-page.ts";
import { runToEnd, useStack } from "./stack.ts";

const stack = useStack();
const openPage = useChromium();

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

/** The name of a token in the figure, from its text in the answer. */
const nameOf = (text: string) => `“${text.replaceAll("⏎\n", "⏎").replaceAll(" ", "\u00a0")}”`;

/** Opens the playground with the test's key. */
const open = playgroundOpener(openPage, stack);

test("a person types, sees both answers, moves alpha, looks at a token, goes on from another and shares a link", async () => {
  const page = await open();
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
  expect((await figure.locator("td").allTextContents()).filter((text) => text === "…")).toEqual([]);

  // Another alpha runs the steered answer again, and marks where it changes.
  const submissions = countSubmissions(page);
  await page.getByRole("slider", { name: "alpha" }).fill("0.1");
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
  expect(nameOf(texts[2]!)).toBe(name);

  await page.getByRole("button", { name: "Copy link" }).click();
  await page.getByText(/^The link is/).waitFor();
  const link = page.url();
  expect(link).not.toContain(stack.key.key);
  const shared = await open(undefined, new URL(link).hash.slice(1));
  expect(await shared.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe(QUESTION);
  expect(await shared.getByRole("slider", { name: "alpha" }).inputValue()).toBe("0.1");
  await runExample(shared);
  expect(await textOf(column(shared, "Steered"))).toBe(await answerOf(input(0.1)));
});

test("the keyboard alone runs both answers, moves alpha, opens the figure of a token and goes on from another", async () => {
  const page = await open();
  const { keyboard } = page;
  await page.getByRole("textbox", { name: "Prompt" }).focus();
  await keyboard.press("Control+a");
  await keyboard.type(QUESTION);
  await tabTo(page, "run");
  await keyboard.press("Enter");
  await complete(page);
  // The slider is before the button.
  await page.locator("#run").press("Shift+Tab");
  expect(await page.evaluate("document.activeElement.id")).toBe("alpha");
  await keyboard.press("Home");
  await page.getByText(/First change to the answer before/).waitFor();
  await complete(page);
  const steered = column(page, "Steered");
  expect(await textOf(steered)).toBe(await answerOf(input(0)));

  await tabTo(page, "steered-tokens");
  await keyboard.press("ArrowRight");
  const active = page.locator("#steered-tokens [aria-selected=true]");
  expect(await active.getAttribute("id")).toBe("steered-token-1");
  await keyboard.press("Enter");
  await page.locator("#figure[data-scored]").waitFor();
  expect(await page.evaluate("document.activeElement.closest('#figure') !== null")).toBe(true);
  await keyboard.press("Escape");
  expect(await page.locator("#figure").isVisible()).toBe(false);
  expect(await page.evaluate("document.activeElement.id")).toBe("steered-tokens");

  await keyboard.press("Enter");
  await page.locator("#figure[data-scored]").waitFor();
  // The first button is the token's own.
  await keyboard.press("Tab");
  const name = (await page.locator("#figure :focus").textContent())!;
  await keyboard.press("Enter");
  await complete(page);
  const second = (await tokensOf(steered).nth(1).textContent())!;
  expect(nameOf(second)).toBe(name);
});

test("schedule, experts, guards, stop strings and format are sent, shown as code, and kept in a link", async () => {
  const page = await open();
  await unfold(page, "steering");
  await unfold(page, "sampling");
  await page.getByRole("button", { name: "Fade out" }).click();
  await page.getByLabel("alpha", { exact: true }).nth(1).fill("0.5");
  const curve = page.getByRole("img", { name: /^alpha over the answer/ });
  await curve.and(page.getByLabel("2 at token 0, 0.5 at token 12")).waitFor();
  await page.getByRole("button", { name: "Add the expert of gsm-mini" }).click();
  await page.getByLabel("Weight of gsm-mini").fill("0.25");
  await page.getByLabel("kl_budget").fill("1.5");
  await page.getByLabel("stop", { exact: true }).fill("\\n");
  await page.getByLabel("response_format").selectOption("regex");
  await page.getByLabel("Schema, expression or grammar").fill("[a-z ]{40,60}");
  const steering = {
    schedule: [
      [0, 2],
      [12, 0.5],
    ],
    pairs: [
      { model: "atlas-qa", weight: 1 },
      { model: "gsm-mini", weight: 0.25 },
    ],
    guards: { kl_budget: 1.5 },
  } as const;
  const response_format = { type: "regex", pattern: "[a-z ]{40,60}" } as const;
  const body = input(0, { steering, response_format, stop: ["\n"] } as unknown as JobInput);

  await runExample(page);
  const steered = column(page, "Steered");
  expect(await textOf(steered)).toBe(await answerOf(body));
  // The guard and the schedule give each token its own alpha.
  await steered.getByRole("img", { name: /^alpha of each token/ }).waitFor();

  await unfold(page, "code");
  await page.getByRole("button", { name: "JSON", exact: true }).click();
  const code = JSON.parse((await page.getByLabel("JSON code").textContent())!) as object;
  expect(code).toEqual(body);
  // The job's record has its request.
  await steered.getByRole("button", { name: /^job_/ }).click();
  const record = page.getByRole("region", { name: /^The job job_/ });
  const shown = (await record.locator("pre").textContent())!;
  expect((JSON.parse(shown) as { model: string; state: string }).state).toBe("succeeded");

  await page.getByRole("button", { name: "Copy link" }).click();
  await page.getByText(/^The link is/).waitFor();
  const shared = await open(undefined, new URL(page.url()).hash.slice(1));
  await unfold(shared, "code");
  await shared.getByRole("button", { name: "JSON", exact: true }).click();
  expect(JSON.parse((await shared.getByLabel("JSON code").textContent())!)).toEqual(body);
});

test("at two widths, in light and dark, it is accessible, fits the screen and loads nothing from other hosts", async () => {
  let others: string[] = [];
  const page = await open(async (page) => {
    others = otherHosts(page, stack.edge.url);
  });
  await expectAccessible(page);
  for (const part of ["steering", "sampling", "code"] as const) await unfold(page, part);
  await page.getByRole("button", { name: "Fade out" }).click();
  await page.getByRole("button", { name: "Add the expert of gsm-mini" }).click();
  await page.getByLabel("response_format").selectOption("grammar");
  await page.getByLabel("response_format").selectOption("text");
  await runExample(page);
  await page.getByRole("button", { name: "Sweep alpha" }).click();
  await page.locator("#sweep-table[aria-busy=false]").waitFor();
  await column(page, "Steered").getByRole("button", { name: /^job_/ }).click();
  await page.locator("#record[aria-busy=false]").waitFor();
  await openFigure(page);
  for (const { width, colorScheme } of SCREENS) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await expectAccessible(page);
  }
  expect(others).toEqual([]);
});

test("texts of prompts, models, tokens, metadata and errors are shown as text", async () => {
  const attack = `<img src=x onerror="document.title='attacked'"><b>bold</b>`;
  const problems: string[] = [];
  const page = await open(
    async (page) => {
      page.on("pageerror", ({ message }) => problems.push(message));
      await addToMember(page, "**/v1/models", '"description":"', attack);
      await addToMember(page, "**/v1/jobs/*/events", '"token":"', attack);
      await addToMember(page, "**/v1/score", '"token":"', attack);
    },
    `prompt=${encodeURIComponent(attack)}&stop=${encodeURIComponent(JSON.stringify([attack]))}`,
  );
  await page.getByText(attack).first().waitFor();
  await runExample(page);
  await unfold(page, "code");
  await openFigure(page);
  await page.locator("#figure").getByText(attack).first().waitFor();
  await page.keyboard.press("Escape");
  await page.route("**/v1/jobs", (route) =>
    route.fulfill({ status: 400, json: { error: { message: attack, param: attack } } }),
  );
  await runButton(page).click();
  await page.getByText(`Failed: ${attack}`).first().waitFor();

  const { id } = await stack.client.submit(input(1, { metadata: { note: attack } }));
  await page.goto(`${stack.edge.url}/play#job=${id}`);
  await page.getByLabel(`Record of ${id}`).getByText("onerror=").waitFor();
  expect(await page.locator("img, main b").count()).toBe(0);
  expect(await page.title()).toBe("trimtab playground");
  expect(problems).toEqual([]);
});

test("the request as curl gives the same answer, and contains no key", async () => {
  const page = await open();
  await unfold(page, "code");
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
  const page = await open();
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
  const sides = [vote.left, vote.right].sort((a, b) => a.steering.alpha - b.steering.alpha);
  expect(sides).toEqual([
    { steering: { alpha: 0 }, text: await answerOf(input(0)) },
    { steering: { alpha: 1 }, text: await answerOf(input(1)) },
  ]);
});

interface ChatChunk {
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}

interface Vote {
  readonly better: string;
  readonly left: { readonly steering: { readonly alpha: number } };
  readonly right: { readonly steering: { readonly alpha: number } };
}
