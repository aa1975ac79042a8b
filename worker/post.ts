/**
 * One POST to a URL that a stranger gave us. The guard is where the connection is made: a name is resolved once, only
 * allowed addresses of it are connected to, and no answer, a redirect least of all, leads anywhere else.
 */
import { once } from "node:events";
import { lookup, type LookupAddress } from "node:dns";
import http from "node:http";
import https from "node:https";
import type { LookupFunction } from "node:net";
import { isAllowedAddress, urlComplaint, type AddressRanges } from "../shared/webhook-url.ts";

/** A receiver has this long to answer; the spec recommends 15 to 30 s. */
const TIMEOUT_MS = 15_000;

/** As node:dns's `lookup` with `all`: every address of a name. */
export type Resolve = (
  hostname: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export interface PostOptions {
  /** Ranges that may be connected to although they are not public. */
  readonly allowed: AddressRanges;
  /** Default: the system's. */
  readonly resolve?: Resolve;
  /** From the first packet to the answer's head. Default: 15 s. */
  readonly timeoutMs?: number;
}

export interface Answer {
  readonly status: number;
  /** The `Retry-After` header. */
  readonly retryAfter: string | undefined;
}

/** @throws Error whose message says, without the URL, why there is no answer */
export async function post(
  url: string,
  headers: Readonly<Record<string, string>>,
  body: string,
  { allowed, resolve = resolveAll, timeoutMs = TIMEOUT_MS }: PostOptions,
): Promise<Answer> {
  // An address in the URL is not looked up, so it is judged here.
  const complaint = urlComplaint(url, allowed);
  if (complaint !== null) throw new Error(`the URL ${complaint}`);
  const signal = AbortSignal.timeout(timeoutMs);
  const options = {
    method: "POST",
    headers: { ...headers, "content-length": Buffer.byteLength(body) },
    // A connection of its own: one that is kept would be one that nobody judges again.
    agent: false,
    lookup: guardedLookup(allowed, resolve),
    signal,
  };
  const request = url.startsWith("https:")
    ? https.request(url, options)
    : http.request(url, options);
  try {
    request.end(body);
    const [answer] = (await once(request, "response")) as [http.IncomingMessage];
    return { status: answer.statusCode!, retryAfter: answer.headers["retry-after"] };
  } catch (error) {
    const why = signal.aborted ? `no answer within ${timeoutMs / 1000} s` : reasonOf(error);
    throw new Error(why, { cause: error });
  } finally {
    // The status says all: of an answer's body, however long, nothing is read. A late error finds nobody.
    request.on("error", () => {}).destroy();
  }
}

function guardedLookup(allowed: AddressRanges, resolve: Resolve): LookupFunction {
  return (hostname, { all }, done) =>
    resolve(hostname, (error, addresses) => {
      if (error) return done(error, []);
      const open = addresses.filter(({ address }) => isAllowedAddress(address, allowed));
      const [first] = open;
      if (!first) return done(new Error("the host's address is private, local or reserved"), []);
      if (all) done(null, open);
      else done(null, first.address, first.family);
    });
}

const resolveAll: Resolve = (hostname, done) => lookup(hostname, { all: true }, done);

function reasonOf(error: unknown): string {
  // Several addresses that were tried in turn fail as one.
  const failure = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  if (!(failure instanceof Error)) return String(failure);
  return "code" in failure ? String(failure.code) : failure.message;
}
