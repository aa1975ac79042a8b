/** Where Redis is: a server, or whichever of several the Sentinels say is the master; and what a client makes of it. */
import * as v from "valibot";

/** `redis+sentinel://[user:password@]host:port,host:port/master[/db]`: user and password are those of the master. */
const SENTINEL_URL =
  /^redis\+sentinel:\/\/(?:(?<username>[^:@/]*):(?<password>[^@/]*)@)?(?<hosts>[^@/]+)\/(?<name>[^/]+)(?:\/(?<db>\d+))?$/;
const PORT = 6_379;
const SENTINEL_PORT = 26_379;

const MESSAGE = "Expected a redis://, rediss:// or redis+sentinel://host:port,…/master URL";

export const RedisUrl = v.pipe(
  v.string(),
  v.check(
    (url) => (/^rediss?:\/\/./.test(url) && URL.canParse(url)) || SENTINEL_URL.test(url),
    MESSAGE,
  ),
);

/** Options of an ioredis client. @param url as RedisUrl has it */
export function redisOptions(url: string) {
  const sentinel = SENTINEL_URL.exec(url)?.groups;
  if (sentinel === undefined) return { reconnectOnError, ...serverOf(url) };
  const { username = "", password = "", hosts, name, db } = sentinel;
  return {
    reconnectOnError,
    name: decodeURIComponent(name!),
    db: Number(db ?? 0),
    ...credentials(username, password),
    sentinels: hosts!.split(",").map((each) => hostOf(new URL(`redis://${each}`), SENTINEL_PORT)),
  };
}

function serverOf(text: string) {
  const url = new URL(text);
  const family = url.searchParams.get("family");
  return {
    ...hostOf(url, PORT),
    db: Number(url.pathname.slice(1)),
    ...credentials(url.username, url.password),
    ...(url.protocol === "rediss:" && { tls: {} }),
    ...(family !== null && { family: Number(family) }),
  };
}

function hostOf({ hostname, port }: URL, fallback: number) {
  // An IPv6 address has brackets in a URL, and none in a socket's address.
  return {
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? fallback : Number(port),
  };
}

function credentials(username: string, password: string) {
  return {
    ...(username !== "" && { username: decodeURIComponent(username) }),
    ...(password !== "" && { password: decodeURIComponent(password) }),
  };
}

/** A master that has become a replica: the command is sent again to the one that took its place. */
function reconnectOnError({ message }: Error): 2 | false {
  return message.startsWith("READONLY") ? 2 : false;
}
