/** The pictures of `npm run screenshots`: which page, on which screen, and what is done on it before. */
import type { Page } from "playwright-core";

export interface Picture {
  readonly path: string;
  /** Parameters of the address's fragment, besides the key. */
  readonly settings?: string;
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
  /** Jobs that run or wait in the meantime. */
  readonly jobs?: number;
  readonly prepare?: (page: Page) => Promise<void>;
}

const WIDE = { width: 1280, height: 1080 };
/** A phone's width; the height holds both answers. */
const PHONE = { width: 390, height: 1560 };

const PLAY = {
  path: "/play",
  settings: new URLSearchParams({
    model: "gsm-mini",
    prompt: "Rosa has 34 balls and Sam has 28 balls. How many balls do they have together?",
    max_tokens: "40",
    run: "1",
  }).toString(),
};

export const PICTURES: Readonly<Record<string, Picture>> = {
  play: { ...PLAY, ...WIDE, colorScheme: "light", prepare: showFigure },
  "play-sweep": { ...PLAY, ...WIDE, colorScheme: "dark", prepare: showSweep },
  "play-phone": { ...PLAY, ...PHONE, colorScheme: "dark", prepare: showAnswers },
  // More than the worker has slots.
  admin: { path: "/admin", ...WIDE, jobs: 12, colorScheme: "light", prepare: showParts },
};

async function showAnswers(page: Page): Promise<void> {
  for (const name of ["base", "steered"]) {
    await page.locator(`#${name}-state`).getByText("Complete: it stopped").waitFor();
  }
}

/** Points at a token that the base would not have chosen. */
async function showFigure(page: Page): Promise<void> {
  await showAnswers(page);
  await page.locator("#steered-tokens .other").first().hover();
  await page.locator("#figure[data-scored]").waitFor();
}

async function showSweep(page: Page): Promise<void> {
  await showAnswers(page);
  await page.getByRole("button", { name: "Sweep alpha" }).click();
  await page.locator("#sweep-table[aria-busy=false]").waitFor();
  await page.locator("#sweep-results").scrollIntoViewIfNeeded();
}

async function showParts(page: Page): Promise<void> {
  await page.getByText(/^Updated /).waitFor();
}
