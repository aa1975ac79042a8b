/** A column: an answer that grows token by token. Its tokens are a list in which the arrow keys move. */
import { element, part } from "./dom.ts";
import { Strip } from "./strip.ts";
import { interventionOf, nameOf, tintOf, type Token } from "./tokens.ts";

/** Nats and alpha at which a bar is full. */
const STRIP_KL_MAX = 3;
const STRIP_ALPHA_MAX = 2;

export interface ColumnListener {
  /** A token is pointed at, or is the list's active one. */
  onPoint(column: Column, position: number): void;
  /** A token is chosen by a click or by Enter. */
  onChoose(column: Column, position: number): void;
  onLeave(): void;
  /** The record of the answer's job is asked for. */
  onRecord(jobId: string): void;
}

export class Column {
  readonly name: "base" | "steered";
  readonly tokens: Token[] = [];
  readonly #listener: ColumnListener;
  readonly #list: HTMLElement;
  /** KL and alpha of each token. */
  readonly #shifts: Strip;
  readonly #alphas: Strip;
  readonly #spans: HTMLElement[] = [];
  /** The tokens of the run before, which the new ones are compared with. */
  #before: readonly Token[] = [];
  #changedAt: number | null = null;
  #active = -1;
  #jobId = "";

  constructor(name: "base" | "steered", listener: ColumnListener) {
    this.name = name;
    this.#listener = listener;
    this.#list = part(`${name}-tokens`);
    this.#shifts = new Strip(part(`${name}-strip`), STRIP_KL_MAX);
    this.#alphas = new Strip(part(`${name}-alphas`), STRIP_ALPHA_MAX);
    this.#listen();
    part(`${name}-job`).addEventListener("click", () => listener.onRecord(this.#jobId));
  }

  /** The element of a token. */
  spanAt(position: number): HTMLElement | undefined {
    return this.#spans[position];
  }

  /**
   * Begins an answer. The tokens of the one before stay visible until new ones replace them.
   * @param kept tokens that the answer begins with
   */
  begin(kept: readonly Token[] = []): void {
    this.#before = [...this.tokens];
    this.#changedAt = null;
    this.tokens.length = 0;
    for (const span of this.#spans) {
      span.classList.remove("changed");
      span.classList.add("stale");
    }
    part(`${this.name}-summary`).replaceChildren();
    this.#list.setAttribute("aria-busy", "true");
    this.add(kept);
  }

  add(tokens: readonly Token[]): void {
    for (const token of tokens) this.#addOne(token);
    if (this.tokens.length === 0) return;
    part(`${this.name}-shift`).hidden = this.name === "base";
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-label", `Tokens of the answer: ${this.#title}`);
    this.#list.tabIndex = 0;
  }

  /** Ends an answer: what is left of the one before disappears. */
  end(): void {
    for (const span of this.#spans.splice(this.tokens.length)) span.remove();
    if (this.tokens.length === 0) this.#list.removeAttribute("role");
    this.#list.removeAttribute("aria-busy");
    part(`${this.name}-text`).textContent = this.text;
    const { tokens, klMean, klMax, alphaMin, alphaMax } = interventionOf(this.tokens);
    const label = `KL of each of ${tokens} tokens: mean ${klMean.toFixed(2)} nats, largest ${klMax.toFixed(2)} nats`;
    this.#shifts.end(this.tokens.length, label);
    this.#alphas.end(this.tokens.length, `alpha of each token: ${alphaMin} to ${alphaMax}`);
    this.#showAlphas(alphaMin !== alphaMax);
    if (this.#active >= this.tokens.length) this.#setActive(-1);
  }

  get text(): string {
    return this.tokens.map(({ text }) => text).join("");
  }

  /** The position of the first token that differs from the answer before; null if none does. */
  get changedAt(): number | null {
    return this.#changedAt;
  }

  setState(text: string): void {
    part(`${this.name}-state`).textContent = text;
  }

  setJob(id: string): void {
    this.#jobId = id;
    part(`${this.name}-job`).textContent = id;
    part(`${this.name}-job`).hidden = false;
  }

  setSummary(...lines: readonly string[]): void {
    const summary = part(`${this.name}-summary`);
    summary.replaceChildren(...lines.map((line) => element("span", {}, line)));
  }

  focus(): void {
    this.#list.focus();
  }

  get #title(): string {
    return this.name === "base" ? "base alone" : "steered";
  }

  #addOne(token: Token): void {
    const position = this.tokens.push(token) - 1;
    const span = this.#spans[position] ?? this.#appendSpan(position);
    const { trace, isEnd } = token;
    const isSteered = this.name === "steered";
    const classes = ["token", isSteered && trace ? tintOf(trace.gain) : ""];
    if (isSteered && trace && !trace.same) classes.push("other");
    if (isEnd) classes.push("end");
    const before = this.#before[position];
    if (this.#changedAt === null && before !== undefined && before.id !== token.id) {
      this.#changedAt = position;
      classes.push("changed");
    }
    span.className = classes.filter((name) => name !== "").join(" ");
    span.textContent = shownText(token);
    span.setAttribute("aria-label", this.#labelOf(token));
    this.#shifts.set(position, trace?.kl ?? 0);
    this.#alphas.set(position, trace?.alpha ?? 0);
  }

  #appendSpan(position: number): HTMLElement {
    const span = element("span", {
      id: `${this.name}-token-${position}`,
      role: "option",
      "aria-selected": "false",
    });
    this.#spans.push(span);
    this.#list.append(span);
    return span;
  }

  #labelOf({ text, isEnd, trace }: Token): string {
    const name = isEnd ? nameOf("") : nameOf(text);
    const isOther = trace && !trace.same && this.name === "steered";
    return isOther ? `${name}, the base would have said ${nameOf(trace.base_token.token)}` : name;
  }

  /** One alpha for all tokens is in the title already. */
  #showAlphas(areShown: boolean): void {
    part(`${this.name}-alphas`).hidden = !areShown;
    part(`${this.name}-alphas-text`).hidden = !areShown;
  }

  #listen(): void {
    const list = this.#list;
    list.addEventListener("pointerover", ({ target, pointerType }) => {
      const position = this.#positionOf(target);
      if (position >= 0 && pointerType === "mouse") this.#listener.onPoint(this, position);
    });
    list.addEventListener("pointerleave", () => this.#listener.onLeave());
    list.addEventListener("click", ({ target }) => {
      const position = this.#positionOf(target);
      if (position < 0) return;
      this.#setActive(position);
      this.#listener.onChoose(this, position);
    });
    list.addEventListener("keydown", (event) => this.#onKey(event));
    list.addEventListener("focus", () => this.#setActive(Math.max(0, this.#active)));
    list.addEventListener("blur", () => this.#listener.onLeave());
  }

  #positionOf(target: EventTarget | null): number {
    const position = this.#spans.indexOf(target as HTMLElement);
    return position < this.tokens.length ? position : -1;
  }

  #onKey(event: KeyboardEvent): void {
    const last = this.tokens.length - 1;
    const moves: Readonly<Record<string, number>> = {
      ArrowRight: this.#active + 1,
      ArrowDown: this.#active + 1,
      ArrowLeft: this.#active - 1,
      ArrowUp: this.#active - 1,
      Home: 0,
      End: last,
    };
    const target = moves[event.key];
    if (target !== undefined) {
      event.preventDefault();
      this.#setActive(Math.min(Math.max(target, 0), last));
      this.#listener.onPoint(this, this.#active);
    } else if ((event.key === "Enter" || event.key === " ") && this.#active >= 0) {
      event.preventDefault();
      this.#listener.onChoose(this, this.#active);
    }
  }

  #setActive(position: number): void {
    this.#spans[this.#active]?.setAttribute("aria-selected", "false");
    this.#active = position;
    const span = this.#spans[position];
    span?.setAttribute("aria-selected", "true");
    if (span) this.#list.setAttribute("aria-activedescendant", span.id);
    else this.#list.removeAttribute("aria-activedescendant");
  }
}

function shownText({ text, isEnd }: Token): string {
  if (isEnd) return "end";
  // A token that is only a part of a character.
  if (text === "") return "·";
  return text.replaceAll("\n", "⏎\n");
}
