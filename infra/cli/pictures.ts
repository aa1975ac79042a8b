/** The pictures of `npm run screenshots`: which page, on which screen, and what is done on it before. */
import type { Page } from "playwright-core";

export interface Picture {
  readonly path: string;
  /** Parameters of the address's fragment, besides the key. */
  readonly settings?: string;
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
  readonly prepare?: (page: Page) => Promise<void>;
}

const WIDE = { width: 1280, height: 960 };
const PHONE = { width: 390, height: 844 };

const QUESTION = "What currency do people pay with in Belgium?";
const PLAY = {
  path: "/play",
  settings: new URLSearchParams({ prompt: QUESTION, max_tokens: "32", run: "1" }).toString(),
};

export const PICTURES: Readonly<Record<string, Picture>> = {
  play: { ...PLAY, ...WIDE, colorScheme: "light", prepare: showFigure },
  "play-dark": { ...PLAY, ...WIDE, colorScheme: "dark", prepare: showFigure },
  "play-phone": { ...PLAY, ...PHONE, colorScheme: "light", prepare: showAnswer },
  admin: { path: "/admin", ...WIDE, colorScheme: "light", prepare: showAll },
};

async function showAnswer(page: Page): Promise<void> {
  for (const name of ["base", "steered"]) {
    await page.locator(`#${name}-state`).getByText("Complete: it stopped").waitFor();
  }
}

/** Points at a token that the base would not have chosen. */
async function showFigure(page: Page): Promise<void> {
  await showAnswer(page);
  await page.locator("#steered-tokens .other").first().hover();
  await page.locator("#figure[data-scored]").waitFor();
}

async function showAll(page: Page): Promise<void> {
  await page.waitForLoadState("networkidle");
}
