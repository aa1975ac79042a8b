/**
 * Readers of logs after a reconnect, as to a replica that has become the master: one that has read what the replica does not have
 * learns it.
 */
import { Redis } from "ioredis";
import { afterAll, expect, inject, test } from "vitest";
import { RedisLogs } from "../../../edge/redis/follow.ts";
import { newId } from "../../../shared/ids.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { inboxSeqKey, jobKey, logKey } from "../../../shared/redis/keys.ts";
import { InboxStore } from "../../../shared/webhooks/inbox-store.ts";
import { testMessage } from "../../../shared/webhooks/message.ts";
import { claimJob } from "../../support/claim.ts";
import { FakeSubscriber } from "../../support/fake-subscriber.ts";
import { newJob } from "../../support/generation.ts";

const redis = new Redis(inject("redisUrl"));
afterAll(() => redis.disconnect());
const store = new JobStore(redis, 60_000);
const inbox = new InboxStore(redis);
/** No test waits for a poll. */
const POLL_MS = 60_000;
const { signal } = new AbortController();
const logsOf = (subscriber: FakeSubscriber) =>
  new RedisLogs(() => subscriber, store, inbox, new KeyRegistry(redis), POLL_MS);

/** A reader of a log of five entries that has read all of them. */
async function caughtUp() {
  const id = newId("job");
  await store.submit(newJob({ id, tenant: "acme" }));
  await claimJob(redis, id);
  for (const at of [0, 1, 2]) await store.appendTokens(id, 1, at, { ids: [1], text: "a" });
  const subscriber = new FakeSubscriber();
  const events = logsOf(subscriber).job(id, { after: 0, signal });
  for (let i = 0; i < 5; i++) await events.next();
  const next = events.next();
  next.catch(() => {});
  // The reader listens for reconnects when it has subscribed.
  await expect.poll(() => subscriber.listenerCount("ready")).toBe(1);
  return { id, subscriber, next };
}

test("a reader whose last entries are lost gets the error events_lost", async () => {
  const { id, subscriber, next } = await caughtUp();
  await redis.xdel(logKey(id), "4-0", "5-0");
  subscriber.emit("ready");
  await expect(next).rejects.toMatchObject({ code: "events_lost" });
});

test("a reader gets it also if the log has other entries under their numbers", async () => {
  const { id, subscriber, next } = await caughtUp();
  await redis.del(logKey(id));
  for (const seq of [4, 5, 6]) {
    const data = '{"ids":[1,1],"text":"ab"}';
    await redis.xadd(logKey(id), `${seq}-0`, "type", "tokens", "data", data);
  }
  subscriber.emit("ready");
  await expect(next).rejects.toMatchObject({ code: "events_lost" });
});

test("a reader that misses nothing continues, and one whose job is deleted ends", async () => {
  const [kept, deleted] = [await caughtUp(), await caughtUp()];
  await store.appendTokens(kept.id, 1, 3, { ids: [1], text: "d" });
  await redis.del(jobKey(deleted.id), logKey(deleted.id));
  for (const { subscriber } of [kept, deleted]) subscriber.emit("ready");
  expect((await kept.next).value).toMatchObject({ seq: 6 });
  expect((await deleted.next).done).toBe(true);
});

test("a reader of an inbox that has lost messages gets the error", async () => {
  const tenant = newId("tenant");
  await inbox.append(tenant, testMessage("ep_a"));
  await inbox.append(tenant, testMessage("ep_a"));
  const subscriber = new FakeSubscriber();
  const messages = logsOf(subscriber).inbox(tenant, { after: 1, signal });
  await messages.next();
  const next = messages.next();
  next.catch(() => {});
  await expect.poll(() => subscriber.listenerCount("ready")).toBe(1);
  await redis.set(inboxSeqKey(tenant), 1);
  subscriber.emit("ready");
  await expect(next).rejects.toMatchObject({ code: "events_lost" });
});
