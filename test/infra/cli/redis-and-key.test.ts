import { expect, test, vi } from "vitest";
import { redisForCommand } from "../../../infra/cli/redis-and-key.ts";

test("a command for one Redis refuses the URLs of several, and shows none of them", async () => {
  vi.stubEnv("REDIS_URL", "redis://:secret@a redis://:hidden@b");
  await expect(redisForCommand()).rejects.toThrow(
    "REDIS_URL: this command works with one Redis; give it one URL",
  );
  vi.unstubAllEnvs();
});
