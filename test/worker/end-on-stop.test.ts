import { setImmediate } from "node:timers/promises";
import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { endOnStop } from "../../worker/end-on-stop.ts";

test.for([
  ["while a model is loaded ends the process after the load", true, ["loaded", "exit 0"]],
  ["while files are downloaded ends it at once", false, ["exit 0", "loaded"]],
] as const)("SIGTERM %s", async ([, isLoading, expected]) => {
  const events: string[] = [];
  const exited = Promise.withResolvers<void>();
  vi.spyOn(process, "exit").mockImplementation((code) => {
    events.push(`exit ${code}`);
    exited.resolve();
    return undefined as never;
  });
  const load = Promise.withResolvers<void>();
  const stop = new AbortController();
  endOnStop(stop.signal, [], {
    seconds: 60,
    log: pino({ level: "silent" }),
    stopTracing: async () => {},
    starting: () => (isLoading ? load.promise : null),
  });
  stop.abort("SIGTERM");
  // An exit that does not wait comes before this.
  await setImmediate();
  events.push("loaded");
  load.resolve();
  await exited.promise;
  vi.restoreAllMocks();
  expect(events).toEqual(expected);
});
