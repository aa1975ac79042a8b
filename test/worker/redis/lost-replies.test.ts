/** A command whose reply is lost within the process, while Redis answers others. */
import { Redis } from "ioredis";
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { connectRedis, isAnswering } from "../../../worker/redis/connection.ts";

test("a command without a reply is reported, one that is slow with the connection is not", async () => {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const redis = connectRedis(server.url, pino({ level: "silent" }));
  onTestFinished(() => redis.disconnect());
  await redis.ping();
  const onLost = vi.fn<(commands: string[]) => void>();
  let answers = false;
  let asked = 0;
  const answering = () => {
    asked++;
    return answers && isAnswering(redis);
  };
  redis.watchReplies(answering, 1, onLost);
  vi.spyOn(Redis.prototype, "sendCommand").mockImplementationOnce(
    (command) => (command as { promise: unknown }).promise,
  );
  void redis.get("never answered");
  // While Redis answers nothing, a missing reply is no sign of a hang.
  await redis.set("key", "value");
  await vi.waitUntil(() => asked === 3, 30_000);
  expect(onLost).not.toHaveBeenCalled();
  answers = true;
  await vi.waitUntil(() => onLost.mock.calls.length > 0, 30_000);
  expect(onLost).toHaveBeenCalledWith(["get"]);
});
