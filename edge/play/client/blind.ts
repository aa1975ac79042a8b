/** A blind comparison: two answers without names, a vote, and the votes of this browser as JSONL. */
import type { Api } from "./api.ts";
import { button, element, part } from "./dom.ts";
import { steeringOf, withAlpha, type Settings } from "./settings.ts";
import { answerOf } from "./sweep.ts";

const STORAGE_NAME = "trimtab.votes";
const VOTES_MAX = 1000;

interface Side {
  readonly steering: ReturnType<typeof steeringOf>;
  readonly text: string;
}

interface Vote {
  readonly time: string;
  readonly model: string;
  readonly prompt: string;
  readonly seed: number;
  readonly temperature: number;
  readonly left: Side;
  readonly right: Side;
  readonly better: "left" | "right" | "same";
}

export class BlindComparison {
  readonly #body = part("blind-body");
  #running = new AbortController();

  /** Asks for the base's and the steered answer and shows them in random order. */
  async run(api: Api, settings: Settings): Promise<void> {
    this.#running.abort();
    this.#running = new AbortController();
    const { signal } = this.#running;
    part("blind-results").hidden = false;
    this.#body.replaceChildren(element("p", { class: "state" }, "Both answers are being written"));
    try {
      const sides = await Promise.all(
        inRandomOrder([withAlpha(settings, 0), settings]).map(async (one) => ({
          steering: steeringOf(one),
          text: await answerOf(api, one, signal),
        })),
      );
      this.#ask(settings, sides as [Side, Side]);
    } catch (error) {
      if (signal.aborted) return;
      const message = error instanceof Error ? error.message : "unknown error";
      this.#body.replaceChildren(element("p", { class: "notice" }, `Failed: ${message}`));
    }
  }

  #ask(settings: Settings, [left, right]: readonly [Side, Side]): void {
    const { model, prompt, seed, temperature } = settings;
    const vote = (better: Vote["better"]) => {
      const time = new Date().toISOString();
      saveVote({ time, model, prompt, seed, temperature, left, right, better });
      this.#showVote(left, right);
    };
    const votes = element(
      "div",
      { class: "row", role: "group", "aria-label": "Your vote" },
      button("Left is better", () => vote("left")),
      button("Both are as good", () => vote("same")),
      button("Right is better", () => vote("right")),
    );
    this.#body.replaceChildren(pairOf("Left", left.text, "Right", right.text), votes);
    votes.querySelector("button")?.focus();
  }

  #showVote(left: Side, right: Side): void {
    const title = (name: string, { steering }: Side) => {
      if (!("alpha" in steering)) return `${name}: steered, alpha by schedule`;
      return `${name}: ${steering.alpha === 0 ? "base alone" : `steered, alpha ${steering.alpha}`}`;
    };
    const count = savedVotes().length;
    const row = element(
      "div",
      { class: "row" },
      element("span", { role: "status" }, `${count} votes are kept in this browser.`),
      button("Export as JSONL", exportVotes),
      button("Delete the votes", () => {
        localStorage.removeItem(STORAGE_NAME);
        this.#body.replaceChildren(element("p", {}, "The votes are deleted."));
      }),
    );
    const pair = pairOf(title("Left", left), left.text, title("Right", right), right.text);
    this.#body.replaceChildren(pair, row);
    row.querySelector("button")?.focus();
  }
}

function pairOf(leftTitle: string, left: string, rightTitle: string, right: string): HTMLElement {
  const side = (title: string, text: string) =>
    element("div", {}, element("h3", {}, title), element("p", { class: "answer" }, text));
  return element("div", { class: "columns" }, side(leftTitle, left), side(rightTitle, right));
}

function inRandomOrder<T>(both: readonly [T, T]): readonly T[] {
  const [bit] = crypto.getRandomValues(new Uint8Array(1));
  return bit! % 2 === 0 ? both : both.toReversed();
}

function savedVotes(): readonly Vote[] {
  return JSON.parse(localStorage.getItem(STORAGE_NAME) ?? "[]") as Vote[];
}

function saveVote(vote: Vote): void {
  const votes = [...savedVotes(), vote].slice(-VOTES_MAX);
  localStorage.setItem(STORAGE_NAME, JSON.stringify(votes));
}

function exportVotes(): void {
  const lines = savedVotes().map((vote) => `${JSON.stringify(vote)}\n`);
  const url = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  element("a", { href: url, download: "trimtab-votes.jsonl" }).click();
  URL.revokeObjectURL(url);
}
