/**
 * Resolves the host names of webhooks. Clients choose them, and their name servers may be silent. getaddrinfo would block one of
 * the four threads that all lookups of the process share; here each lookup only has packets under way, so one does not wait for
 * another. Deliveries bound how many there are at once. Like getaddrinfo it knows /etc/hosts, /etc/resolv.conf and localhost.
 */
import { readFileSync } from "node:fs";
import type { LookupAddress } from "node:dns";
import { Resolver } from "node:dns/promises";
import { setTimeout as delay } from "node:timers/promises";

/** Time for the first try of a query; the second one gets more. */
const QUERY_MS = 1_500;
const QUERY_TRIES = 2;
/** The whole lookup, with both families and all search domains. */
const LOOKUP_MS = 5_000;
/** When the addresses of one family are known, those of the other are waited for only this long. */
const OTHER_FAMILY_MS = 200;
/** Addresses are kept for their time to live, but not longer than this. */
const KEPT_MS_MAX = 60_000;
/**
 * A failure is kept too: many deliveries to a host whose name server is silent share one lookup. Less than the 5 s after which a
 * delivery is attempted again, so that this attempt asks again.
 */
const FAILURE_KEPT_MS = 4_000;
/** Names that are kept; beyond that the oldest is forgotten. */
const NAMES_MAX = 1_000;
/** The system's files are read again after this time. */
const CONFIGURATION_KEPT_MS = 60_000;

const LOCALHOST: readonly LookupAddress[] = [
  { address: "127.0.0.1", family: 4 },
  { address: "::1", family: 6 },
];
/** The name server's answer that a name, or its addresses of one family, do not exist. */
const ABSENT = new Set(["ENOTFOUND", "ENODATA"]);

interface Found {
  readonly addresses: readonly LookupAddress[];
  readonly keptMs: number;
}

interface Configuration {
  readonly resolver: Resolver;
  /** Addresses by name, from /etc/hosts. */
  readonly hosts: ReadonlyMap<string, readonly LookupAddress[]>;
  /** Domains that are tried as the end of a name. */
  readonly search: readonly string[];
}

/** Resolves host names within a time limit. Equal lookups at the same time are one, and results are kept for a short time. */
export class HostResolver {
  readonly #servers: readonly string[] | undefined;
  #configuration: Configuration | undefined;
  #configurationEndsMs = 0;
  /** By name, the oldest first: lookups under way, and their results while they are kept. */
  readonly #lookups = new Map<string, { result: Promise<Found>; endsMs: number }>();

  /** @param servers addresses of name servers with ports; default: those of the system */
  constructor(servers?: readonly string[]) {
    this.#servers = servers;
  }

  /** All addresses of a host, IPv4 first. @throws Error with the reason */
  async lookup(hostname: string): Promise<readonly LookupAddress[]> {
    const name = hostname.toLowerCase().replace(/\.$/, "");
    if (name === "localhost" || name.endsWith(".localhost")) return LOCALHOST;
    const known = this.#lookups.get(name);
    if (known !== undefined && performance.now() < known.endsMs) {
      return (await known.result).addresses;
    }
    const lookup = { result: withinLookupMs(this.#find(name)), endsMs: Infinity };
    this.#lookups.delete(name);
    this.#lookups.set(name, lookup);
    if (this.#lookups.size > NAMES_MAX) this.#lookups.delete(this.#lookups.keys().next().value!);
    const keep = (ms: number) => void (lookup.endsMs = performance.now() + ms);
    lookup.result.then(
      ({ keptMs }) => keep(keptMs),
      () => keep(FAILURE_KEPT_MS),
    );
    return (await lookup.result).addresses;
  }

  async #find(name: string): Promise<Found> {
    const { resolver, hosts, search } = this.#configured();
    const listed = hosts.get(name);
    if (listed !== undefined) return { addresses: listed, keptMs: 0 };
    const inDomains = search.map((domain) => `${name}.${domain}`);
    // A name with a dot is rarely one of a search domain, so it is tried as it is first.
    const candidates = name.includes(".") ? [name, ...inDomains] : [...inDomains, name];
    let absence: unknown;
    for (const candidate of candidates) {
      try {
        return await query(resolver, candidate);
      } catch (error) {
        if (!isAbsent(error)) throw error;
        absence = error;
      }
    }
    throw absence;
  }

  #configured(): Configuration {
    if (this.#configuration === undefined || performance.now() > this.#configurationEndsMs) {
      const resolver = new Resolver({ timeout: QUERY_MS, tries: QUERY_TRIES });
      if (this.#servers) resolver.setServers(this.#servers);
      const search = this.#servers ? [] : searchDomains(readSystemFile("/etc/resolv.conf"));
      const hosts = listedHosts(readSystemFile("/etc/hosts"));
      this.#configuration = { resolver, hosts, search };
      this.#configurationEndsMs = performance.now() + CONFIGURATION_KEPT_MS;
    }
    return this.#configuration;
  }
}

/** Asks for the addresses of both families. @throws Error of the name server if there are none */
async function query(resolver: Resolver, name: string): Promise<Found> {
  const families = ([4, 6] as const).map(async (family) => {
    const records = await (family === 4
      ? resolver.resolve4(name, { ttl: true })
      : resolver.resolve6(name, { ttl: true }));
    return records.map(({ address, ttl }) => ({ address, family, ttl }));
  });
  const first = await Promise.any(families).catch(({ errors }: AggregateError) => {
    throw errors.find((error) => !isAbsent(error)) ?? errors[0];
  });
  const both = await Promise.race([Promise.allSettled(families), delay(OTHER_FAMILY_MS, null)]);
  const found = both?.flatMap((family) => (family.status === "fulfilled" ? family.value : []));
  const records = found ?? first;
  const ttlMs = Math.min(...records.map(({ ttl }) => ttl)) * 1000;
  return {
    addresses: records.map(({ address, family }) => ({ address, family })),
    keptMs: Math.min(ttlMs, KEPT_MS_MAX),
  };
}

async function withinLookupMs(found: Promise<Found>): Promise<Found> {
  const silence = new Error(`The host name was not resolved within ${LOOKUP_MS / 1000} s`);
  const timer = Promise.withResolvers<never>();
  const timeout = setTimeout(() => timer.reject(silence), LOOKUP_MS);
  try {
    return await Promise.race([found, timer.promise]);
  } catch (error) {
    throw codeOf(error) === "ETIMEOUT" ? silence : error;
  } finally {
    clearTimeout(timeout);
  }
}

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code;
const isAbsent = (error: unknown) => ABSENT.has(codeOf(error) ?? "");

function readSystemFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function searchDomains(resolvConf: string): string[] {
  const lines = resolvConf.split("\n").map((line) => line.trim().split(/\s+/));
  return lines.findLast(([key]) => key === "search" || key === "domain")?.slice(1) ?? [];
}

function listedHosts(file: string): Map<string, LookupAddress[]> {
  const hosts = new Map<string, LookupAddress[]>();
  for (const line of file.split("\n")) {
    const [address, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    for (const name of names.map((name) => name.toLowerCase())) {
      const family = address!.includes(":") ? 6 : 4;
      hosts.set(name, [...(hosts.get(name) ?? []), { address: address!, family }]);
    }
  }
  return hosts;
}
