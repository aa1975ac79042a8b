/** Stream obfuscation (edge/answers/obfuscation.ts): the option of a request, and the field of the padded events. */
import * as v from "valibot";
import { field, optional } from "./schema.ts";

export const includeObfuscation = optional(
  v.boolean(),
  "Whether random characters pad the events with text, in their field `obfuscation`, so that the sizes of encrypted packets tell less of the text. OpenAI's default is true.",
  { default: false },
);

export const obfuscation = field(
  v.exactOptional(v.string()),
  "Random characters. Only with `stream_options.include_obfuscation`.",
);
