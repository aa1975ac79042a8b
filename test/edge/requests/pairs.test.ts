/** `steering.pairs`: which ensembles can be combined, and the limits of their weights. */
import { beforeAll, expect, test } from "vitest";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { card, errorOf, newTenant, redis, store, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
  const cards = [
    { ...card, id: "sister", alphaMax: 1 },
    { ...card, id: "stranger", base: "another" },
    { ...card, id: "wider", vocabSize: 2_000 },
  ];
  await redis.hset(MODELS_KEY, ...cards.flatMap((other) => [other.id, JSON.stringify(other)]));
});

const BODY = { model: card.id, prompt: "Hello" };
const pairs = [{ model: "demo", weight: 1.5 }, { model: "sister" }];

test("the worker gets ensembles with the same base and their weights, and the job shows them", async () => {
  const { id, steering } = await client.submit({ steering: { alpha: 1, pairs } });
  const requestedPairs = [
    { model: "demo", weight: 1.5 },
    { model: "sister", weight: 1 },
  ];
  expect(steering).toEqual({ alpha: 1, pairs: requestedPairs });
  expect((await store.record(id))?.generation).toMatchObject({ alpha: 1, pairs: requestedPairs });
});

test("a sign election is stored and shown with several pairs, and means nothing with one", async () => {
  const pair_conflicts = "elect";
  const several = await client.submit({ steering: { alpha: 1, pairs, pair_conflicts } });
  expect(several.steering).toMatchObject({ pair_conflicts });
  expect((await store.record(several.id))?.generation).toMatchObject({ pairConflicts: "elect" });
  const one = await client.submit({
    steering: { alpha: 1, pairs: pairs.slice(1), pair_conflicts },
  });
  expect(one.steering).not.toHaveProperty("pair_conflicts");
});

test("without pairs neither the generation nor the job has the field", async () => {
  const { id, steering } = await client.submit({ steering: { pairs: null } });
  expect(steering).toEqual({ alpha: card.alphaDefault });
  expect((await store.record(id))?.generation).not.toHaveProperty("pairs");
});

const PAIR = "steering.pairs";
test.each<[unknown, string, string | RegExp, string?]>([
  [[], PAIR, "steering.pairs must not be empty"],
  [Array.from({ length: 5 }, () => ({ model: "demo" })), PAIR, /at most 4 items, received 5$/],
  [[{ model: "demo" }, { model: "demo" }], PAIR, "steering.pairs must be different models"],
  [[{ weight: 1 }], `${PAIR}.0.model`, "steering.pairs.0.model is required"],
  [[{ model: "demo", weight: 0 }], `${PAIR}.0.weight`, /greater than 0, received 0$/],
  [[{ model: "demo", weight: 5 }], `${PAIR}.0.weight`, /at most 4, received 5$/],
  [[{ model: "demo" }, { model: "nobody" }], `${PAIR}.1.model`, /^No worker/, "model_not_found"],
  [
    [{ model: "demo" }, { model: "stranger" }],
    `${PAIR}.1.model`,
    "steering.pairs.1.model must have the same base as demo; stranger has another base",
  ],
  [[{ model: "wider" }], `${PAIR}.0.model`, /wider has another base$/],
  [
    [{ model: "demo" }, { model: "sister", weight: 2 }],
    `${PAIR}.1.weight`,
    "steering.pairs.1.weight times alpha must be from 0 to 1 with this model, received 2 times 0.75",
  ],
])("%j are refused", async (pairs, param, message, code = "invalid_request") => {
  const body = { ...BODY, steering: { alpha: 0.75, pairs } };
  for (const path of ["/v1/jobs", "/v1/completions"]) {
    const error = await errorOf(await client.post(path, body));
    expect(error).toMatchObject({ code, param, message: expect.stringMatching(message) as string });
  }
});

test("a schedule's largest alpha counts for every pair; each ensemble's own maximum only for its own pair", async () => {
  const schedule = [
    [0, 0],
    [9, 1.5],
  ];
  const steering = { schedule, pairs: [{ model: "sister" }] };
  const error = await errorOf(await client.post("/v1/jobs", { ...BODY, steering }));
  expect(error.param).toBe("steering.pairs.0.weight");
  const weaker = { alpha: 4, pairs: [{ model: "sister", weight: 0.25 }] };
  expect((await client.submit({ steering: weaker })).steering.alpha).toBe(4);
});
