/** What a worker tells of bases on other servers. */
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
