/** Host names through a real name server, which is silent for some names. */
import { expect, onTestFinished, test } from "vitest";
import { startNameServer, type NameAnswer } from "../../support/name-server.ts";
import { HostResolver } from "../../../worker/webhooks/resolve-host.ts";

async function start(answer: (name: string) => NameAnswer, ttlSeconds = 0) {
  const server = await startNameServer(answer, ttlSeconds);
  onTestFinished(() => server.close());
  return { server, resolver: new HostResolver([server.address]) };
}

test("a name is resolved while a hundred others wait for a silent name server", async () => {
  const { resolver } = await start((name) => (name.startsWith("silent") ? null : ["192.0.2.1"]));
  const silent = Array.from({ length: 100 }, (_, i) => resolver.lookup(`silent-${i}.test`));
  const settled = Promise.allSettled(silent);
  const first = await Promise.race([settled, resolver.lookup("answered.test")]);
  expect(first).toEqual([{ address: "192.0.2.1", family: 4 }]);
  for (const { reason } of (await settled) as PromiseRejectedResult[]) {
    expect((reason as Error).message).toBe("The host name was not resolved within 5 s");
  }
});

test("lookups of one name at the same time, and within its time to live, ask once", async () => {
  const { server, resolver } = await start(() => ["192.0.2.1", "192.0.2.2"], 60);
  await Promise.all([1, 2, 3].map(() => resolver.lookup("one.test")));
  expect(await resolver.lookup("ONE.test.")).toHaveLength(2);
  expect(server.questions.toSorted()).toEqual(["one.test A", "one.test AAAA"]);
});

test("without a time to live the next lookup asks again", async () => {
  const answers = [["192.0.2.1"], ["192.0.2.1"], ["192.0.2.2"], ["192.0.2.2"]];
  const { resolver } = await start(() => answers.shift()!);
  expect(await resolver.lookup("moving.test")).toMatchObject([{ address: "192.0.2.1" }]);
  expect(await resolver.lookup("moving.test")).toMatchObject([{ address: "192.0.2.2" }]);
});

test("a name that does not exist fails with ENOTFOUND", async () => {
  const { resolver } = await start(() => "absent");
  await expect(resolver.lookup("absent.test")).rejects.toMatchObject({ code: "ENOTFOUND" });
});

test("localhost and the names of /etc/hosts need no name server", async () => {
  const { server, resolver } = await start(() => null);
  expect(await resolver.lookup("localhost")).toContainEqual({ address: "127.0.0.1", family: 4 });
  expect(await resolver.lookup("a.localhost")).toContainEqual({ address: "::1", family: 6 });
  expect(server.questions).toEqual([]);
});
