/** Calls of the edge that the comparison needs. */
import type { ScoreList } from "../../../shared/api/score.ts";

export class Api {
  readonly url: string;
  readonly key: string;

  constructor(url: string, key: string) {
    this.url = url;
    this.key = key;
  }

  /** The scores of continuations of a text each. */
  async score(
    model: string,
    pairs: readonly (readonly [context: string, continuation: string])[],
  ): Promise<ScoreList["data"]> {
    const inputs = pairs.map(([prompt, continuation]) => ({ prompt, completions: [continuation] }));
    const reply = await fetch(`${this.url}/v1/score`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.key}`, "content-type": "application/json" },
      body: JSON.stringify({ model, inputs, steering: { alpha: 1 } }),
    });
    if (!reply.ok) throw new Error(`/v1/score: ${await reply.text()}`);
    return ((await reply.json()) as ScoreList).data;
  }
}
