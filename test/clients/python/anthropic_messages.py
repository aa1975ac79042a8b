"""anthropic: messages, a stream, a conversation and a call of a function, with its official client."""
import os

from anthropic import Anthropic, BadRequestError

client = Anthropic(
    base_url=os.environ["BASE_URL"].removesuffix("/v1"), api_key=os.environ["API_KEY"], max_retries=0
)
model = os.environ["MODEL"]
messages = [{"role": "user", "content": "Hello"}]

message = client.messages.create(model=model, max_tokens=64, messages=messages, system="Be kind")
assert message.content[0].text and message.stop_reason == "end_turn", message
assert message.usage.output_tokens > 0
messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": "And?"}]
with client.messages.stream(model=model, max_tokens=64, messages=messages) as stream:
    assert "".join(stream.text_stream)
    assert stream.get_final_message().usage.input_tokens > 0

cut = client.messages.create(model=model, max_tokens=1, messages=messages)
assert cut.stop_reason == "max_tokens", cut

schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"name": "get_weather", "description": "The weather", "input_schema": schema}]
called = client.messages.create(model=model, max_tokens=200, messages=messages, tools=tools)
use = called.content[-1]
assert called.stop_reason == "tool_use" and use.input == {"city": "Oslo"}, called
result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
messages += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
answer = client.messages.create(model=model, max_tokens=200, messages=messages, tools=tools)
assert answer.stop_reason == "end_turn" and answer.content[0].text, answer
with client.messages.stream(model=model, max_tokens=200, messages=messages[:1], tools=tools) as stream:
    assert stream.get_final_message().content[-1].input == {"city": "Oslo"}

try:
    client.messages.create(model=model, max_tokens=0, messages=messages)
    raise AssertionError("max_tokens 0 is accepted")
except BadRequestError as error:
    assert error.body["error"]["type"] == "invalid_request_error", error.body
