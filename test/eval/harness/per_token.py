"""Compares the log-probability of every token of some texts: transformers, and /v1/completions with echo and max_tokens 0.

usage: per_token.py MODEL_FOLDER URL API_KEY
Prints {"compared", "requests", "maxDifference", "differingTexts"} as JSON.
"""

import json
import sys
import urllib.request

import torch
from transformers import AutoModelForCausalLM

LENGTHS = [1, 2, 33, 100, 511, 1023, 1024]


def main(folder: str, url: str, key: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    vocabulary = model.config.vocab_size
    prompts = [torch.randint(2, vocabulary, (length,), generator=generator).tolist() for length in LENGTHS]
    body = {"model": "base", "prompt": prompts, "max_tokens": 0, "echo": True, "logprobs": 1}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
    choices = json.load(urllib.request.urlopen(request))["choices"]
    worst = 0.0
    differing = 0
    for prompt, choice in zip(prompts, choices, strict=True):
        logprobs = choice["logprobs"]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        assert logprobs["token_logprobs"][0] is None and len(logprobs["tokens"]) == len(prompt)
        for i in range(1, len(prompt)):
            expected = logits[i - 1]
            worst = max(worst, abs(expected[prompt[i]].item() - logprobs["token_logprobs"][i]))
            # The likeliest token is among those that are listed.
            if abs(expected.max().item() - max(logprobs["top_logprobs"][i].values())) > 1e-3:
                differing += 1
    compared = "transformers and echo, token by token"
    print(json.dumps({"compared": compared, "requests": len(prompts), "maxDifference": worst, "differingTexts": differing}))


main(*sys.argv[1:])
