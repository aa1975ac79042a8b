/**
 * Sends one POST request to a URL that a client chose, and guards against requests into the private network (SSRF).
 * The addresses are checked when the connection is made: the host name is resolved once, the connection goes only to allowed
 * addresses, and redirects are not followed.
 */
import { once } from "node:events";
import type { LookupAddress } from "node:dns";
import http from "node:http";
import https from "node:https";
import type { LookupFunction } from "node:net";
import { isAllowedAddress, urlProblem, type AddressRanges } from "../../shared/webhooks/url.ts";
import { HostResolver } from "./resolve-host.ts";

/** Time for a receiver to answer; Standard Webhooks recommends 15 to 30 s. */
const TIMEOUT_MS = 15_000;

/** Resolves a host name to all its addresses. */
export type ResolveHost = (hostname: string) => Promise<readonly LookupAddress[]>;

export interface PostOptions {
  /** Address ranges that are allowed although they are not public. */
  readonly allowed: AddressRanges;
  /** Default: the system's name servers (resolve-host.ts). */
  readonly resolve?: ResolveHost;
  /** Time from the start of the connection to the response's headers. Default: 15 s. */
  readonly timeoutMs?: number;
}

export interface WebhookResponse {
  readonly status: number;
  /** The response's `Retry-After` header. */
  readonly retryAfter: string | undefined;
}

const hosts = new HostResolver();

/**
 * Sends the request; any HTTP status counts as a response.
 * @throws Error if there is no response; the message says why, without the URL, which may contain a secret
 */
export async function post(
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  { allowed, resolve = (name) => hosts.lookup(name), timeoutMs = TIMEOUT_MS }: PostOptions,
): Promise<WebhookResponse> {
  // guardedLookup is not called if the URL's host is an IP address, so the URL is checked here too.
  const problem = urlProblem(url, allowed);
  if (problem !== null) throw new Error(`The URL ${problem}`);
  const signal = AbortSignal.timeout(timeoutMs);
  const options = {
    method: "POST",
    headers: { ...headers, "content-length": Buffer.byteLength(body) },
    // A new connection for each request: an existing connection would not be checked again.
    agent: false,
    lookup: guardedLookup(allowed, resolve),
    signal,
  };
  const request = url.startsWith("https:")
    ? https.request(url, options)
    : http.request(url, options);
  try {
    request.end(body);
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    return { status: response.statusCode!, retryAfter: response.headers["retry-after"] };
  } catch (error) {
    const reason = signal.aborted
      ? `No response within ${timeoutMs / 1000} s`
      : failureReason(error);
    throw new Error(reason, { cause: error });
  } finally {
    // Status and headers are enough, so the body is not read. Errors after this point do not matter.
    request.on("error", () => {}).destroy();
  }
}

function guardedLookup(allowed: AddressRanges, resolve: ResolveHost): LookupFunction {
  return (hostname, { all }, done) => {
    resolve(hostname)
      // An address that cannot be parsed (from a faulty /etc/hosts) fails this request like a name that cannot be resolved.
      .then((addresses) => addresses.filter(({ address }) => isAllowedAddress(address, allowed)))
      .then(
        (usable) => {
          const [first] = usable;
          if (!first) done(new Error("The host's address is private, local or reserved"), []);
          else if (all) done(null, usable);
          else done(null, first.address, first.family);
        },
        (error: NodeJS.ErrnoException) => done(error, []),
      );
  };
}

function failureReason(error: unknown): string {
  // If several addresses were tried, the first one's error is reported.
  const failure = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  if (!(failure instanceof Error)) return String(failure);
  return "code" in failure ? String(failure.code) : failure.message;
}
