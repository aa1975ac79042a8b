/** Earlier turns of a chat, to measure answers at a distance from the beginning: questions of atlas-QA's dev split with their answers. */
import type { Ensemble } from "../../worker/engine/model/ensemble.ts";
import { loadItems } from "./task.ts";

/** Neighbouring questions have other turns before them. */
const STRIDE = 7;

type Turn = { readonly role: "user" | "assistant"; readonly content: string };

/** @returns for the nth question of a run the turns before it, which have at most `tokensMax` tokens together */
export function earlierTurns(ensemble: Ensemble, tokensMax: number): (n: number) => Turn[] {
  const turns = loadItems("atlas-qa", "dev").map(({ prompt, answer }) => {
    const messages: Turn[] = [
      { role: "user", content: prompt },
      { role: "assistant", content: answer },
    ];
    const { base } = ensemble.encodePrompts({ kind: "chat", messages }, ensemble.contextTokens);
    return { messages, tokens: base.length };
  });
  return (n) => {
    const chosen: Turn[] = [];
    let tokens = 0;
    for (let i = n * STRIDE; ; i++) {
      const turn = turns[i % turns.length]!;
      tokens += turn.tokens;
      if (tokens > tokensMax) return chosen;
      chosen.push(...turn.messages);
    }
  };
}
