"""Messages to token ids and back: the only place that knows chat templates.

A training mask is found by rendering the conversation up to the response, then with it, and comparing: it needs no
``{% generation %}`` marks, which most published templates lack (their mask would silently be all zero). Where a
template has the marks, they are used as a cross-check. A tokenizer without a template speaks :data:`PLAIN`::

    User: What is 2 + 2?

    Assistant: 4</s>

Text of messages is data: a control token written out in it ("<|im_end|>") is encoded as ordinary text, never as one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError

from pippin.core.errors import InputError
from pippin.core.types import Message, Messages, digest

PLAIN = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\n\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{%- else -%}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{%- if not loop.last -%}{{ '\n\n' }}{%- endif -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
)

# Some templates print today's date; a prompt must not depend on the day it is rendered.
_DAY = datetime(2024, 7, 26)
_PROBE = "qzqzq"
_OPEN, _CLOSE = "\ue000", "\ue001"  # private-use characters around a control token's number in hostile text


class Chat:
    """A tokenizer with its chat template.

    Args:
        tokenizer: a transformers tokenizer.
        template: a Jinja template to use instead of the tokenizer's own; ``None`` takes the tokenizer's, or
            :data:`PLAIN` where it has none. The template in use is set on the tokenizer, so that saving keeps it.
        ends: further ids that end a response (a model's ``generation_config`` may list several).

    Attributes:
        end_ids: ids that end a response, each by itself.
        end_marker: ids that the template writes after a response, up to and including the token that ends it.
        pad_id: a fill value for batches. May equal an end id: masks come from lengths, never from ``ids != pad_id``.

    Raises:
        InputError: the tokenizer has no end-of-sequence token and its template ends a response with none.
    """

    def __init__(self, tokenizer: Any, template: str | None = None, ends: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.template = template or _own_template(tokenizer) or _plain(tokenizer)
        tokenizer.chat_template = self.template
        self._undated = re.sub(
            r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda m: repr(_DAY.strftime(m.group(2))), self.template
        )
        self._controls = _control_tokens(tokenizer)
        self._hostile = re.compile("|".join(map(re.escape, self._controls))) if self._controls else None
        # messages are often shared by many responses; tokenising is pure, so remembering the last ones changes nothing
        self._encode = lru_cache(maxsize=4096)(self._encode_uncached)
        self._tail, self._marker = self._find_end()
        eos = tokenizer.eos_token_id
        fallback = () if eos is None else (eos,)
        self.end_marker: tuple[int, ...] = self._encode(self._marker) if self._marker else fallback
        if not self.end_marker:
            raise InputError(
                "the tokenizer has no end-of-sequence token, and its chat template ends a response with none",
                expected="eos_token in tokenizer_config.json", mend="Set tokenizer.eos_token",
            )  # fmt: skip
        single = {*ends, *fallback}
        if len(self.end_marker) == 1 or self.tokenizer.convert_ids_to_tokens(self.end_marker[-1]) in self._controls:
            single.add(self.end_marker[-1])
        self.end_ids: tuple[int, ...] = tuple(sorted(single))
        # what stands before the first token where the template renders a prompt as nothing
        self._start = (tokenizer.bos_token_id if tokenizer.bos_token_id is not None else self.end_ids[0],)
        pad = tokenizer.pad_token_id
        self.pad_id: int = next(i for i in (pad, eos, self.end_marker[-1]) if i is not None)

    # ------------------------------------------------------------------ messages to ids

    def prompt_ids(self, messages: Sequence[Message], prefix: str = "") -> list[int]:
        """Ids of ``messages``, of the opening of the assistant's turn, and of a control ``prefix``. At least one id.

        ``prefix`` is part of the decoding recipe, not of the data: control tokens in it are encoded as such.
        """
        return [*(self._encode(self._render(messages, opening=True)) or self._start), *self._prefix_ids(prefix)]

    def example(
        self, messages: Sequence[Message], response_text: str, ended: bool = True, prefix: str = ""
    ) -> tuple[list[int], list[int]]:
        """One training row: ids of the conversation with its response, and a mask that is 1 on the response's tokens.

        The mask includes the end-of-turn token when ``ended``; a response that was cut off (``ended=False``) has none.
        What the template writes after the end token is left out: it is never generated.

        Returns:
            ``(ids, mask)``, two lists of one length.

        Raises:
            InputError: no token of the response is left, or the template renders the prompt differently once the
                response is there, beyond a token that grew together with the response's first characters.
        """
        _ = self._marks_agree
        prompt = self._encode(self._render(messages, opening=True))
        whole = self._through_response(messages, response_text, ended)
        split = self._split(messages, prompt, whole)
        before, mine = [*(whole[:split] if prompt else self._start), *self._prefix_ids(prefix)], list(whole[split:])
        if not mine:
            raise InputError(
                "the response has no tokens to train on", found=response_text,
                mend="Leave out empty responses, or mark the response as ended",
            )  # fmt: skip
        return before + mine, [0] * len(before) + [1] * len(mine)

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """A whole conversation: ids, and a mask that is 1 on every assistant turn including its end-of-turn token.

        Raises:
            InputError: there is no assistant turn with tokens, or the template renders an early turn differently once
                later ones follow (it drops reasoning, say), so that one row cannot hold what the model would have seen.
        """
        turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
        if not turns:
            raise InputError("the conversation has no assistant turn to train on")
        if messages[-1].role == "assistant":
            ids, last = self.example(messages[:-1], messages[-1].content)
        else:
            ids = list(self._encode(self._render(messages)))
            last = [0] * len(ids)
        mask = list(last)
        for i in turns:
            if i == len(messages) - 1:
                continue
            row, row_mask = self.example(messages[:i], messages[i].content)
            shared = _common(row, ids)
            if shared < len(row):
                raise InputError(
                    "the chat template renders an earlier assistant turn differently once later turns follow",
                    where=f"turn {i + 1}", mend="Make one row of each assistant turn",
                )  # fmt: skip
            for t, trained in enumerate(row_mask):
                mask[t] |= trained
        return ids, mask

    def truncate(self, ids: Sequence[int], mask: Sequence[int], max_length: int) -> tuple[list[int], list[int]]:
        """The first ``max_length`` ids and their mask (``keep_start``). An end token that is cut off stays off.

        A row whose mask is left all zero has lost its response: drop it. Source: TRL's convention for such data.
        """
        return list(ids[:max_length]), list(mask[:max_length])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids: up to the first end, without special tokens, stripped."""
        kept = list(ids)
        ends = [t for t, token in enumerate(kept) if token in self.end_ids]
        if ends:
            kept = kept[: ends[0]]
        at = _find(kept, self.end_marker)
        if at is not None:
            kept = kept[:at]
        return self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()

    # ------------------------------------------------------------------ identity

    @cached_property
    def template_hash(self) -> str:
        return digest(self.template)

    @cached_property
    def tokenizer_hash(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else self.tokenizer.get_vocab()
        return digest([content, self.tokenizer.eos_token, self.tokenizer.bos_token])

    # ------------------------------------------------------------------ rendering

    def _render(self, messages: Sequence[Message], opening: bool = False) -> str:
        if not messages:
            raise InputError("a conversation needs at least one message")
        rows = [{"role": m.role, "content": self._guard(m.content)} for m in messages]
        try:
            return self.tokenizer.apply_chat_template(
                rows, chat_template=self._undated, tokenize=False, add_generation_prompt=opening,
                date_string=_DAY.strftime("%d %b %Y"),
            )  # fmt: skip
        except TemplateError as error:
            raise InputError(
                "the chat template refuses these messages", found=[m.role for m in messages], mend=str(error)
            ) from None

    def _through_response(self, messages: Sequence[Message], text: str, ended: bool) -> tuple[int, ...]:
        """Ids from the start of the conversation to the end of its response (with its end marker when ``ended``)."""
        rendered = self._render((*messages, Message("assistant", text)))
        if not rendered.endswith(self._tail):
            raise InputError(
                "the chat template ends this assistant turn in another way than others", found=rendered[-40:],
                expected=f"... {self._tail!r}",
            )  # fmt: skip
        body = rendered[: len(rendered) - len(self._tail)]
        if not ended:
            return self._encode(body)
        return self._encode(body + self._marker) if self._marker else self._encode(body) + self.end_marker

    def _split(self, messages: Sequence[Message], start: Sequence[int], whole: Sequence[int]) -> int:
        """Where the response begins in ``whole``: after the prompt's ids, or after what the two share."""
        shared = _common(start, whole)
        if shared == len(start):
            return shared
        history = len(self._encode(self._render(messages)))
        # One token of the prompt may grow together with the response; the opening may be rendered otherwise
        # (an empty reasoning block, say). A history that differs is a template that rewrites the past.
        if shared < min(history, len(start)) - 1:
            raise InputError(
                "the chat template renders the prompt differently once the response is there",
                found=self.tokenizer.decode(list(whole[shared : shared + 8])),
                expected=self.tokenizer.decode(list(start[shared : shared + 8])),
            )
        warnings.warn(
            f"the response begins {len(start) - shared} token(s) before the end of its prompt: "
            "the tokenizer joins them, or the template opens a given answer in another way",
            stacklevel=3,
        )
        return shared

    def _find_end(self) -> tuple[str, str]:
        """What the template writes after a response: all of it, and the part that ends the response."""
        rendered = self._render((Message("user", "a"), Message("assistant", _PROBE)))
        at = rendered.rfind(_PROBE)
        if at < 0:
            raise InputError("the chat template does not print the assistant's text", found=rendered)
        tail = rendered[at + len(_PROBE) :]
        found = self._hostile.search(tail) if self._hostile else None
        return tail, tail[: found.end()] if found else tail.rstrip()

    @cached_property
    def _marks_agree(self) -> bool:
        """Cross-check on a probe: ``{% generation %}`` marks, where the template has them, mark the response."""
        if not re.search(r"{%-?\s*generation\b", self.template):
            return True
        question = (Message("user", "a"),)
        rows = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
        marked = self.tokenizer.apply_chat_template(
            rows, chat_template=self._undated, tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
            date_string=_DAY.strftime("%d %b %Y"),
        )  # fmt: skip
        response = self._through_response(question, _PROBE, ended=False)
        begin = self._split(question, self._encode(self._render(question, opening=True)), response)
        ours = list(range(begin, len(response)))
        theirs = [t for t, m in enumerate(marked["assistant_masks"][: len(response)]) if m]
        if theirs != ours:
            raise InputError(
                "the {% generation %} marks of the chat template do not mark the response",
                found=f"tokens {theirs}", expected=f"tokens {ours}", mend="Mend the template or pass another one",
            )  # fmt: skip
        return True

    # ------------------------------------------------------------------ text to ids

    def _guard(self, text: str) -> str:
        """``text`` with written-out control tokens replaced by numbered private-use brackets."""
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        if self._hostile is None or not self._hostile.search(text):
            return text
        return self._hostile.sub(lambda m: f"{_OPEN}{self._controls[m.group()]}{_CLOSE}", text)

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        if _OPEN not in text:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        names = list(self._controls)
        ids: list[int] = []
        for piece in re.split(f"({_OPEN}\\d+{_CLOSE})", text):
            written = piece.startswith(_OPEN)
            if written:
                ids += self._as_text(names[int(piece[1:-1])])
            elif piece:
                ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return tuple(ids)

    def _as_text(self, control: str) -> list[int]:
        """Ids of a control token's letters. Word-level vocabularies know it only whole: then it is cut in two."""
        ids = self.tokenizer(control, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if self.tokenizer.convert_tokens_to_ids(control) not in ids:
            return ids
        halves = (control[:1], control[1:])
        return [i for half in halves for i in self.tokenizer(half, add_special_tokens=False)["input_ids"]]

    def _prefix_ids(self, prefix: str) -> tuple[int, ...]:
        return self._encode(prefix) if prefix else ()


def _own_template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several named templates
        return template.get("default")
    return template


def _plain(tokenizer: Any) -> str:
    """:data:`PLAIN`, after the start token where this tokenizer puts one before every text."""
    if tokenizer.eos_token is None:
        raise InputError(
            "the tokenizer has neither a chat template nor an end-of-sequence token",
            expected="eos_token in tokenizer_config.json", mend="Set tokenizer.eos_token",
        )  # fmt: skip
    start = tokenizer.bos_token_id
    starts = start is not None and tokenizer("a")["input_ids"][:1] == [start]
    return ("{{- bos_token -}}" if starts else "") + PLAIN


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """Texts that the tokenizer reads as control tokens, longest first, numbered."""
    added = {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    texts = sorted({t for t in added | set(tokenizer.all_special_tokens) if t.strip()}, key=lambda t: (-len(t), t))
    return {text: number for number, text in enumerate(texts)}


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)


def _find(ids: Sequence[int], part: Sequence[int]) -> int | None:
    """Where ``part`` first begins in ``ids``."""
    k = len(part)
    return next((i for i in range(len(ids) - k + 1) if tuple(ids[i : i + k]) == tuple(part)), None)


__all__ = ["PLAIN", "Chat", "Messages"]
