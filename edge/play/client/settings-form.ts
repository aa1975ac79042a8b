/** The settings as the form has them. */
import { LIMITS } from "../../../shared/api/limits.ts";
import type { Model } from "../../../shared/api/models.ts";
import { AlphaControl, type AlphaBounds } from "./alpha-control.ts";
import type { Key } from "./api.ts";
import { byId, element, input, part } from "./dom.ts";
import { OutputFields } from "./output-fields.ts";
import { PairsEditor } from "./pairs-editor.ts";
import { ScheduleEditor } from "./schedule-editor.ts";
import { NUMBER_NAMES, type NumberName, type Settings } from "./settings.ts";

/** The number inputs by setting, with their bounds and defaults. */
const NUMBERS = {
  temperature: { id: "temperature", min: 0, max: LIMITS.temperatureMax, start: 0 },
  top_p: { id: "top-p", min: 0, max: 1, start: 1 },
  max_tokens: { id: "max-tokens", min: 1, max: LIMITS.maxTokensMax, start: 48 },
  seed: { id: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, start: 7 },
  kl_budget: { id: "kl-budget", min: 0, max: LIMITS.klBudgetMax, start: null },
  base_nucleus: { id: "base-nucleus", min: 0, max: 1, start: null },
  fallback: { id: "fallback", min: 0, max: 1, start: null },
} as const satisfies Record<NumberName, object>;

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

/** Why the jobs of a model wait. */
const STATUS_TEXTS = {
  no_worker: "no worker now",
  base_away: "its base does not answer",
  paused: "paused by the operator",
} as const;

export class SettingsForm {
  #gate: Settings["gate"] = null;
  #pairConflicts: Settings["pair_conflicts"] = null;
  readonly #alpha: AlphaControl;
  readonly #schedule: ScheduleEditor;
  readonly #pairs: PairsEditor;
  readonly #output: OutputFields;
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
      field.addEventListener("change", () => {
        if (name === "max_tokens") this.#showScale();
        onChange(name);
      });
    }
    this.#alpha = new AlphaControl(() => onChange("alpha"));
    this.#schedule = new ScheduleEditor(() => {
      this.#showScheduled();
      onChange("schedule");
    });
    this.#pairs = new PairsEditor(() => onChange("pairs"));
    this.#output = new OutputFields(onChange);
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
        element(
          "option",
          { value: id },
          status === "available" ? id : `${id} (${STATUS_TEXTS[status]})`,
        ),
      ),
    );
    this.#showModel();
  }

  /** @throws Error that names the field whose text cannot be read */
  read(): Settings {
    const numbers = Object.fromEntries(NUMBER_NAMES.map((name) => [name, this.#number(name)]));
    return {
      ...(numbers as Pick<Settings, NumberName>),
      model: this.#model.value,
      prompt: this.#prompt.value,
      alpha: this.#alpha.value,
      schedule: this.#schedule.read(),
      pairs: this.#pairs.read(),
      pair_conflicts: this.#pairConflicts,
      gate: this.#gate,
      stop: this.#output.stop,
      response_format: this.#output.format,
    };
  }

  /** Sets what is given and leaves the rest. A model that is not served is not set. */
  write(settings: Partial<Settings>): void {
    const { model, prompt, alpha, schedule, pairs, pair_conflicts, gate, stop, response_format } =
      settings;
    if (this.#models.some(({ id }) => id === model)) {
      this.#model.value = model!;
      this.#showModel();
    }
    if (prompt !== undefined) this.#prompt.value = prompt;
    if (alpha !== undefined) this.#alpha.value = alpha;
    for (const name of NUMBER_NAMES) {
      const value = settings[name];
      if (value !== undefined) input(NUMBERS[name].id).value = value === null ? "" : String(value);
    }
    if (schedule !== undefined) this.#schedule.write(schedule);
    if (pairs !== undefined) this.#pairs.write(pairs);
    if (pair_conflicts !== undefined) this.#pairConflicts = pair_conflicts;
    if (gate !== undefined) this.#gate = gate;
    if (stop !== undefined) this.#output.stop = stop;
    if (response_format !== undefined) this.#output.format = response_format;
    this.#showScale();
    this.#showScheduled();
  }

  get alphaBounds(): AlphaBounds {
    const modelMax = this.#chosen?.alpha.max ?? 1;
    const ofKey = this.#key?.limits.alpha;
    return { ...(ofKey ?? { min: 0, max: modelMax }), modelMax, isOfKey: ofKey != null };
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
    this.#alpha.setBounds(this.alphaBounds);
    this.#alpha.value = chosen.alpha.default;
    this.#pairs.setModels(
      this.#models.map(({ id }) => id),
      chosen.id,
    );
    this.#showScale();
    this.#showExamples(EXAMPLES[chosen.id] ?? []);
  }

  #showScale(): void {
    this.#schedule.setScale(this.alphaBounds, this.#number("max_tokens") ?? 1);
  }

  #showScheduled(): void {
    this.#alpha.isScheduled = this.#schedule.read() !== null;
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
}
