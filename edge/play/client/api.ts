/** The calls of the public API that the page makes, with the key of this tab. */
import type { Job, JobRequest } from "../../../shared/api/jobs.ts";
import type { ApiKey } from "../../../shared/api/keys.ts";
import type { Model } from "../../../shared/api/models.ts";
import type { SentRequest } from "../../../shared/api/reruns.ts";
import type { ScoreList } from "../../../shared/api/score.ts";
import type { Tokenization } from "../../../shared/api/tokenizers.ts";

export type Key = Pick<ApiKey, "limits" | "scopes">;
export type JobBody = Partial<JobRequest> & Pick<JobRequest, "model">;

/** A reply that is not the wanted one, with the text that the server gives. */
export class ApiError extends Error {
  readonly status: number;
  readonly retryAfterSeconds: number;

  constructor(status: number, message: string, retryAfterSeconds: number) {
    super(message);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the same request may succeed later. */
  get isTemporary(): boolean {
    return this.status === 429 || this.status >= 500;
  }
}

/** A ticket only reads the events of its job. */
export type Credential = { readonly key: string } | { readonly ticket: string };

export class Api {
  readonly #credential: Credential;

  constructor(credential: Credential) {
    this.#credential = credential;
  }

  async models(): Promise<readonly Model[]> {
    return (await this.#json<{ data: Model[] }>("/v1/models")).data;
  }

  key(): Promise<Key> {
    return this.#json("/v1/keys/me");
  }

  submit(body: JobBody, signal: AbortSignal): Promise<Job> {
    return this.#json("/v1/jobs", { method: "POST", body: JSON.stringify(body), signal });
  }

  /** @param waitSeconds how long the reply may wait for the job's end */
  job(id: string, signal: AbortSignal, waitSeconds = 0): Promise<Job> {
    const headers: Record<string, string> =
      waitSeconds > 0 ? { prefer: `wait=${waitSeconds}` } : {};
    return this.#json(`/v1/jobs/${encodeURIComponent(id)}`, { signal, headers });
  }

  /** A job's request, as it was sent. */
  async sentRequest(id: string): Promise<unknown> {
    const path = `/v1/jobs/${encodeURIComponent(id)}/request`;
    return (await this.#json<SentRequest>(path)).body;
  }

  /** Cancels a job that may have ended already. */
  async cancel(id: string): Promise<void> {
    await this.request(`/v1/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" });
  }

  /** The ids of the prompt's tokens. */
  async tokenize(body: object): Promise<readonly number[]> {
    const init = { method: "POST", body: JSON.stringify(body) };
    return (await this.#json<Tokenization>("/tokenize", init)).tokens;
  }

  score(body: object, signal: AbortSignal): Promise<ScoreList> {
    return this.#json("/v1/score", { method: "POST", body: JSON.stringify(body), signal });
  }

  /** @throws ApiError for any status but 2xx */
  async request(path: string, init: RequestInit = {}): Promise<Response> {
    const credential = this.#credential;
    const headers = {
      ...("key" in credential && { authorization: `Bearer ${credential.key}` }),
      ...(typeof init.body === "string" && { "content-type": "application/json" }),
      ...(init.headers as Record<string, string>),
    };
    const query = "ticket" in credential ? `?ticket=${encodeURIComponent(credential.ticket)}` : "";
    const reply = await fetch(path + query, { ...init, headers });
    if (!reply.ok) throw await errorOf(reply);
    return reply;
  }

  async #json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await (await this.request(path, init)).json()) as T;
  }
}

async function errorOf(reply: Response): Promise<ApiError> {
  const body: unknown = await reply.json().catch(() => null);
  const { error } = (body ?? {}) as { error?: { message?: string; param?: string | null } };
  const field = error?.param ? `${error.param}: ` : "";
  const message = error?.message ?? `The server answered ${reply.status}`;
  const seconds = Number(reply.headers.get("retry-after") ?? 1);
  return new ApiError(reply.status, message.startsWith(field) ? message : field + message, seconds);
}
