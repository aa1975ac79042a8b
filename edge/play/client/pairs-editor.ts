/** The experts that steer together, each with a weight. Without any, the model's own expert steers. */
import { LIMITS } from "../../../shared/api/limits.ts";
import { button, element, part } from "./dom.ts";
import type { Pair } from "./settings.ts";

const WEIGHT_START = 1;

export class PairsEditor {
  readonly #onChange: () => void;
  readonly #rows = part("pairs-rows");
  readonly #actions = part("pairs-actions");
  #models: readonly string[] = [];
  #own = "";
  #weights = new Map<string, HTMLInputElement>();

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** @param own the model that is steered. Experts of another one's request are forgotten. */
  setModels(models: readonly string[], own: string): void {
    this.#models = models;
    if (own !== this.#own) this.#weights.clear();
    this.#own = own;
    this.#show();
  }

  read(): Pair[] | null {
    const pairs = [...this.#weights].map(([model, { valueAsNumber }]) => ({
      model,
      weight: Number.isNaN(valueAsNumber) ? WEIGHT_START : valueAsNumber,
    }));
    return pairs.length === 0 ? null : pairs;
  }

  write(pairs: readonly Pair[] | null): void {
    this.#weights = new Map(
      (pairs ?? []).map(({ model, weight }) => [model, this.#weight(model, weight)]),
    );
    this.#show();
  }

  #add(model: string): void {
    if (this.#weights.size === 0 && model !== this.#own) {
      this.#weights.set(this.#own, this.#weight(this.#own, WEIGHT_START));
    }
    this.#weights.set(model, this.#weight(model, WEIGHT_START));
    this.#show();
    this.#weights.get(model)?.focus();
    this.#onChange();
  }

  #remove(model: string): void {
    this.#weights.delete(model);
    this.#show();
    this.#actions.querySelector("button")?.focus();
    this.#onChange();
  }

  #weight(model: string, weight: number): HTMLInputElement {
    const field = element("input", {
      type: "number",
      min: 0.05,
      max: LIMITS.pairWeightMax,
      step: 0.05,
      value: weight,
      "aria-label": `Weight of ${model}`,
    });
    field.addEventListener("input", this.#onChange);
    return field;
  }

  #show(): void {
    const rows = [...this.#weights].map(([model, field]) =>
      element(
        "li",
        {},
        element("span", { class: "expert" }, model),
        element("label", {}, "weight ", field),
        button("Remove", () => this.#remove(model), {
          class: "chip",
          "aria-label": `Remove ${model}`,
        }),
      ),
    );
    this.#rows.replaceChildren(...rows);
    const others = this.#models.filter(
      (model) => !this.#weights.has(model) && (model !== this.#own || this.#weights.size > 0),
    );
    const canAdd = this.#weights.size < LIMITS.pairsMax;
    this.#actions.replaceChildren(
      ...(canAdd ? others : []).map((model) =>
        button(`Add the expert of ${model}`, () => this.#add(model), { class: "chip" }),
      ),
    );
    part("pairs-text").textContent =
      rows.length === 0
        ? `The expert of ${this.#own} steers. Experts of models over the same base can steer together with it.`
        : "Each expert's shift is multiplied by alpha and its weight, and their sum is added to the base.";
  }
}
