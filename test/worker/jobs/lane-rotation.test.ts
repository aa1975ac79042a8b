import { expect, test } from "vitest";
import { LaneRotation } from "../../../worker/jobs/lane-rotation.ts";

test("a worker looks at all combined lanes in turn, although single lanes always have a job", async () => {
  const ids = Array.from({ length: 14 }, (_, i) => `m${i}`);
  const combined = ids.flatMap((a, i) => ids.slice(i + 1).map((b) => `${a}+${b}`));
  const rotation = new LaneRotation(new Map(ids.map((id) => [id, `f-${id}`])));
  await rotation.refresh(combined, []);
  const seen = new Set<string>();
  for (let take = 0; take < 8; take++) {
    const lanes = rotation.next().map(([lane]) => lane);
    const single = lanes.findIndex((lane) => ids.includes(lane));
    for (const lane of lanes.slice(0, single)) seen.add(lane);
    rotation.taken(lanes[single]!);
  }
  expect(seen).toEqual(new Set(combined));
});

test("lanes of a model whose base is away are left out, and they come back with it", async () => {
  const ids = ["local", "remote"];
  const rotation = new LaneRotation(new Map(ids.map((id) => [id, `f-${id}`])));
  await rotation.refresh(["local+remote"], []);
  const lanes = (away = new Map<string, string>()) => rotation.next(away).map(([lane]) => lane);
  expect(lanes().toSorted()).toEqual(["local", "local+remote", "remote"]);
  expect(lanes(new Map([["remote", "away"]]))).toEqual(["local"]);
  expect(lanes()).toHaveLength(3);
});
