/** The part of the page that shows a job's record as the API has it. */
import type { Api } from "./api.ts";
import { button, copyText, element, part } from "./dom.ts";

export class RecordView {
  readonly #section = part("record");
  readonly #body = part("record-body");
  #shown = "";

  constructor() {
    part("record-actions").append(
      button("Copy", () => void copyText(this.#body.textContent)),
      button("Close", () => {
        this.#section.hidden = true;
      }),
    );
  }

  /** Reads the record and shows it. Of records that are asked for one after the other only the last one is shown. */
  async show(api: Api, jobId: string): Promise<void> {
    this.#shown = jobId;
    part("record-title").textContent = `The job ${jobId}`;
    this.#section.hidden = false;
    this.#section.setAttribute("aria-busy", "true");
    const text = await api
      .job(jobId, new AbortController().signal)
      .then((job) => JSON.stringify(job, null, 2))
      .catch((error: unknown) => `Failed: ${error instanceof Error ? error.message : "unknown"}`);
    if (this.#shown !== jobId) return;
    this.#body.replaceChildren(
      element("pre", { tabindex: 0, "aria-label": `Record of ${jobId}` }, text),
    );
    this.#section.setAttribute("aria-busy", "false");
    part("record-title").scrollIntoView({ block: "nearest" });
  }
}
