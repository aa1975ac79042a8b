/**
 * The objects of requests, in every protocol: which members are absent, refused or ignored. A member that the schema does not
 * have is refused by its name, unless its value asks for nothing. Clients send such values for fields that they know and this
 * server does not serve, so the rule is here, once, for all routes.
 */
import * as v from "valibot";

/** Values that stand for an absent field, also where the field is served. Null always does. */
const UNSET: Readonly<Record<string, readonly unknown[]>> = {
  // -1 is "random", "all" or "no limit" for clients of vLLM, llama.cpp and LM Studio.
  seed: [-1],
  top_k: [-1],
  max_tokens: [-1],
  max_completion_tokens: [-1],
  max_output_tokens: [-1],
  stop: [""],
  instructions: [""],
  system: ["", []],
  previous_response_id: [""],
  user: [""],
  // The formats of an output as vLLM's clients spell them.
  structured_outputs: [{}],
  json: [""],
  regex: [""],
  choice: [[]],
  grammar: [""],
  json_object: [false],
  guided_json: [""],
  guided_regex: [""],
  guided_choice: [[]],
  guided_grammar: [""],
  tools: [[]],
  functions: [[]],
  // Completions and jobs have a number here, chats true or false.
  logprobs: [false],
};

/** Values of fields that are not served, which ask for what happens anyway. So do an empty text and an empty array. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  // Tools, where a request has none.
  tool_choice: ["none", "auto"],
  function_call: ["none", "auto"],
  parallel_tool_calls: [true, false],
  defer_loading: [false],
  // Reasoning and its effort, apart from the text.
  reasoning: [{}, { effort: "none" }, { summary: "auto" }],
  reasoning_effort: ["none"],
  include_reasoning: [true, false],
  separate_reasoning: [true, false],
  verbosity: ["medium"],
  thinking: [{ type: "disabled" }],
  modalities: [["text"]],
  // Tiers, caches and retention.
  service_tier: ["auto", "default", "standard_only"],
  speed: ["standard"],
  store: [true],
  prompt_cache_retention: ["in_memory", "in-memory"],
  prompt_cache_options: [{}],
  cache_prompt: [true],
  // Truncation of a conversation: one that does not fit the context is an error in any case.
  truncation: ["auto", "disabled"],
  include_obfuscation: [false],
  continuous_usage_stats: [false],
  // Settings of vLLM that are accepted with these values only, because they ask for what happens here anyway.
  disable_fallback: [true, false],
  disable_any_whitespace: [false],
  disable_additional_properties: [false],
  guided_decoding_backend: ["auto", "guidance", "lm-format-enforcer", "outlines", "xgrammar"],
  // Further parameters of vLLM, SGLang and llama.cpp.
  n: [1],
  best_of: [1],
  echo: [false],
  stream: [false],
  use_beam_search: [false],
  length_penalty: [1],
  early_stopping: [false],
  min_tokens: [0],
  ignore_eos: [false],
  include_stop_str_in_output: [false],
  skip_special_tokens: [true],
  spaces_between_special_tokens: [true],
  add_generation_prompt: [true],
  continue_final_message: [false],
  return_tokens_as_token_ids: [false],
  return_token_ids: [false],
  chat_template_kwargs: [{}],
  extra_body: [{}],
  repeat_penalty: [1],
  typical_p: [1],
  tfs_z: [1],
  top_a: [0],
  mirostat: [0],
};

const isEmpty = (value: unknown) => value === "" || (Array.isArray(value) && value.length === 0);

/** The texts of the values, so that arrays and objects can be compared. */
const textsOf = (table: typeof UNSET): ReadonlyMap<string, ReadonlySet<string>> =>
  new Map(
    Object.entries(table).map(([name, values]) => [
      name,
      new Set(values.map((value) => JSON.stringify(value))),
    ]),
  );
const UNSET_TEXTS = textsOf(UNSET);
const NEUTRAL_TEXTS = textsOf(NEUTRAL);

function isListed(texts: typeof UNSET_TEXTS, name: string, value: unknown): boolean {
  return texts.get(name)?.has(JSON.stringify(withoutNulls(value))) ?? false;
}

/** `{effort: null}` is `{}`. */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, member]) => member !== null));
}

/**
 * An object of a request. Members that ask for nothing are left out before the others are checked.
 * @param ignored names of members that are accepted with any value and not used
 */
// @__NO_SIDE_EFFECTS__
export function requestObject<const Entries extends v.ObjectEntries>(
  entries: Entries,
  ignored: ReadonlySet<string> = new Set(),
): v.StrictObjectSchema<Entries, undefined> {
  const asksForNothing = (name: string, value: unknown): boolean => {
    if (value === null || isListed(UNSET_TEXTS, name, value)) return true;
    if (Object.hasOwn(entries, name)) return false;
    return ignored.has(name) || isEmpty(value) || isListed(NEUTRAL_TEXTS, name, value);
  };
  const schema = v.strictObject(entries);
  const run: (typeof schema)["~run"] = (dataset, config) => {
    const { value } = dataset as { value: unknown };
    if (typeof value !== "object" || value === null) return schema["~run"](dataset, config);
    // An empty list is what some languages send for an empty object.
    if (Array.isArray(value) && value.length > 0) {
      v._addIssue(schema, "type", dataset, config);
      return dataset as unknown as ReturnType<typeof run>;
    }
    const members = Object.entries(value).filter(([name, member]) => !asksForNothing(name, member));
    return schema["~run"]({ ...dataset, value: Object.fromEntries(members) }, config);
  };
  return { ...schema, "~run": run };
}
