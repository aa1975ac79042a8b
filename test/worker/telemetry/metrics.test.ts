/** Metrics of models: bases on other servers, and graphs that run slowly. */
import { expect, test } from "vitest";
import { Metrics } from "../../../worker/telemetry/metrics.ts";

test("a base that is away is told by its model, and as up again when it is back", async () => {
  const metrics = new Metrics({ version: "1.2.3", commit: "" });
  metrics.setModels([{ id: "legal-70b", base: "0123456789abcdef" }]);
  const lines = async () =>
    (await metrics.registry.getSingleMetricAsString("trimtab_remote_base_up"))
      .split("\n")
      .filter((line) => !line.startsWith("#"));
  expect(await lines()).toEqual([]);
  metrics.setRemoteBases([{ model: "legal-70b", problem: "the connection failed" }]);
  const labels = 'model="legal-70b",base="0123456789ab"';
  expect(await lines()).toEqual([`trimtab_remote_base_up{${labels}} 0`]);
  metrics.setRemoteBases([{ model: "legal-70b", problem: null }]);
  expect(await lines()).toEqual([`trimtab_remote_base_up{${labels}} 1`]);
});

test("graphs that run as exported are counted by model and role", async () => {
  const metrics = new Metrics({ version: "1.2.3", commit: "" });
  const slowGraphs = [{ role: "expert", reason: "its attention stays within chunks" }];
  metrics.setModels([
    { id: "fast", base: "abc" },
    { id: "slow", base: "abc", slowGraphs },
  ]);
  const text = await metrics.registry.getSingleMetricAsString("trimtab_slow_graph");
  expect(text.split("\n").filter((line) => !line.startsWith("#"))).toEqual([
    'trimtab_slow_graph{model="slow",base="abc",role="expert"} 1',
  ]);
});
