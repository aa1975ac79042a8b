/** Tools in prompts: templates of common models, and the default form for templates without tools. */
import { describe, expect, test } from "vitest";
import type { ChatMessage } from "../../../../shared/jobs/record.ts";
import { ChatTemplate } from "../../../../worker/engine/model/chat-template.ts";
import { chooseToolFormat } from "../../../../worker/engine/model/tool-format.ts";

/** Templates with the same structure as those of the models, as far as tools are concerned. */
const TEMPLATES = {
  hermes: `{% if tools %}<|system|>Functions:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
{% endif %}{% for m in messages %}{% if m.role == 'tool' %}<|user|><tool_response>{{ m.content }}</tool_response>{% else %}<|{{ m.role }}|>{% if m.content %}{{ m.content }}{% endif %}{% for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}`,
  llama3: `{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call') }}{% endif %}[assistant]
{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}[end]{% elif m.role == 'tool' %}[ipython]{{ m.content }}[end]{% else %}[{{ m.role }}]{% if loop.last and tools %}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{% endif %}{{ m.content }}[end]{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]
{% endif %}`,
  mistral: `{% for m in messages %}{% if m.role == 'user' %}{% if tools and loop.first %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS] [{% for call in m.tool_calls %}{% if call.id | length != 9 %}{{ raise_exception('id') }}{% endif %}{{ (call.function | tojson)[:-1] }}, "id": "{{ call.id }}"}{% if not loop.last %}, {% endif %}{% endfor %}]</s>{% elif m.role == 'tool' %}[TOOL_RESULTS] {"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}`,
  "mistral-args": `{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]{% else %}{{ m.content or '' }}{% for call in m.tool_calls or [] %}[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}</s>{% endif %}{% endfor %}`,
  deepseek: `{{ tools | tojson if tools else '' }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% elif m.content is none %}<｜Assistant｜><｜tool▁calls▁begin｜>{% for call in m.tool_calls %}{% if not loop.first %}
{% endif %}<｜tool▁call▁begin｜>{{ call.type }}<｜tool▁sep｜>{{ call.function.name }}
\`\`\`json
{{ call.function.arguments | tojson }}
\`\`\`<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>{% elif m.role == 'tool' %}<｜tool▁output▁begin｜>{{ m.content }}<｜tool▁output▁end｜>{% else %}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}`,
  "deepseek-v3.1": `{{ tools | tojson if tools else '' }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% elif m.tool_calls %}<｜Assistant｜></think>{{ m.content or '' }}<｜tool▁calls▁begin｜>{% for call in m.tool_calls %}<｜tool▁call▁begin｜>{{ call.function.name }}<｜tool▁sep｜>{{ call.function.arguments | tojson }}<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>{% elif m.role == 'tool' %}<｜tool▁output▁begin｜>{{ m.content }}<｜tool▁output▁end｜>{% else %}<｜Assistant｜></think>{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜></think>{% endif %}`,
} as const;

const PLAIN = `{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('role') }}{% endif %}{{ m.role }}: {{ m.content }}
{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}`;
/** As the demo models: system messages are left out. */
const NO_SYSTEM = `{% for m in messages %}{% if m.role != 'system' %}{{ m.role }}: {{ m.content }}
{% endif %}{% endfor %}`;

const template = (main: string, tools?: string) => new ChatTemplate({ main, tools }, {});
const WEATHER = { name: "get_weather", parameters: { type: "object", properties: {} } };
const CONVERSATION: ChatMessage[] = [
  { role: "user", content: "Weather?" },
  {
    role: "assistant",
    content: "",
    toolCalls: [
      { id: "call_x_0", name: "get_weather", arguments: '{"city":"Oslo"}' },
      { id: "call_x_1", name: "get_weather", arguments: '{"city":"Rome"}' },
    ],
  },
  { role: "tool", toolCallId: "call_x_0", content: "17" },
  { role: "tool", toolCallId: "call_x_1", content: "23" },
];

test.each(Object.entries(TEMPLATES))("the format of a template is found: %s", (name, main) => {
  const base = template(main);
  expect(chooseToolFormat(undefined, { base })).toEqual({ format: name, warnings: [] });
  const prompt = base.render(CONVERSATION, [WEATHER]);
  for (const part of ["get_weather", "Oslo", "Rome", "17", "23"]) expect(prompt).toContain(part);
  expect(prompt).not.toContain("tool_response>\n");
});

test("templates that write JSON of the key arguments have the format json", () => {
  const json = TEMPLATES.llama3.replace('"parameters"', '"arguments"');
  expect(chooseToolFormat(undefined, { base: template(json) }).format).toBe("json");
});

/** A text instead of an object is rendered as it is. */
const TEXT_ARGUMENTS = TEMPLATES.hermes.replace(
  "{{ call.function.arguments | tojson }}",
  "{{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}",
);
/** Arguments within a text that is JSON itself. */
const QUOTED_ARGUMENTS = PLAIN.replace(
  "{{ m.content }}",
  "{{ m.content or '' }}{% for call in m.tool_calls or [] %}{{ (call.function.arguments | tojson) | tojson }}{% endfor %}",
);

test.each([...Object.entries(TEMPLATES), ["a text", TEXT_ARGUMENTS]])(
  "arguments are shown as they were written, with numbers and keys that JavaScript changes: %s",
  (_, main) => {
    const base = template(main);
    chooseToolFormat(undefined, { base });
    const args =
      '{"id": 9007199254740993, "10": 1, "2": [1.0, -0, 1e2, {"x": 1.50}], "b": "1.0: \\"2.0\\"", "c": 7}';
    const toolCalls = [{ id: "call_x_0", name: "get_weather", arguments: args }];
    const messages: ChatMessage[] = [
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "", toolCalls },
    ];
    expect(base.render(messages, [WEATHER])).toContain(args);
  },
);

test("numbers of arguments lose no digits where a template writes JSON within JSON, or only a member", () => {
  const toolCalls = [{ id: "call_x_0", name: "f", arguments: '{"a":9007199254740993,"b":1.0}' }];
  const message: ChatMessage = { role: "assistant", content: "", toolCalls };
  const rendered = (main: string) =>
    template(main).renderTools(
      { emptyContent: "", textArguments: false, shortIds: false, oneCall: false },
      [message],
      [],
    );
  expect(rendered(QUOTED_ARGUMENTS)).toContain(String.raw`"{\"a\": 9007199254740993, \"b\": 1.0}"`);
  const member = "{{ messages[0].tool_calls[0].function.arguments.a }}";
  expect(rendered(member)).toBe("9007199254740993");
});

test("a template whose calls the grammar would forbid does not fit the format", () => {
  const written = "{{ call.function.arguments | tojson }}";
  const indented = TEMPLATES.hermes.replace(written, written.replace("}}", "(indent=2) }}"));
  const choose = (main: string) => chooseToolFormat("hermes", { base: template(main) });
  expect(() => choose(indented)).toThrow("differ from those that the format hermes allows");
  const changed = TEMPLATES.hermes.replace(
    written,
    written.replace("}}", "| replace('Oslo', 'oslo') }}"),
  );
  expect(() => choose(changed)).toThrow("its calls are not in the format hermes");
});

describe("a template that does not fit", () => {
  test("the manifest's format: the worker does not start", () => {
    const choose = () => chooseToolFormat("mistral", { base: template(TEMPLATES.hermes) });
    expect(choose).toThrow(/base model has tools, but not in the format mistral/);
  });

  test("any format: the tools are in the default form, with a warning", () => {
    const unknown = TEMPLATES.hermes.replace("<tool_call>", "<call>");
    const base = template(unknown);
    const { format, warnings } = chooseToolFormat(undefined, { base });
    expect([format, warnings.length]).toEqual(["hermes", 1]);
    expect(base.render(CONVERSATION, [WEATHER])).toContain('<tool_call>\n{"name": "get_weather"');
  });

  test("that of the base: the expert gets the format of the base in the default form", () => {
    const [base, expert] = [template(TEMPLATES.llama3), template(TEMPLATES.hermes)];
    const { format, warnings } = chooseToolFormat(undefined, { base, expert });
    expect([format, warnings.length]).toEqual(["llama3", 1]);
    expect(expert.render(CONVERSATION, [WEATHER])).toContain('"parameters": {"city":"Oslo"}}');
  });
});

describe("the default form", () => {
  const rendered = (main: string, messages = CONVERSATION, tools = [WEATHER]) => {
    const base = template(main);
    chooseToolFormat(undefined, { base });
    return base.render(messages, tools);
  };

  test("describes tools in a system message, and has calls and results as text", () => {
    const prompt = rendered(PLAIN);
    expect(prompt).toMatch(/^system: .*get_weather.*<tool_call>.*user: Weather\?/s);
    expect(prompt).toContain(
      'assistant: <tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo"}}\n</tool_call>\n<tool_call>',
    );
    expect(prompt).toContain(
      "user: <tool_response>\n17\n</tool_response>\n<tool_response>\n23\n</tool_response>\nassistant:",
    );
  });

  test("has what the user says after a result in one message with it", () => {
    const prompt = rendered(PLAIN, [...CONVERSATION, { role: "user", content: "And?" }]);
    expect(prompt).toContain("23\n</tool_response>\nAnd?\nassistant:");
  });

  test("has {} for arguments that are missing", () => {
    const toolCalls = [{ id: "call_x_0", name: "get_weather", arguments: "" }];
    const prompt = rendered(PLAIN, [{ role: "assistant", content: "", toolCalls }]);
    expect(prompt).toContain('"arguments": {}}');
  });

  test("goes on after the system message of the conversation", () => {
    const prompt = rendered(PLAIN, [{ role: "system", content: "Be kind." }, ...CONVERSATION]);
    expect(prompt).toMatch(/^system: Be kind\.\n\nYou can call/);
    expect(prompt.match(/^system:/gm)).toHaveLength(1);
  });

  test("is in the user's message if the template leaves system messages out", () => {
    expect(rendered(NO_SYSTEM)).toMatch(/^user: You can call.*\n\nWeather\?/s);
  });

  test("changes nothing in a conversation without tools and calls", () => {
    const messages: ChatMessage[] = [{ role: "user", content: "Hi" }];
    expect(rendered(PLAIN, messages, [])).toBe("user: Hi\nassistant:");
  });
});

test("a conversation with tools uses the template of the name tool_use, if there is one", () => {
  const base = template(PLAIN, TEMPLATES.hermes);
  expect(chooseToolFormat(undefined, { base }).warnings).toEqual([]);
  expect(base.render(CONVERSATION, [WEATHER])).toContain("<|system|>Functions:");
  expect(base.render([{ role: "user", content: "Hi" }])).toContain("user: Hi");
});
