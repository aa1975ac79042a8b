/**
 * Notices a connection to Redis that has died without a sign: a firewall forgot it, or an address moved. Without this a
 * subscription would stay silent for ever.
 */
import type { Redis } from "ioredis";

const PING_MS = 1_000;

/**
 * Sends a PING each second, and replaces the connection when Redis sends nothing for `silentMsMax` after a command. Its
 * subscriptions are made again, and commands without a reply are sent again, so it may be used only for commands that may run twice.
 * @param silentMsMax if it is shorter than the timeout of commands, commands outlive the replacement
 */
export function keepAlive(redis: Redis, silentMsMax: number): void {
  redis.options.socketTimeout = silentMsMax;
  const timer = setInterval(() => {
    // Otherwise one would be sent after the reconnect for each second of an outage.
    if (redis.status === "ready") redis.ping().catch(() => {});
  }, PING_MS);
  redis.on("end", () => clearInterval(timer));
}
