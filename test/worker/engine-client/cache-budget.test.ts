/** An engine whose KV caches hold less than the context, with the demo models. */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Generation } from "../../../shared/jobs/record.ts";
import { EngineClient } from "../../../worker/engine-client/client.ts";
import type { RunEvent } from "../../../worker/engine-client/messages.ts";
import { generation } from "../../support/generation.ts";

const MANIFEST = join(import.meta.dirname, "../../../infra/models/ensembles.json");
const never = new AbortController().signal;

/** Without end tokens, so that a run generates all its tokens. */
const endless = (changes: Partial<Generation>) =>
  generation({ logitBias: [[0, -100]], ...changes });
const tokensOf = (events: readonly RunEvent[]) =>
  events.flatMap((event) => (event.type === "token" ? [event.token] : []));

test("with little KV cache the cards say how long a job may be, outputs end there, and what is longer fails", async () => {
  // 128 tokens of the base, or 64 of all three models.
  const small = await EngineClient.start(
    {
      manifestFile: MANIFEST,
      intraOpThreads: 1,
      cacheBytesMax: 1.5 * 2 ** 20,
      prefixBytesMax: 0,
    },
    (error) => {
      throw error;
    },
  );
  const [card] = small.cards;
  const { steered, base } = card!.jobTokensMax!;
  expect([steered, base]).toEqual([64, 128]);
  expect(small.warnings[0]).toBe(
    `atlas-qa: a job may have ${steered} of ${card!.contextTokens} tokens: KV_CACHE_MIB holds no more`,
  );
  const runSmall = async (changes: Partial<Generation>, resume: readonly number[] = []) => {
    const events: RunEvent[] = [];
    for await (const event of small.run("acme", endless(changes), resume, never))
      events.push(event);
    return events;
  };
  const ids = Array.from({ length: 10 }, (_, i) => 5 + i);
  const input = { kind: "tokens", ids } as const;
  const steeredEvents = await runSmall({ input, maxTokens: 500 });
  expect(tokensOf(steeredEvents)).toHaveLength(steered - ids.length);
  expect(steeredEvents.at(-1)).toMatchObject({ type: "end", finish: "length" });
  expect(tokensOf(await runSmall({ input, maxTokens: 500, alpha: 0 }))).toHaveLength(
    base - ids.length,
  );
  // Another worker, with more memory, has continued this job beyond what fits here.
  const [beyond] = await runSmall({ input, maxTokens: 500 }, Array<number>(steered).fill(5));
  expect(beyond).toMatchObject({
    type: "failed",
    code: "invalid_request",
    message: expect.stringMatching(
      /^The job needs \d+ MiB of KV cache; this worker has 2 MiB$/,
    ) as string,
  });
  const long = { kind: "tokens", ids: Array<number>(steered).fill(5) } as const;
  const [failed] = await runSmall({ input: long });
  expect(failed).toMatchObject({ type: "failed", code: "context_length_exceeded" });
  const completion = { kind: "tokens", ids: [5] } as const;
  const [unscored] = await runSmall({ input: long, completion });
  expect(unscored).toMatchObject({ type: "failed", code: "context_length_exceeded" });
  await small.close();
});
