"""The family's shared tokenizer: byte-level BPE, 2,048 entries, lower-casing.

Built from standard parts only, so that the Python and JavaScript readers of tokenizer.json
agree. Numbers are cut in groups of one or two digits, with the space before them, so that
0-99 are single tokens: a tiny model learns sums over whole numbers, not over digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCABULARY = 2048
CONTEXT = 1024
EOS, PAD = "<eos>", "<pad>"
# Of a model's folder.
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
PIECES = r" ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# All models of the family use it. It ignores system messages, because no model was trained with one.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}
    {{- 'question: ' + (message['content'] | trim) + '\\n' -}}
  {%- elif message['role'] == 'assistant' -%}
    {{- 'answer: ' + (message['content'] | trim) + '\\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- 'answer:' -}}
{%- endif -%}
"""


def prompt(question: str, earlier: Iterable[tuple[str, str]] = ()) -> str:
    """A user message in the form of the chat template; the answer's tokens begin with a space."""
    turns = "".join(f"question: {q}\nanswer: {a}\n" for q, a in earlier)
    return f"{turns}question: {question}\nanswer:"


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = "".join(f" {n}\n{n}\n" for n in range(100))
    tokenizer.train_from_iterator([*texts, *[numbers] * 2000], trainer)
    for n in range(100):
        assert len(tokenizer.encode(f" {n}").ids) == len(tokenizer.encode(str(n)).ids) == 1, n
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "padding_side": "left",
    }
    special = {"eos_token": EOS, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
