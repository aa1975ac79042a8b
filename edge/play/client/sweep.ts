/** The answers of one prompt and seed at several alphas, below each other. */
import type { Api } from "./api.ts";
import { element, part } from "./dom.ts";
import { generationOf, messagesOf, withAlpha, type Settings } from "./settings.ts";

const STEPS = 5;
/** A browser opens at most six connections to a server, and the columns use some of them. */
const PARALLEL = 2;
const WAIT_SECONDS = 60;

/** Evenly spaced alphas from the smallest to the largest. */
export function alphasOf({ min, max }: { readonly min: number; readonly max: number }): number[] {
  const step = (max - min) / (STEPS - 1);
  const alphas = Array.from({ length: STEPS }, (_, i) => Number((min + i * step).toFixed(2)));
  return [...new Set(alphas)];
}

export class Sweep {
  #running = new AbortController();

  async run(api: Api, settings: Settings, alphas: readonly number[]): Promise<void> {
    this.#running.abort();
    this.#running = new AbortController();
    const { signal } = this.#running;
    const cells = alphas.map(() => element("td", {}, "…"));
    const rows = alphas.map((alpha, i) =>
      element("tr", {}, element("th", { scope: "row" }, `alpha ${alpha}`), cells[i]!),
    );
    const table = part("sweep-table");
    table.replaceChildren(element("tbody", {}, ...rows));
    table.setAttribute("aria-busy", "true");
    part("sweep-results").hidden = false;
    const waiting = [...alphas.entries()];
    const work = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [i, alpha] = next;
        const text = await answerOf(api, withAlpha(settings, alpha), signal).catch(
          (error: unknown) => `Failed: ${error instanceof Error ? error.message : "unknown error"}`,
        );
        if (signal.aborted) return;
        cells[i]!.textContent = text.trimStart();
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, work));
    if (!signal.aborted) table.setAttribute("aria-busy", "false");
  }
}

/** The text of an answer, read when it is complete. */
export async function answerOf(api: Api, settings: Settings, signal: AbortSignal): Promise<string> {
  const body = { ...generationOf(settings), messages: messagesOf(settings) };
  const headers = { prefer: `wait=${WAIT_SECONDS}` };
  const init = { method: "POST", body: JSON.stringify(body), headers, signal };
  let job = (await (await api.request("/v1/jobs", init)).json()) as Awaited<ReturnType<Api["job"]>>;
  while (job.ended_at === null) job = await api.job(job.id, signal, WAIT_SECONDS);
  if (job.error) throw new Error(job.error.message);
  return job.output.text;
}
