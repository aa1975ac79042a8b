/** The URL of Redis, of one server, of the master behind Sentinels, or of a cluster, and the ioredis options for it. */
import * as v from "valibot";
import { followCluster, isClusterUrl, nodeUrls, NODES_MAX, tagNumber } from "./cluster.ts";
import { TAGS } from "./tags.ts";

/** Shards of an installation, at most: their numbers have two digits in API keys. */
const SHARDS_MAX = 100;

/**
 * `redis+sentinel://[user:password@]host:port,host:port/master[/db]`; user and password are for the master. Those of the Sentinels are
 * in the query: `?sentinel_username=…&sentinel_password=…`. With `rediss+sentinel://` all connections use TLS.
 */
const SENTINEL_URL =
  /^redis(?<tls>s?)\+sentinel:\/\/(?:(?<username>[^:@/]*):(?<password>[^@/]*)@)?(?<hosts>[^@/?]+)\/(?<name>[^/?]+)(?:\/(?<db>\d+))?(?:\?(?<query>.*))?$/;
const PORT = 6_379;
const SENTINEL_PORT = 26_379;
/** A Sentinel that accepts a connection and does not answer within this time is passed over. ioredis would wait without end. */
const SENTINEL_MS = 2_000;

const EXPECTED =
  "Expected a redis://, rediss://, redis+sentinel://host:port,…/master or redis+cluster://host:port,… URL";

/** Replies that say that a server does not hold the keys now, and that another one will, or the same one soon. */
export const IS_ELSEWHERE = /^(READONLY|CLUSTERDOWN|TRYAGAIN|ASK) /;

/** `localhost:6379`, as other programs take it. */
const WITHOUT_SCHEME = /^[A-Za-z\d.-]+(:\d+)?(\/\d+)?$/;

const withScheme = (url: string) => (WITHOUT_SCHEME.test(url) ? `redis://${url}` : url);

/** `redis+cluster://…?shards=n`: the cluster holds n shards, each under a tag of its own. */
const CLUSTER_OF_SHARDS = /^(?<cluster>rediss?\+cluster:[^?]*)\?shards=(?<count>\d+)$/;

const isRedisUrl = (url: string) =>
  (/^rediss?:\/\/./.test(url) && URL.canParse(url)) ||
  SENTINEL_URL.test(url) ||
  (isClusterUrl(url) &&
    nodeUrls(url).every((node) => URL.canParse(node) && new URL(node).hostname !== ""));

const hasFewNodes = (url: string) => !isClusterUrl(url) || nodeUrls(url).length <= NODES_MAX;
const FEW_NODES = `Expected at most ${NODES_MAX} nodes of a cluster: each knows the others`;

/** The URLs of the shards, in a text that separates them by white space. */
export const shardUrls = (urls: string): string[] =>
  urls.trim().split(/\s+/).flatMap(urlsOfCluster);

/** The URL of each shard of a cluster with several. The first has no tag: a cluster that held one shard can hold more. */
function urlsOfCluster(url: string): string[] {
  const { cluster, count = "" } = CLUSTER_OF_SHARDS.exec(url)?.groups ?? {};
  const shards = Number(count);
  if (cluster === undefined || shards < 1 || shards > TAGS.length) return [url];
  return Array.from({ length: shards }, (_, n) => (n === 0 ? cluster : `${cluster}?tag=${n}`));
}

const hasKnownTag = (url: string) => !/[?&]shards=/.test(url) && tagNumber(url) < TAGS.length;
const KNOWN_TAG = `Expected ?shards=1 to ?shards=${TAGS.length} at the URL of a cluster`;

/** Output: with a scheme. */
export const RedisUrl = v.pipe(
  v.string(),
  v.transform(withScheme),
  v.check(hasKnownTag, KNOWN_TAG),
  v.check(isRedisUrl, EXPECTED),
  v.check(hasFewNodes, FEW_NODES),
);

/** The server that a URL names, without login, database and options: channels belong to all databases of a server, but to a tag. */
const serverOf = (url: string) =>
  `${tagNumber(url)} ` +
  url
    .replace(/^([a-z+]+:\/\/)([^@/]*@)?/, "$1")
    .replace(/\?.*$/, "")
    .replace(/\/\d*$/, "");

/** One URL, or the URLs of several shards (shards.ts) with white space between them. Output: each shard's, with a scheme. */
export const RedisUrls = v.pipe(
  v.string(),
  v.check(
    (text) => !/[?&]tag=/.test(text),
    `${KNOWN_TAG}, and no ?tag, which leads to one shard alone`,
  ),
  v.transform((text) => shardUrls(text).map(withScheme)),
  v.check((urls) => urls.every(hasKnownTag), KNOWN_TAG),
  v.check((urls) => urls.every(isRedisUrl), EXPECTED),
  v.check((urls) => urls.every(hasFewNodes), FEW_NODES),
  v.check((urls) => urls.length <= SHARDS_MAX, `Expected at most ${SHARDS_MAX} URLs`),
  v.check(
    (urls) => new Set(urls.map(serverOf)).size === urls.length,
    "Expected a server of its own for each URL, and not only a database",
  ),
  v.transform((urls) => urls.join(" ")),
);

const Pem = v.optional(
  v.pipe(v.string(), v.startsWith("-----BEGIN ", "Expected a PEM file's content")),
);

/** Environment variables of edge and workers: the contents of PEM files, as a Kubernetes secret has them. They need `rediss`. */
export const redisTlsVariables = {
  /** Certificates of the authorities that sign the server's. Default: those that Node trusts, and NODE_EXTRA_CA_CERTS. */
  REDIS_TLS_CA: Pem,
  /** The client's certificate, for servers that ask for one. Default: none. */
  REDIS_TLS_CERT: Pem,
  /** The key of that certificate, without a passphrase. Default: none; a secret. */
  REDIS_TLS_KEY: Pem,
};
export type RedisTls = v.InferOutput<v.ObjectSchema<typeof redisTlsVariables, undefined>>;

// CLIENT SETINFO tells Redis the name of the client's library. It costs a round trip, and not every ACL user may call it.
const COMMON = { reconnectOnError, disableClientInfo: true };

interface OwnOptions {
  readonly maxRetriesPerRequest?: number | null;
  readonly reconnectOnError?: typeof reconnectOnError;
  readonly retryStrategy?: (times: number) => number | null;
}

/**
 * Options of an ioredis client. They leave out its `failoverDetector`: a failover that is announced while the client asks a
 * Sentinel for the master ends the client for good (ioredis 6.0). Sentinel closes the clients' connections to a master that it
 * replaces, and a master that hangs is noticed by its silence.
 * The option `tag` is not of ioredis: it tells the tag of the keys (tags.ts).
 * @param url a valid RedisUrl
 * @param own options of this client
 * @throws Error for certificates without TLS
 */
export function redisOptions<Own extends OwnOptions>(
  url: string,
  tls: RedisTls = {},
  own: Own = {} as Own,
) {
  const number = tagNumber(url);
  const tag = number === 0 ? {} : { tag: TAGS[number]! };
  const options = { ...addressOptions(url, tls), ...tag, ...own };
  if (!isClusterUrl(url)) return options;
  const nodes = nodeUrls(url).map((node) => hostAndPort(new URL(node), PORT));
  return followCluster(url, nodes, options);
}

/** The database that a URL names. */
export const databaseOf = (url: string): number => addressOptions(url, {}).db;

function addressOptions(redisUrl: string, tls: RedisTls) {
  const certificates = certificateOptions(redisUrl, tls);
  const url = isClusterUrl(redisUrl) ? nodeUrls(redisUrl)[0]! : redisUrl;
  const sentinel = SENTINEL_URL.exec(url)?.groups;
  if (sentinel === undefined) return { ...COMMON, ...serverOptions(url, certificates) };
  const { username = "", password = "", hosts, name, db } = sentinel;
  const query = queryOf(sentinel["query"] ?? "");
  const sentinelUsername = query.get("sentinel_username");
  const sentinelPassword = query.get("sentinel_password");
  return {
    ...COMMON,
    name: decodeURIComponent(name!),
    sentinelCommandTimeout: SENTINEL_MS,
    db: Number(db ?? 0),
    ...credentials(username, password),
    sentinels: hosts!
      .split(",")
      .map((host) => hostAndPort(new URL(`redis://${host}`), SENTINEL_PORT)),
    ...(sentinelUsername !== undefined && { sentinelUsername }),
    ...(sentinelPassword !== undefined && { sentinelPassword }),
    ...(sentinel["tls"] !== "" && {
      tls: certificates,
      sentinelTLS: certificates,
      enableTLSForSentinelMode: true,
    }),
  };
}

function certificateOptions(
  url: string,
  { REDIS_TLS_CA: ca, REDIS_TLS_CERT: cert, REDIS_TLS_KEY: key }: RedisTls,
) {
  const certificates = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  if (Object.keys(certificates).length > 0 && !url.startsWith("rediss")) {
    throw new Error(
      "REDIS_TLS_CA, REDIS_TLS_CERT and REDIS_TLS_KEY need a REDIS_URL with rediss://",
    );
  }
  return certificates;
}

/** The members of a query. As in the other parts of the URL, and unlike in a form, `+` stands for itself. */
function queryOf(query: string): ReadonlyMap<string, string> {
  return new Map(
    query.split("&").map((member) => {
      const [name = "", value = ""] = member.split(/=(.*)/s, 2).map(decodeURIComponent);
      return [name, value];
    }),
  );
}

function serverOptions(urlText: string, certificates: object) {
  const url = new URL(urlText);
  const family = url.searchParams.get("family");
  return {
    ...hostAndPort(url, PORT),
    db: Number(url.pathname.slice(1)),
    ...credentials(url.username, url.password),
    // Without a name in the handshake, a proxy in front of several servers cannot tell which one is meant.
    ...(url.protocol === "rediss:" && {
      tls: { ...certificates, ...(isName(url.hostname) && { servername: url.hostname }) },
    }),
    ...(family !== null && { family: Number(family) }),
  };
}

/** Whether a host of a URL is a name and not an address. */
const isName = (hostname: string) => !/^[\d.]+$|^\[/.test(hostname);

function hostAndPort({ hostname, port }: URL, defaultPort: number) {
  // An IPv6 address has brackets in a URL, but not in the address of a socket.
  return {
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? defaultPort : Number(port),
  };
}

function credentials(username: string, password: string) {
  return {
    ...(username !== "" && { username: decodeURIComponent(username) }),
    ...(password !== "" && { password: decodeURIComponent(password) }),
  };
}

/**
 * If the server has become a replica, or a cluster is between two states, ioredis must reconnect (to the new master) and send the command
 * again. The value 2 asks for both.
 */
export function reconnectOnError({ message }: Error): 2 | false {
  return IS_ELSEWHERE.test(message) ? 2 : false;
}
