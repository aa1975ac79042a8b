/** The facets that a job is submitted with: what lists of jobs can be filtered by besides state and time. */
import { sha1Hex } from "../ids.ts";
import { FACET_SEPARATOR } from "./job-index-lua.ts";

/** Bytes of a facet of a job: its entry in a set, which may be the only one. */
export const FACET_BYTES = 256;

/** The facet of the chats that `GET /v1/chat/completions` lists. */
export const CHAT_FACET = "chat";

export const modelFacet = (model: string) => `model:${model}`;

/** A pair may be as long as a page, so its facet has a hash. */
export const metadataFacets = (metadata: Readonly<Record<string, string>>): Promise<string[]> =>
  Promise.all(
    Object.entries(metadata).map(
      async ([name, value]) => `metadata:${await sha1Hex(`${name}\0${value}`)}`,
    ),
  );

/** The field `facets` of a job's hash. */
export async function facetsField(
  model: string,
  metadata: Readonly<Record<string, string>>,
  isListedChat: boolean,
): Promise<string> {
  const chat = isListedChat ? [CHAT_FACET] : [];
  return [modelFacet(model), ...chat, ...(await metadataFacets(metadata))].join(FACET_SEPARATOR);
}
