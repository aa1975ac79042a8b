/** The start of a worker whose shards answer at different times. */
import { expect, test } from "vitest";
import { startShards } from "../../worker/shard-starts.ts";

function newShard() {
  const { promise: away, resolve: setAway } = Promise.withResolvers<void>();
  const { promise: started, resolve: answer, reject: refuse } = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<string>();
  return { away, setAway, started, answer, refuse, closed, close: closed.resolve };
}

test("the shards that answer are served while another does not; if that one is refused later, it alone is closed", async () => {
  const [first, late] = [newShard(), newShard()];
  const started = startShards([late, first], (shard) => shard.started);
  late.setAway();
  first.answer();
  await started;
  late.refuse(new Error("URL 1 was URL 2"));
  expect(await late.closed.promise).toBe("URL 1 was URL 2");
});

test("a shard that is refused when it is first asked ends the start, although another was faster", async () => {
  const [first, refused] = [newShard(), newShard()];
  const started = startShards([first, refused], (shard) => shard.started);
  first.answer();
  await first.started;
  refused.refuse(new Error("URL 2 was URL 1"));
  await expect(started).rejects.toThrow("URL 2 was URL 1");
});

test("while no shard answers it waits, and a refusal of the first that does ends the start", async () => {
  const [a, b] = [newShard(), newShard()];
  const started = startShards([a, b], (shard) => shard.started);
  a.setAway();
  b.setAway();
  b.refuse(new Error("too old"));
  await expect(started).rejects.toThrow("too old");
});
