/** The editor of a schedule: its knots as numbers, and the curve of alpha over the tokens, whose knots can be dragged. */
import { LIMITS } from "../../../shared/api/limits.ts";
import { alphaAt, type Knot } from "../../../shared/jobs/alpha-schedule.ts";
import type { AlphaRange } from "./alpha-control.ts";
import { button, element, part, setVariable } from "./dom.ts";

const SVG = "http://www.w3.org/2000/svg";

/** A knot while it is edited: a number field may be empty. */
interface EditedKnot {
  readonly at: HTMLInputElement;
  readonly alpha: HTMLInputElement;
}

export class ScheduleEditor {
  readonly #onChange: () => void;
  readonly #rows = part("schedule-knots");
  readonly #plot = part("schedule-plot");
  #knots: EditedKnot[] = [];
  #range: AlphaRange = { min: 0, max: 1 };
  #length = 1;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
    const alphas = (share: number) => () => this.#suggest(share);
    part("schedule-actions").append(
      button("Fade out", alphas(1), { class: "chip" }),
      button("Fade in", alphas(0), { class: "chip" }),
      button("Add a knot", () => this.#addKnot(), { class: "chip" }),
      button("No schedule", () => this.#set([]), { class: "chip" }),
    );
  }

  /** @param length tokens that the curve shows */
  setScale(range: AlphaRange, length: number): void {
    this.#range = range;
    this.#length = Math.max(1, length);
    this.#draw();
  }

  /** The knots by position; of two at one position the later one holds. */
  read(): Knot[] | null {
    const knots = this.#knots.flatMap(({ at, alpha }): Knot[] => {
      const knot = [at.valueAsNumber, alpha.valueAsNumber] as const;
      return knot.some(Number.isNaN) ? [] : [knot];
    });
    const byPosition = new Map(knots.map((knot) => [knot[0], knot]));
    const sorted = [...byPosition.values()].toSorted(([a], [b]) => a - b);
    return sorted.length === 0 ? null : sorted;
  }

  write(knots: readonly Knot[] | null): void {
    this.#knots = (knots ?? []).map((knot) => this.#knot(knot));
    this.#rows.replaceChildren(...this.#knots.map((knot, i) => this.#row(knot, i)));
    this.#draw();
  }

  #set(knots: readonly Knot[]): void {
    this.write(knots);
    this.#onChange();
  }

  /** From the largest alpha to 0 within half of the answer, or the other way. */
  #suggest(share: number): void {
    const { max } = this.#range;
    const end = Math.max(1, Math.round(this.#length / 2));
    this.#set([
      [0, share * max],
      [end, (1 - share) * max],
    ]);
  }

  #addKnot(): void {
    const knots = this.read() ?? [];
    if (knots.length >= LIMITS.scheduleKnotsMax) return;
    const last = knots.at(-1);
    const at = last === undefined ? 0 : last[0] + Math.max(1, Math.round(this.#length / 8));
    this.#set([...knots, [at, last?.[1] ?? Math.min(1, this.#range.max)]]);
    this.#knots.at(-1)?.at.focus();
  }

  #knot([at, alpha]: Knot): EditedKnot {
    const field = (value: number, attributes: Readonly<Record<string, string | number>>) => {
      const made = element("input", { type: "number", value, ...attributes });
      made.addEventListener("input", () => {
        this.#draw();
        this.#onChange();
      });
      return made;
    };
    return {
      at: field(at, { min: 0, max: LIMITS.maxTokensMax, step: 1 }),
      alpha: field(alpha, { min: this.#range.min, max: this.#range.max, step: 0.05 }),
    };
  }

  #row({ at, alpha }: EditedKnot, i: number): HTMLElement {
    const labelled = (text: string, field: HTMLInputElement) =>
      element("label", {}, `${text} `, field);
    const remove = button(
      "Remove",
      () => {
        this.#set((this.read() ?? []).filter(([position]) => position !== at.valueAsNumber));
        part("schedule-actions").querySelector("button")?.focus();
      },
      { class: "chip", "aria-label": `Remove knot ${i + 1}` },
    );
    return element("li", {}, labelled("from token", at), labelled("alpha", alpha), remove);
  }

  #draw(): void {
    const knots = this.read();
    this.#plot.hidden = knots === null;
    if (knots === null) return;
    const { min, max } = this.#range;
    const end = Math.max(this.#length, knots.at(-1)![0]);
    const heightOf = (alpha: number) => (max - alpha) / Math.max(max - min, 0.01);
    const positions = [0, ...knots.map(([at]) => at), end];
    const points = positions.map(
      (at) => `${(100 * at) / end},${100 * heightOf(alphaAt(knots, at))}`,
    );
    const svg = document.createElementNS(SVG, "svg");
    const line = document.createElementNS(SVG, "polyline");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("preserveAspectRatio", "none");
    line.setAttribute("points", points.join(" "));
    svg.append(line);
    const handles = this.#knots.map((knot) => {
      const handle = element("i", { class: "knot" });
      setVariable(handle, "--x", knot.at.valueAsNumber / end);
      setVariable(handle, "--y", heightOf(knot.alpha.valueAsNumber));
      handle.addEventListener("pointerdown", (event) => this.#drag(event, knot, end));
      return handle;
    });
    this.#plot.setAttribute("aria-label", curveText(knots));
    part("schedule-top").textContent = `alpha ${max}`;
    part("schedule-bottom").textContent = `alpha ${min}`;
    part("schedule-end").textContent = `token ${end}`;
    part("schedule-curve").replaceChildren(svg, ...handles);
  }

  /** Moves a knot with the pointer until it is released; its neighbours limit its position. */
  #drag(start: PointerEvent, { at, alpha }: EditedKnot, end: number): void {
    start.preventDefault();
    const { left, top, width, height } = part("schedule-curve").getBoundingClientRect();
    const { min, max } = this.#range;
    const others = this.#knots
      .filter((knot) => knot.at !== at)
      .map((knot) => knot.at.valueAsNumber);
    const own = at.valueAsNumber;
    const lowest = Math.max(0, ...others.filter((other) => other < own).map((other) => other + 1));
    const highest = Math.min(
      end,
      ...others.filter((other) => other > own).map((other) => other - 1),
    );
    const move = ({ clientX, clientY }: PointerEvent) => {
      const x = Math.round((end * (clientX - left)) / width);
      const y = max - ((max - min) * (clientY - top)) / height;
      at.value = String(Math.min(highest, Math.max(lowest, x)));
      alpha.value = String(Number(Math.min(max, Math.max(min, y)).toFixed(2)));
      this.#draw();
    };
    const released = new AbortController();
    const { signal } = released;
    addEventListener("pointermove", move, { signal });
    addEventListener(
      "pointerup",
      () => {
        released.abort();
        this.#onChange();
      },
      { signal },
    );
  }
}

function curveText(knots: readonly Knot[]): string {
  const texts = knots.map(([at, alpha]) => `${alpha} at token ${at}`);
  return `alpha over the answer: ${texts.join(", ")}`;
}
