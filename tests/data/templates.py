"""Ten chat templates as models come with them, in the layout that each model documents.

They are written out here, without `{% generation %}` marks, to hold the masks against: none of
them is one of the package's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.helpers.tokenizers import chat_tokenizer

NO_SYSTEM = "{{ raise_exception('System role not supported') }}"


@dataclass(frozen=True)
class Template:
    text: str
    special: tuple[str, ...] = ()
    begin: str | None = "<s>"
    end: str = "</s>"

    def tokenizer(self) -> Any:
        return chat_tokenizer(self.text, begin=self.begin, end=self.end, special=self.special)


LLAMA_2 = Template(
    "{% if messages[0]['role'] == 'system' %}"
    "{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set turns = messages %}{% set system = false %}{% endif %}"
    "{% for m in turns %}"
    "{% if loop.first and system %}"
    "{% set text = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}"
    "{% else %}{% set text = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = Template(
    "{% for m in messages %}"
    "{% set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    begin="<|begin_of_text|>",
    end="<|end_of_text|>",
)
CHATML = Template(
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    special=("<|im_start|>", "<|im_end|>"),
    begin=None,
    end="<|endoftext|>",
)
MISTRAL = Template(
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}",
    special=("[INST]", "[/INST]"),
)
GEMMA = Template(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}" + NO_SYSTEM + "{% endif %}"
    "{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    special=("<start_of_turn>", "<end_of_turn>"),
    begin="<bos>",
    end="<eos>",
)
QWEN = Template(
    # thoughts are written after the last question only, and always in the last turn
    "{%- if tools %}{{- '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}"
    "{{- '# Tools\n<tools>' }}{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\n</tools><|im_end|>\n' }}"
    "{%- elif messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}"
    "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}"
    "{%- set said = m.content if m.content is string else '' %}"
    "{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + said + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' %}"
    "{%- set thought = m.reasoning_content or '' %}"
    "{%- if '</think>' in said %}"
    "{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{%- endif %}"
    "{{- said }}"
    "{%- for call in m.tool_calls or [] %}"
    "{{- '\n' if said or not loop.first }}"
    '{{- \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + said + '\n</tool_response><|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
    special=("<|im_start|>", "<|im_end|>"),
    begin=None,
    end="<|endoftext|>",
)
DEEPSEEK = Template(
    # the prompt opens a thought, and no answer shows one
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}"
    "{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
    special=("<|User|>", "<|Assistant|>"),
)
PHI = Template(
    # ends the conversation with its end token, after the token that ends the turn
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    end="<|endoftext|>",
)
ZEPHYR = Template(
    "{% for m in messages %}\n"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
VICUNA = Template(
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + ' ' }}"
    "{% else %}{{ 'A chat between a user and an assistant. ' }}{% endif %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ' }}"
    "{% elif m['role'] == 'assistant' %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
ODD = Template(
    # numbers the turns from the conversation's end: every prefix changes as it goes on
    "{% for m in messages %}"
    "{{ '[' + loop.revindex0 | string + '] ' + m['role'] + ': ' + m['content'] + '<end>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[-1] assistant: ' }}{% endif %}",
    special=("<end>",),
)
