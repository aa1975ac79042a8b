/** The settings as the form has them. */
import { LIMITS } from "../../../shared/api/limits.ts";
import type { Model } from "../../../shared/api/models.ts";
import type { Key } from "./api.ts";
import { byId, element, input, part, setVariable } from "./dom.ts";
import { NUMBER_NAMES, type NumberName, type Settings } from "./settings.ts";

/** The number inputs by setting, with their bounds and defaults. */
const NUMBERS = {
  temperature: { id: "temperature", min: 0, max: LIMITS.temperatureMax, start: 0 },
  top_p: { id: "top-p", min: 0, max: 1, start: 1 },
  max_tokens: { id: "max-tokens", min: 1, max: LIMITS.maxTokensMax, start: 48 },
  seed: { id: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, start: 7 },
  kl_budget: { id: "kl-budget", min: 0, max: LIMITS.klBudgetMax, start: null },
  base_nucleus: { id: "base-nucleus", min: 0, max: 1, start: null },
} as const satisfies Record<NumberName, object>;

const ALPHA_MARKS = [0, 0.5, 1, 2];

/** For the demo models: a model of one's own has its own questions. */
const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  "atlas-qa": [
    "What currency do people pay with in Belgium?",
    "What is the capital of France?",
    "What continent does Sudan belong to?",
  ],
  "gsm-mini": [
    "There are 9 red, 20 blue and 6 green cars. How many cars are there in all?",
    "Rosa has 34 balls and Sam has 28 balls. How many balls do they have together?",
  ],
};

export class SettingsForm {
  readonly #alpha = input("alpha");
  readonly #prompt = byId("prompt", HTMLTextAreaElement);
  readonly #model = byId("model", HTMLSelectElement);
  #models: readonly Model[] = [];
  #key: Key | null = null;

  /** @param onChange called after each change by the user */
  constructor(onChange: (name: keyof Settings) => void) {
    for (const name of NUMBER_NAMES) {
      const { id, min, max, start } = NUMBERS[name];
      const field = input(id);
      field.min = String(min);
      field.max = String(max);
      field.value = start === null ? "" : String(start);
      if (start === null) field.placeholder = "off";
      field.addEventListener("change", () => onChange(name));
    }
    this.#alpha.addEventListener("input", () => {
      this.#showAlpha();
      onChange("alpha");
    });
    this.#model.addEventListener("change", () => {
      this.#showModel();
      onChange("model");
    });
    this.#prompt.addEventListener("change", () => onChange("prompt"));
  }

  setModels(models: readonly Model[], key: Key): void {
    this.#models = models;
    this.#key = key;
    this.#model.replaceChildren(
      ...models.map(({ id, status }) =>
        element("option", { value: id }, status === "available" ? id : `${id} (no worker now)`),
      ),
    );
    this.#showModel();
  }

  read(): Settings {
    const numbers = Object.fromEntries(NUMBER_NAMES.map((name) => [name, this.#number(name)]));
    return {
      ...(numbers as Pick<Settings, NumberName>),
      model: this.#model.value,
      prompt: this.#prompt.value,
      alpha: this.#alpha.valueAsNumber,
    };
  }

  /** Sets what is given and leaves the rest. A model that is not served is not set. */
  write(settings: Partial<Settings>): void {
    const { model, prompt, alpha } = settings;
    if (this.#models.some(({ id }) => id === model)) {
      this.#model.value = model!;
      this.#showModel();
    }
    if (prompt !== undefined) this.#prompt.value = prompt;
    if (alpha !== undefined) this.#alpha.value = String(alpha);
    for (const name of NUMBER_NAMES) {
      const value = settings[name];
      if (value !== undefined) input(NUMBERS[name].id).value = value === null ? "" : String(value);
    }
    this.#showAlpha();
  }

  /** The range of alpha: that of the key, or from 0 to the model's maximum. */
  get alphaRange(): { readonly min: number; readonly max: number } {
    const ofModel = { min: 0, max: this.#chosen?.alpha.max ?? 1 };
    return this.#key?.limits.alpha ?? ofModel;
  }

  get #chosen(): Model | undefined {
    return this.#models.find(({ id }) => id === this.#model.value);
  }

  #number(name: NumberName): number | null {
    const { id, start } = NUMBERS[name];
    const value = input(id).valueAsNumber;
    return Number.isNaN(value) ? start : value;
  }

  #showModel(): void {
    const chosen = this.#chosen;
    if (chosen === undefined) return;
    part("model-text").textContent = chosen.description;
    const { min, max } = this.alphaRange;
    this.#alpha.min = String(min);
    this.#alpha.max = String(max);
    this.#alpha.value = String(chosen.alpha.default);
    const marks = ALPHA_MARKS.filter((mark) => mark >= min && mark <= max);
    const bounds = [min, max].filter((bound) => !marks.includes(bound));
    part("alpha-marks").replaceChildren(
      ...[...marks, ...bounds].map((mark) => {
        const label = element("span", {}, String(mark));
        setVariable(label, "--at", (mark - min) / Math.max(max - min, 0.01));
        return label;
      }),
    );
    this.#showExamples(EXAMPLES[chosen.id] ?? []);
    this.#showAlpha();
  }

  #showExamples(examples: readonly string[]): void {
    const known = Object.values(EXAMPLES).flat();
    const isUntouched = this.#prompt.value === "" || known.includes(this.#prompt.value);
    if (isUntouched && !examples.includes(this.#prompt.value)) {
      this.#prompt.value = examples[0] ?? "";
    }
    part("examples").replaceChildren(
      ...examples.map((example) => {
        const chip = element("button", { type: "button", class: "chip" }, example);
        chip.addEventListener("click", () => {
          this.#prompt.value = example;
          this.#prompt.dispatchEvent(new Event("change"));
        });
        return chip;
      }),
    );
  }

  #showAlpha(): void {
    const alpha = this.#alpha.valueAsNumber;
    part("alpha-value").textContent = String(alpha);
    part("steered-alpha").textContent = `alpha ${alpha}`;
    part("alpha-text").textContent = meaningOf(alpha);
  }
}

function meaningOf(alpha: number): string {
  if (alpha < 0) return "Below 0 the base moves away from what the tuning changed.";
  if (alpha === 0) return "At 0 the base answers alone: both answers are the same.";
  if (alpha < 1) return "A part of what the tuning changed is added to the base.";
  if (alpha === 1) return "All that the tuning changed is added to the base.";
  return "What the tuning changed is added more than once: it is exaggerated.";
}
