/** A client of the jobs API over HTTP, as small as one can be: what the demo and the stack tests drive. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { InferInput } from "valibot";
import type { Job, JobEvent, JobRequest } from "../shared/contract.ts";

export type JobInput = InferInput<typeof JobRequest>;

export class JobClient {
  readonly #url: string;
  readonly #apiKey: string;

  /** @param url of the edge, without a path */
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

  /** Every event after number `after`, as it happens, to the terminal one. Leaving the loop closes the connection. */
  async *events(
    jobId: string,
    { after = 0, signal }: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<JobEvent, void, undefined> {
    const reply = await this.request(`/v1/jobs/${jobId}/events`, {
      headers: after > 0 ? { "last-event-id": String(after) } : {},
      ...(signal && { signal }),
    });
    if (reply.status === 204) return;
    if (reply.status !== 200 || reply.body === null) throw await refusal(reply);
    const messages = reply.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    for await (const { event, data } of messages) {
      if (event === "error") throw new Error(`the stream ended with ${data}`);
      yield JSON.parse(data) as JobEvent;
    }
  }

  /** A request with the key; the reply is the caller's to judge. */
  request(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = {
      authorization: `Bearer ${this.#apiKey}`,
      "content-type": "application/json",
      ...(init.headers as Record<string, string>),
    };
    return fetch(this.#url + path, { ...init, headers });
  }

  async #job(reply: Response): Promise<Job> {
    if (!reply.ok) throw await refusal(reply);
    return (await reply.json()) as Job;
  }
}

async function refusal(reply: Response): Promise<Error> {
  return new Error(
    `${new URL(reply.url).pathname} answered ${reply.status}: ${await reply.text()}`,
  );
}
