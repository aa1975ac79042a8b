"""openai-python: what the API replies is sent back, in chats and in responses, whole and streamed."""
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0)
model = os.environ["MODEL"]

messages = [{"role": "user", "content": "Hello"}]
for turn in range(3):
    reply = client.chat.completions.create(model=model, messages=messages)
    assert reply.choices[0].message.content, reply
    messages.append(reply.choices[0].message)
    messages.append({"role": "user", "content": f"And {turn}?"})

dumped = [reply.choices[0].message.model_dump(), {"role": "user", "content": "Again"}]
assert client.chat.completions.create(model=model, messages=[messages[0], *dumped]).choices

chunks = client.chat.completions.create(model=model, messages=messages, stream=True)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

history = [{"role": "user", "content": "Hello"}]
for turn in range(3):
    response = client.responses.create(model=model, input=history)
    assert response.output_text, response
    history += response.output
    history.append({"role": "user", "content": f"And {turn}?"})

items = client.responses.input_items.list(response.id, order="asc").data
assert len(items) == 5, items
sent = [item.model_dump() for item in items] + [{"role": "user", "content": "Again"}]
assert client.responses.create(model=model, input=sent).output_text
references = [{"type": "item_reference", "id": item.id} for item in [*items, *response.output]]
again = client.responses.create(model=model, input=[*references, {"role": "user", "content": "Again"}])
assert again.output_text
with client.responses.stream(model=model, input="Hello") as stream:
    for _ in stream:
        pass
    assert stream.get_final_response().output_text

neutral = {
    "tools": [], "tool_choice": "none", "parallel_tool_calls": False, "service_tier": "auto",
    "reasoning_effort": None, "modalities": ["text"], "audio": None, "verbosity": None, "top_p": 0, "seed": -1,
}
assert client.chat.completions.create(model=model, messages=messages, extra_body=neutral).choices
