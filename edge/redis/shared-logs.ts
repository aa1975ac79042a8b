/** A reader of logs for any number of streams, over one connection that they share. */
import type { Redis } from "ioredis";
import { JobStore } from "../../shared/jobs/store.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { commandsOf, tagOf } from "../../shared/redis/tags.ts";
import { InboxStore } from "../../shared/webhooks/inbox-store.ts";
import type { Env } from "../runtime/env.ts";
import { RedisLogs, type LogReader } from "./follow.ts";
import { SharedSubscriptions } from "./subscriptions.ts";

/** @param redis is used for the subscriptions and for reading the logs; no other code may subscribe with it */
export function logsOver(redis: Redis, env: Env): LogReader {
  const subscriptions = new SharedSubscriptions(redis, tagOf(redis));
  const commands = commandsOf(redis);
  return new RedisLogs(
    () => subscriptions.subscriber(),
    new JobStore(commands, env.RESULT_TTL_SECONDS * 1000),
    new InboxStore(commands),
    new KeyRegistry(commands),
    env.STREAM_HEARTBEAT_SECONDS * 1000,
  );
}
