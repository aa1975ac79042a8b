/**
 * The cards of models that requests of this process have read lately: a submission then asks Redis once less. A card changes
 * only when a worker with another manifest starts. On Cloudflare there is none.
 */
import type { Redis } from "ioredis";
import type { ModelCard } from "../../shared/workers/model-card.ts";

/** Milliseconds for which a card is used. A worker announces a change every two seconds. */
const KEPT_MS = 500;
/** Clients may name any known model. */
const CARDS_MAX = 1_000;

export class CardCache {
  readonly #cards = new Map<string, { readonly card: ModelCard; readonly untilMs: number }>();

  /** @param read reads the card; a model that is not known is asked for each time */
  async get(id: string, read: () => Promise<ModelCard | null>): Promise<ModelCard | null> {
    const kept = this.#cards.get(id);
    if (kept && kept.untilMs > performance.now()) return kept.card;
    const card = await read();
    if (card === null) return null;
    if (this.#cards.size >= CARDS_MAX) this.#cards.clear();
    this.#cards.set(id, { card, untilMs: performance.now() + KEPT_MS });
    return card;
  }
}

/** The parts of one Redis that all requests of a process share. */
export interface SharedParts {
  readonly redis: Redis;
  readonly cards: CardCache;
}
