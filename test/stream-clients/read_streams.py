"""Reads streams that pause, with the clients installed here: read_streams.py URL KEY WORKER_PID. clients.ts runs it.

While a stream pauses, because its worker is stopped, the edge sends heartbeats. They must change nothing of what is read.
"""

import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import version

import httpx
import httpx_sse
from openai import OpenAI

url, key, worker = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = OpenAI(base_url=url + "/v1", api_key=key, max_retries=0, timeout=120)
headers = {"authorization": "Bearer " + key}
REQUEST = {"model": "atlas-qa", "temperature": 0, "stream": True}
LONG = {"logit_bias": {"0": -100}}  # no end of the sequence
EXTRA = {"steering": {"alpha": 0}}
MESSAGES = [{"role": "user", "content": "Tell me a long story."}]
TOKENS = 200


def paused(items):
    """Stops the worker for a second after the first items."""

    def stop():
        os.kill(worker, signal.SIGSTOP)
        time.sleep(1)
        os.kill(worker, signal.SIGCONT)

    for number, item in enumerate(items):
        if number == 4:
            threading.Thread(target=stop).start()
        yield item


def chat():
    stream = client.chat.completions.create(messages=MESSAGES, max_tokens=TOKENS, extra_body=EXTRA, **LONG, **REQUEST)
    return "".join(chunk.choices[0].delta.content or "" for chunk in paused(stream))


def completion():
    stream = client.completions.create(prompt="Hello", max_tokens=TOKENS, extra_body=EXTRA, **LONG, **REQUEST)
    return "".join(chunk.choices[0].text for chunk in paused(stream))


def response():
    stream = client.responses.create(input="Hello", max_output_tokens=TOKENS, extra_body={**EXTRA, **LONG}, **REQUEST)
    return "".join(event.delta for event in paused(stream) if event.type == "response.output_text.delta")


def submit():
    body = {"model": "atlas-qa", "prompt": "Hello", "max_tokens": TOKENS, "temperature": 0, **EXTRA, **LONG}
    return httpx.post(url + "/v1/jobs", json=body, headers=headers).json()["id"]


def job():
    """The same with httpx-sse. @returns the text"""
    events = f"{url}/v1/jobs/{submit()}/events"
    with httpx_sse.connect_sse(httpx.Client(timeout=120), "GET", events, headers=headers) as source:
        read = [json.loads(event.data) for event in paused(source.iter_sse())]
    assert [event["seq"] for event in read] == list(range(1, len(read) + 1)), "an event is missing"
    return "".join(event.get("text", "") for event in read)


def heartbeats():
    """The heartbeats of such a stream, so that this script tests something."""
    with httpx.stream("GET", f"{url}/v1/jobs/{submit()}/events", headers=headers, timeout=120) as reply:
        return sum(line == ":" for line in paused(reply.iter_lines()))


names = f"openai {version('openai')}, httpx-sse {version('httpx-sse')}"
expected = client.completions.create(
    model="atlas-qa", prompt="Hello", temperature=0, max_tokens=TOKENS, extra_body=EXTRA, **LONG
).choices[0].text
assert completion() == expected, "completion"
assert job() == expected, "job"
assert len(chat()) > 100 and len(response()) > 100
count = heartbeats()
assert count > 2, f"only {count} heartbeats"
print(f"{names}: chat, completion, response and job events are read alike beside heartbeats ({count} in one pause)")
