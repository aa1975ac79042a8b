/**
 * The figure of a token: its probability and that of other candidates under base, expert, antiexpert and steered. The token's own
 * values come with the answer; those of the others are scored when the figure is open.
 */
import type { ScoreTotals } from "../../../shared/api/score.ts";
import type { TokenShift } from "../../../shared/api/token-details.ts";
import type { Column } from "./column.ts";
import { button, element, part, percent, setVariable } from "./dom.ts";
import { nameOf, type Token } from "./tokens.ts";

/** Pointing at a token for so long opens its figure, and for so long in all the other candidates are scored. */
const OPEN_MS = 80;
const SCORE_MS = 250;
/** Time to move from the token into the figure. */
const CLOSE_MS = 300;
const CANDIDATES_MAX = 6;
const GAP_PX = 6;
/** Windows in which style.css puts the figure at the lower edge. */
const NARROW = "(max-width: 48rem)";

const ROLES = ["base", "expert", "antiexpert", "steered"] as const;
type Role = (typeof ROLES)[number];
type Logprobs = Pick<ScoreTotals, Role>;

export interface Candidate {
  readonly id: number;
  readonly token: string;
}

export interface FigureActions {
  /** The log-probabilities of candidates at a position, in the candidates' order. */
  score(
    column: Column,
    position: number,
    candidates: readonly Candidate[],
    signal: AbortSignal,
  ): Promise<readonly Logprobs[]>;
  /** The alpha that the settings ask for at a position; null if they are not known. */
  alphaAt(column: Column, position: number): number | null;
  /** Generation goes on from this token instead. */
  branch(column: Column, position: number, candidate: Candidate): void;
}

export class Figure {
  readonly #actions: FigureActions;
  readonly #box = part("figure");
  #timer: ReturnType<typeof setTimeout> | undefined;
  #scoring = new AbortController();
  #isPinned = false;
  #shown: { readonly column: Column; readonly position: number } | null = null;

  constructor(actions: FigureActions) {
    this.#actions = actions;
    this.#box.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    this.#box.addEventListener("pointerleave", () => this.leave());
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape") this.close();
    });
    document.addEventListener("pointerdown", ({ target }) => {
      const isOutside = target instanceof Node && !this.#box.contains(target);
      if (isOutside && !(target as Element).classList.contains("token")) this.close();
    });
  }

  point(column: Column, position: number): void {
    if (this.#isPinned) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#show(column, position), OPEN_MS);
  }

  /** Opens the figure until it is closed, and moves the focus into it. */
  pin(column: Column, position: number): void {
    clearTimeout(this.#timer);
    this.#isPinned = true;
    this.#show(column, position);
    if (matchMedia(NARROW).matches) column.spanAt(position)?.scrollIntoView({ block: "start" });
    this.#box.querySelector("button")?.focus({ preventScroll: true });
  }

  leave(): void {
    clearTimeout(this.#timer);
    if (!this.#isPinned) this.#timer = setTimeout(() => this.close(), CLOSE_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
    const hadFocus = this.#box.contains(document.activeElement);
    this.#scoring.abort();
    this.#isPinned = false;
    this.#box.hidden = true;
    if (hadFocus) this.#shown?.column.focus();
    this.#shown = null;
  }

  #show(column: Column, position: number): void {
    const token = column.tokens[position];
    const anchor = column.spanAt(position);
    if (token === undefined || anchor === undefined) return;
    this.#scoring.abort();
    this.#scoring = new AbortController();
    this.#shown = { column, position };
    const candidates = candidatesOf(token);
    const rows = new Map(
      candidates.map((candidate) => [candidate.id, this.#row(column, position, candidate)]),
    );
    const { trace } = token;
    if (trace) fillRow(rows.get(token.id)!, trace);
    this.#box.replaceChildren(
      element("h3", {}, `Token ${position + 1}: ${nameOf(token.isEnd ? "" : token.text)}`),
      ...(trace ? [element("p", {}, verdictOf(token, column.name))] : []),
      ...(trace ? [element("p", { class: "hint" }, reasonOf(trace))] : []),
      table([...rows.values()]),
      ...detailsOf(token, this.#actions.alphaAt(column, position)),
      element("p", { class: "hint" }, "Choose a token to go on from there. Esc closes."),
    );
    this.#box.hidden = false;
    this.#place(anchor);
    const { signal } = this.#scoring;
    setTimeout(() => {
      if (!signal.aborted) void this.#fill(column, position, rows, signal);
    }, SCORE_MS);
  }

  async #fill(
    column: Column,
    position: number,
    rows: ReadonlyMap<number, HTMLTableRowElement>,
    signal: AbortSignal,
  ): Promise<void> {
    const candidates = candidatesOf(column.tokens[position]!);
    try {
      const scores = await this.#actions.score(column, position, candidates, signal);
      for (const [i, { id }] of candidates.entries()) {
        if (scores[i]) fillRow(rows.get(id)!, scores[i]);
      }
      this.#box.dataset["scored"] = "";
    } catch (error) {
      if (signal.aborted) return;
      const message = error instanceof Error ? error.message : "";
      this.#box.append(
        element("p", { class: "notice" }, `The candidates could not be scored: ${message}`),
      );
    }
  }

  #row(column: Column, position: number, candidate: Candidate): HTMLTableRowElement {
    const name = nameOf(candidate.token);
    const choose = button(
      name,
      () => {
        this.close();
        this.#actions.branch(column, position, candidate);
      },
      { class: "chip", "aria-label": `Go on from ${name}` },
    );
    const row = element("tr", {}, element("th", { scope: "row" }, choose));
    if (candidate.id === column.tokens[position]?.id) row.classList.add("chosen");
    row.append(...ROLES.map((role) => element("td", { class: role }, "…")));
    return row;
  }

  /** Below the token, or above it where the window ends; a narrow window has the figure at its lower edge (style.css). */
  #place(anchor: HTMLElement): void {
    delete this.#box.dataset["scored"];
    const { left, top, bottom } = anchor.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.#box;
    const fitsBelow = bottom + GAP_PX + offsetHeight <= window.innerHeight;
    const y = fitsBelow ? bottom + GAP_PX : Math.max(GAP_PX, top - GAP_PX - offsetHeight);
    const x = Math.max(GAP_PX, Math.min(left, window.innerWidth - offsetWidth - GAP_PX));
    setVariable(this.#box, "--x", x);
    setVariable(this.#box, "--y", y);
  }
}

/** The chosen token, the base's, the likeliest ones, and those that gained or lost most. */
function candidatesOf({ id, text, isEnd, trace, top }: Token): Candidate[] {
  const named = [...top, ...(trace ? [trace.base_token, ...trace.promoted, ...trace.demoted] : [])];
  const own = named.find((other) => other.id === id) ?? { id, token: isEnd ? "" : text };
  const first = trace ? [own, trace.base_token] : [own];
  const unique = new Map([...first, ...named].map((one) => [one.id, one] as const));
  return [...unique.values()].slice(0, CANDIDATES_MAX).map(({ id, token }) => ({ id, token }));
}

function table(rows: readonly HTMLTableRowElement[]): HTMLTableElement {
  const heads = ROLES.map((role) => element("th", { scope: "col", class: role }, role));
  return element(
    "table",
    {},
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "token"), ...heads)),
    element("tbody", {}, ...rows),
  );
}

function fillRow(row: HTMLTableRowElement, logprobs: Logprobs): void {
  for (const [i, role] of ROLES.entries()) {
    const cell = row.cells[i + 1]!;
    const logprob = logprobs[role];
    const share = logprob === null ? 0 : Math.exp(logprob);
    const bar = element("span", { class: "bar" });
    setVariable(bar, "--share", share);
    cell.replaceChildren(bar, logprob === null ? "not run" : percent(share));
  }
}

function verdictOf({ trace }: Token, column: Column["name"]): string {
  if (!trace || column === "base") return "The base alone chose this token.";
  if (trace.same) return "The base alone would have said the same.";
  return `The base alone would have said ${nameOf(trace.base_token.token)}.`;
}

/** Without normalization, steered = base * (expert / antiexpert) ^ alpha. */
function reasonOf({ expert, antiexpert, alpha }: TokenShift): string {
  if (expert === null || antiexpert === null) return "Expert and antiexpert did not run here.";
  const ratio = Math.exp(Math.abs(expert - antiexpert));
  const times = `${ratio < 10 ? ratio.toFixed(1) : ratio.toFixed(0)} times as ${expert < antiexpert ? "unlikely" : "likely"}`;
  const power = alpha === 1 ? "that factor" : `that factor, to the power of ${roundAlpha(alpha)}`;
  return `Tuning made this token ${times} in the small model. The base's probability is multiplied by ${power}; then all are scaled to 100%.`;
}

function detailsOf({ trace }: Token, asked: number | null): HTMLElement[] {
  if (!trace) return [];
  const listed = (tokens: typeof trace.promoted) =>
    tokens.map(
      ({ token, change }) => `${nameOf(token)} ${change > 0 ? "+" : ""}${percent(change)}`,
    );
  const entries = [
    ["promoted", listed(trace.promoted).join(", ") || "none"],
    ["demoted", listed(trace.demoted).join(", ") || "none"],
    ["gain", `${trace.gain.toFixed(2)} nats, ${Math.exp(trace.gain).toFixed(2)} times the base's`],
    ["KL", `${trace.kl.toFixed(2)} nats between steered and base`],
    ["alpha here", alphaText(trace.alpha, asked)],
    ["draft", trace.drafted ? "accepted: the token had been drafted" : "none that was accepted"],
  ];
  return [
    element(
      "dl",
      {},
      ...entries.flatMap(([name, value]) => [element("dt", {}, name!), element("dd", {}, value!)]),
    ),
  ];
}

const roundAlpha = (alpha: number) => Number(alpha.toFixed(3));

/** @param asked the alpha before the guards */
function alphaText(alpha: number, asked: number | null): string {
  const isLowered = asked !== null && Math.abs(alpha - asked) > 5e-4;
  return `${roundAlpha(alpha)}${isLowered ? `, a guard lowered it from ${roundAlpha(asked)}` : ""}`;
}
