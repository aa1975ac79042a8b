/** The person who looks at the page: what their API key may do, and the calls with it. */
import type { CurrentApiKey, Scope } from "../../../shared/api/keys.ts";
import { Api } from "../../play/client/api.ts";
import { button, part } from "../../play/client/dom.ts";

export class Viewer {
  readonly #api: Api;
  readonly key: CurrentApiKey;
  readonly #onChange: () => void;

  private constructor(api: Api, key: CurrentApiKey, onChange: () => void) {
    this.#api = api;
    this.key = key;
    this.#onChange = onChange;
  }

  /**
   * @param onChange called after an action
   * @throws ApiError if the key is not known
   */
  static async open(key: string, onChange: () => void): Promise<Viewer> {
    const api = new Api({ key });
    const reply = await api.request("/v1/keys/me");
    return new Viewer(api, (await reply.json()) as CurrentApiKey, onChange);
  }

  may(scope: Scope): boolean {
    return this.key.scopes.includes(scope);
  }

  async get<T>(path: string): Promise<T> {
    return (await (await this.#api.request(path)).json()) as T;
  }

  /**
   * A button that sends a request after a question.
   * @param id stays the same when the button is made again, so that it keeps the focus
   */
  button(label: string, id: string, action: Action): HTMLButtonElement {
    return button(label, () => void this.#act(action), {
      id,
      class: "chip",
      "aria-label": `${label}: ${action.subject}`,
    });
  }

  async #act({ question, path, method = "POST", body, done }: Action): Promise<void> {
    if (!confirm(question)) return;
    const announce = (text: string) => (part("announcement").textContent = text);
    try {
      const sent = body === undefined ? {} : { body: JSON.stringify(body) };
      await this.#api.request(path, { method, ...sent });
      announce(done);
    } catch (error) {
      announce(`Failed: ${error instanceof Error ? error.message : "unknown error"}`);
    }
    this.#onChange();
  }
}

interface Action {
  /** In the button's name for screen readers: what it acts on. */
  readonly subject: string;
  readonly question: string;
  readonly path: string;
  readonly method?: "POST" | "PATCH";
  readonly body?: object;
  /** Announced when it has succeeded. */
  readonly done: string;
}
