/** A minimal HTTP client of the jobs API, for the demo, the stack tests, chaos and load. It does not retry. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { InferInput } from "valibot";
import type { Job, JobRequest } from "../../shared/api/jobs.ts";
import type { JobEvent } from "../../shared/api/job-events.ts";

export type JobInput = InferInput<typeof JobRequest>;

export class JobClient {
  readonly #url: string;
  readonly #apiKey: string;

  /** @param url URL of the edge, without a path */
  constructor(url: string, apiKey: string) {
    this.#url = url;
    this.#apiKey = apiKey;
  }

  async submit(input: JobInput): Promise<Job> {
    return this.#job(
      await this.request("/v1/jobs", { method: "POST", body: JSON.stringify(input) }),
    );
  }

  async read(jobId: string): Promise<Job> {
    return this.#job(await this.request(`/v1/jobs/${jobId}`));
  }

  async cancel(jobId: string): Promise<Job> {
    return this.#job(await this.request(`/v1/jobs/${jobId}/cancel`, { method: "POST" }));
  }

  /**
   * The events after number `after`, live, up to the terminal event. Leaving the loop closes the connection.
   * @throws Error if the edge refuses the request or the stream ends with an error
   */
  async *events(
    jobId: string,
    { after = 0, signal }: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<JobEvent, void, undefined> {
    const reply = await this.request(`/v1/jobs/${jobId}/events`, {
      headers: after > 0 ? { "last-event-id": String(after) } : {},
      ...(signal && { signal }),
    });
    if (reply.status === 204) return;
    if (reply.status !== 200 || reply.body === null) throw await replyError(reply);
    const messages = reply.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    for await (const { event, data } of messages) {
      if (event === "error") throw new Error(`the stream ended with ${data}`);
      yield JSON.parse(data) as JobEvent;
    }
  }

  /** Sends a request with the API key; the caller checks the status of the reply. */
  request(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = {
      authorization: `Bearer ${this.#apiKey}`,
      "content-type": "application/json",
      ...(init.headers as Record<string, string>),
    };
    return fetch(this.#url + path, { ...init, headers });
  }

  async #job(reply: Response): Promise<Job> {
    if (!reply.ok) throw await replyError(reply);
    return (await reply.json()) as Job;
  }
}

async function replyError(reply: Response): Promise<Error> {
  return new Error(
    `${new URL(reply.url).pathname} answered ${reply.status}: ${await reply.text()}`,
  );
}
