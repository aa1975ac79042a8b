/** Variables for the chat templates of a model. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { optional, record, text } from "./schema.ts";

/** Variables that the server sets for every template. */
const RESERVED = ["messages", "tools", "documents", "add_generation_prompt"];

const kwargs = v.pipe(
  record(text(LIMITS.templateNameCharsMax), v.unknown()),
  v.check(
    (values) => RESERVED.every((name) => !Object.hasOwn(values, name)),
    `Expected no variable named ${RESERVED.join(", ")}: the server sets these`,
  ),
  v.check(
    (values) => JSON.stringify(values).length <= LIMITS.templateKwargsCharsMax,
    `Expected at most ${LIMITS.templateKwargsCharsMax} characters of JSON`,
  ),
);

/** The fields of chats and jobs about chat templates. */
export const templateFields = {
  chat_template_kwargs: optional(
    kwargs,
    `Variables for the chat templates of the models, such as \`enable_thinking\` of Qwen 3, up to ${LIMITS.templateKwargsCharsMax} characters as JSON. They replace those of the server's configuration; a template ignores what it does not know. The default is none.`,
    { examples: [{ enable_thinking: false }] },
  ),
};
