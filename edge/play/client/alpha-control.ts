/** The slider of alpha, with its marks and the bounds of the model and of the key. */
import { element, input, part, setVariable } from "./dom.ts";

const MARKS = [0, 0.5, 1, 2];

export interface AlphaRange {
  readonly min: number;
  readonly max: number;
}

/** The bounds that are in force: those of the key, or from 0 to the model's maximum. */
export interface AlphaBounds extends AlphaRange {
  readonly modelMax: number;
  readonly isOfKey: boolean;
}

export class AlphaControl {
  readonly #slider = input("alpha");
  readonly #onInput: () => void;
  #isScheduled = false;

  constructor(onInput: () => void) {
    this.#onInput = onInput;
    this.#slider.addEventListener("input", () => {
      this.#show();
      onInput();
    });
  }

  get value(): number {
    return this.#slider.valueAsNumber;
  }

  set value(alpha: number) {
    this.#slider.value = String(alpha);
    this.#show();
  }

  setBounds(bounds: AlphaBounds): void {
    const { min, max, modelMax } = bounds;
    this.#slider.min = String(min);
    this.#slider.max = String(max);
    const inside = [...MARKS, 0, modelMax].filter((mark) => mark >= min && mark <= max);
    const marks = [...new Set([min, ...inside, max])].toSorted((a, b) => a - b);
    part("alpha-marks").replaceChildren(...marks.map((mark) => this.#mark(mark, bounds)));
    part("alpha-range").textContent = rangeText(bounds);
    this.#show();
  }

  /** With a schedule the slider has no effect. */
  set isScheduled(isScheduled: boolean) {
    this.#isScheduled = isScheduled;
    this.#slider.disabled = isScheduled;
    this.#show();
  }

  /** Marks are for the mouse; the keyboard moves the slider itself. */
  #mark(mark: number, { min, max, modelMax }: AlphaBounds): HTMLElement {
    const label = element("span", {}, String(mark));
    if (mark === min || mark === max || mark === modelMax) label.classList.add("bound");
    setVariable(label, "--at", (mark - min) / Math.max(max - min, 0.01));
    label.addEventListener("click", () => {
      if (this.#isScheduled) return;
      this.value = mark;
      this.#onInput();
    });
    return label;
  }

  #show(): void {
    const alpha = this.value;
    const text = this.#isScheduled ? "by schedule" : String(alpha);
    part("alpha-value").textContent = text;
    part("steered-alpha").textContent = `alpha ${text}`;
    part("alpha-text").textContent = this.#isScheduled
      ? "The schedule below gives alpha token by token."
      : meaningOf(alpha);
  }
}

function rangeText({ min, max, modelMax, isOfKey }: AlphaBounds): string {
  if (!isOfKey) return `This model allows 0 to ${modelMax}.`;
  return `This key allows ${min} to ${max}; the model's own range is 0 to ${modelMax}.`;
}

function meaningOf(alpha: number): string {
  if (alpha < 0) return "Below 0 the base moves away from what the tuning changed.";
  if (alpha === 0) return "Nothing is added: both answers are the same.";
  if (alpha < 1) return "A part of what the tuning changed is added to the base.";
  if (alpha === 1) return "All that the tuning changed is added to the base.";
  return "What the tuning changed is added more than once: it is exaggerated.";
}
