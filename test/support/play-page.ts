/** The playground in a browser: what its tests do with it. */
import type { Locator, Page } from "playwright-core";

export const QUESTION = "What currency do people pay with in Belgium?";

export type ColumnName = "Base alone" | "Steered";

/** Opens the page with an API key. @param fragment further settings, as a link has them */
export async function openPlayground(
  page: Page,
  { url, key, fragment = "" }: { url: string; key: string; fragment?: string },
): Promise<void> {
  const given = Object.fromEntries(new URLSearchParams(fragment));
  const parameters = new URLSearchParams({ key, max_tokens: "24", ...given });
  await page.goto(`${url}/play#${parameters.toString()}`);
  await page.locator("#model option").first().waitFor({ state: "attached" });
}

/**
 * Opens the page of a stack in a new tab, with the stack's own key.
 * @param stack is read when a page is opened
 */
export function playgroundOpener(
  openPage: () => Promise<Page>,
  stack: { readonly edge: { readonly url: string }; readonly key: { readonly key: string } },
) {
  return async (
    prepare: (page: Page) => Promise<unknown> = async () => {},
    fragment = "",
  ): Promise<Page> => {
    const page = await openPage();
    await prepare(page);
    await openPlayground(page, { url: stack.edge.url, key: stack.key.key, fragment });
    return page;
  };
}

export const column = (page: Page, name: ColumnName) =>
  page.getByRole("article", { name: new RegExp(`^${name}`) });

export const tokensOf = (article: Locator) => article.getByRole("option");

/** The answer for a screen reader, which has no marks between its tokens. */
export const textOf = (article: Locator) => article.locator("p.unseen").textContent();

export const runButton = (page: Page) => page.getByRole("button", { name: "Run both" });

/** Waits until no answer is running. */
export async function complete(page: Page): Promise<void> {
  for (const name of ["Base alone", "Steered"] as const) {
    await column(page, name).getByText("Complete: it stopped").waitFor();
  }
}

export async function runExample(page: Page): Promise<void> {
  await runButton(page).click();
  await complete(page);
}

/** Opens the figure of the first token of the steered answer, and waits until all candidates are scored. */
export async function openFigure(page: Page): Promise<void> {
  await tokensOf(column(page, "Steered")).first().click();
  await page.locator("#figure[data-scored]").waitFor();
}

/** Opens a part of the page that is closed at first. */
export const unfold = (page: Page, id: "steering" | "sampling" | "code") =>
  page.locator(`#${id} > summary`).click();
