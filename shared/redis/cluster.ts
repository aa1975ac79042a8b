/**
 * Redis in cluster mode. All keys of a shard have one hash tag, so one node holds them, and an ordinary connection to that node is all that
 * is needed: it is found by the reply MOVED, and again after a failover or when its slot has moved. Channels work on every node.
 */

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The options of an ioredis client that are changed here. The client reads them anew for each connect. */
export interface ClientOptions {
  host?: string | undefined;
  port?: number | undefined;
  tls?: object | undefined;
  readonly connectTimeout?: number;
  readonly maxRetriesPerRequest?: number | null;
  readonly reconnectOnError: (error: Error) => 2 | false;
  readonly retryStrategy?: (times: number) => number | null;
}

/**
 * `redis+cluster://[user:password@]host:port,host:port`, with at most NODES_MAX nodes; with TLS `rediss+cluster://…`. With `?tag=n` it is the
 * shard with that tag (tags.ts).
 */
const CLUSTER_URL =
  /^redis(?<tls>s?)\+cluster:\/\/(?<login>(?:[^@/]*@)?)(?<hosts>[^@/?]+)\/?(?:\?tag=(?<tag>\d+))?$/;
/** All nodes of the URL are tried within the time of one connect, so more would get too little each. */
export const NODES_MAX = 3;
/** The slot and the address of its node. Without a host it is that of the node that replies. */
const MOVED = /^MOVED \d+ (?<host>.*):(?<port>\d+)$/;
/** The node holds the slot, which is being moved to another node: MOVED follows when that has ended. */
const IS_MIGRATING = /^(ASK|TRYAGAIN) /;
const IS_ADDRESS = /^[\d.]+$|:/;
/** Pause before the first connect to the node that MOVED has named. While nodes disagree, they name each other in turn. */
const FOLLOW_MS = 10;
/** Connects for one command: to the node of the URL, and to those that two replies have named. */
const CONNECTS_MAX = 3;
const RETRY_MS = 50;
const RETRY_MS_MAX = 2_000;

export const isClusterUrl = (url: string) => CLUSTER_URL.test(url);

/** The number of the tag in the URL of a cluster; 0 for other URLs. */
export const tagNumber = (url: string) => Number(CLUSTER_URL.exec(url)?.groups?.["tag"] ?? 0);

/** The URLs of the nodes that a cluster's URL names, as those of single servers. */
export function nodeUrls(clusterUrl: string): string[] {
  const { tls = "", login = "", hosts = "" } = CLUSTER_URL.exec(clusterUrl)?.groups ?? {};
  return hosts.split(",").map((host) => `redis${tls}://${login}${host}`);
}

/** The node that this process believes to hold the keys, by the URL of the cluster. */
const clusters = new Map<string, ClusterNodes>();

class ClusterNodes {
  readonly #seeds: readonly Address[];
  #next = 0;
  current: Address;

  constructor(seeds: readonly Address[]) {
    this.#seeds = seeds;
    this.current = seeds[0]!;
  }

  /** This node does not answer: the next connect is to another one, which knows where the keys are. */
  failed({ host, port }: ClientOptions): void {
    // Another connection may have found a better one.
    if (host !== this.current.host || port !== this.current.port) return;
    this.#next = (this.#next + 1) % this.#seeds.length;
    this.current = this.#seeds[this.#next]!;
  }
}

/**
 * Makes a client follow the node that holds the keys.
 * @param options those of the first node of the URL
 */
export function followCluster<T extends ClientOptions>(
  url: string,
  seeds: readonly Address[],
  options: T,
) {
  const nodes = clusters.get(url) ?? new ClusterNodes(seeds);
  clusters.set(url, nodes);
  const { connectTimeout, maxRetriesPerRequest } = options;
  /** By the options of a client, the pause before the connect that a reply has asked for. */
  const asked = new WeakMap<ClientOptions, number>();
  const pauses = new GrowingPauses();
  const following = {
    ...options,
    // All nodes of the URL are tried in this time, also if some do not answer.
    ...(connectTimeout !== undefined && {
      connectTimeout: Math.ceil(connectTimeout / seeds.length),
    }),
    ...(maxRetriesPerRequest === 0 && { maxRetriesPerRequest: CONNECTS_MAX }),
    // ioredis calls these two as methods of the options, also of those of a duplicate.
    reconnectOnError(this: ClientOptions, error: Error): 2 | false {
      const { host, port } = MOVED.exec(error.message)?.groups ?? {};
      if (port !== undefined) {
        nodes.current = { host: host || this.host!, port: Number(port) };
        if (!asked.has(this)) asked.set(this, pauses.next(this, FOLLOW_MS));
        return 2;
      }
      const answer = options.reconnectOnError(error);
      // Several commands may get the reply on one connection.
      if (answer === 2 && !asked.has(this)) {
        if (!IS_MIGRATING.test(error.message)) nodes.failed(this);
        asked.set(this, pauses.next(this, RETRY_MS));
      }
      return answer;
    },
    retryStrategy(this: ClientOptions, times: number): number | null {
      const pauseMs = asked.get(this);
      asked.delete(this);
      if (pauseMs === undefined) nodes.failed(this);
      connectTo(this, nodes.current);
      if (pauseMs !== undefined) return pauseMs;
      const retryMs = options.retryStrategy
        ? options.retryStrategy(times)
        : Math.min(times * RETRY_MS, RETRY_MS_MAX);
      // A client that does not reconnect still tries the nodes of the URL. The first connect may have been to another node.
      return retryMs ?? (times <= seeds.length ? FOLLOW_MS : null);
    },
  };
  connectTo(following, nodes.current);
  return following;
}

/** Pauses that grow while they follow each other, by the options of the client. */
class GrowingPauses {
  readonly #last = new WeakMap<ClientOptions, { readonly ms: number; readonly atMs: number }>();

  /** @param firstMs the pause if none was shortly before */
  next(client: ClientOptions, firstMs: number): number {
    const last = this.#last.get(client);
    const atMs = performance.now();
    const follows = last !== undefined && atMs - last.atMs < 2 * RETRY_MS_MAX;
    const ms = follows ? Math.min(Math.max(firstMs, 2 * last.ms), RETRY_MS_MAX) : firstMs;
    this.#last.set(client, { ms, atMs });
    return ms;
  }
}

function connectTo(options: ClientOptions, { host, port }: Address): void {
  options.host = host;
  options.port = port;
  // A certificate names hosts. With an address, it must be that of the node which the URL names.
  if (options.tls && !IS_ADDRESS.test(host)) options.tls = { ...options.tls, servername: host };
}
