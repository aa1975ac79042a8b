/** The log and the state of bases that cannot be used. */
import { pino } from "pino";
import { expect, test } from "vitest";
import { AwayModels } from "../../../worker/jobs/away-models.ts";

test("a base that goes away and comes back is logged once each, and a warning of its checks once in all", () => {
  const lines: { level: number; model?: string; reason?: string; text?: string; msg: string }[] =
    [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as never) });
  const models = new AwayModels(log);
  const state = (
    problem: string | null,
    warnings: string[] = [],
    serverText: string | null = null,
  ) =>
    models.update([
      { model: "legal", problem, warnings, serverText },
      { model: "medical", problem: null, warnings: [], serverText: null },
    ]);
  state("it restarts");
  expect([...models.reasons]).toEqual([["legal", "it restarts"]]);
  state("it restarts", [], "loading");
  expect([...models.reasons]).toEqual([["legal", "it restarts"]]);
  state("it restarts", [], "loading");
  state(null, ["its prefix cache is off"]);
  expect(models.reasons.size).toBe(0);
  state(null, ["its prefix cache is off"]);
  expect(
    lines.map(({ level, model, reason, text, msg }) => [level, model, reason ?? text, msg]),
  ).toEqual([
    [40, "legal", "it restarts", "The base cannot be used: its jobs wait"],
    [40, "legal", "loading", "The base's server has answered an error"],
    [30, "legal", undefined, "The base can be used"],
    [40, undefined, undefined, "legal: the base: its prefix cache is off"],
  ]);
});
