/** The part of the page that shows the request as code. */
import { button, copyText, element, part } from "./dom.ts";
import { codeOf, type Language } from "./request-code.ts";
import type { Settings } from "./settings.ts";

/** Shows the code of the settings, each time that its part of the page is opened or `update` is called while it is open. */
export class CodeView {
  readonly #details = part("code") as HTMLDetailsElement;
  readonly #body = part("code-body");
  readonly #read: () => Settings;
  #language: Language = "curl";

  constructor(read: () => Settings) {
    this.#read = read;
    this.#details.addEventListener("toggle", () => this.update());
  }

  update(): void {
    if (!this.#details.open) return;
    const code = this.#code();
    if (code === null) return;
    const tabs = (Object.keys(code) as Language[]).map((language) =>
      button(
        language,
        () => {
          this.#language = language;
          this.update();
          this.#body.querySelector<HTMLElement>("[aria-pressed=true]")?.focus();
        },
        { "aria-pressed": String(language === this.#language), class: "chip" },
      ),
    );
    const text = code[this.#language];
    const copy = button("Copy", () => {
      void copyText(text).then((isCopied) => {
        copy.textContent = isCopied ? "Copied" : "Select the text to copy it";
      });
    });
    const shown = element("pre", { tabindex: 0, "aria-label": `${this.#language} code` }, text);
    const row = element(
      "div",
      { class: "row", role: "group", "aria-label": "Language" },
      ...tabs,
      copy,
    );
    this.#body.replaceChildren(row, shown);
  }

  /** Null, with the reason on the page, if a setting cannot be read. */
  #code(): ReturnType<typeof codeOf> | null {
    try {
      return codeOf(this.#read(), location.origin);
    } catch (error) {
      this.#body.replaceChildren(element("p", { class: "notice" }, (error as Error).message));
      return null;
    }
  }
}
