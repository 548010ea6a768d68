"""A policy that runs here: weights, the chat format they speak, and the decoding recipe that goes with them."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from pippin.core.errors import InputError
from pippin.core.run import write_json
from pippin.core.types import Call, Message, Messages, Prompt, Request, Response, Sampling, Stop, digest
from pippin.lm.chat import Chat
from pippin.lm.decoding import FILE, Decoding
from pippin.lm.engine import request_digest
from pippin.lm.forward import next_logps, pad, response_logps
from pippin.lm.protocols import Logps
from pippin.lm.quiet import quiet
from pippin.lm.sampling import Draw, sample
from pippin.lm.shared import continuation_logps, shares_prompts
from pippin.lm.threads import one_thread_if_small
from pippin.lm.vocabulary import add_tokens

# Gives one list of scores per prompt for one list of candidate answers per prompt.
Rerank = Callable[[Sequence[Prompt], list[list[str]]], list[list[float]]]

_LABEL_TOKENS = 8192  # of one batch of requests for labels
_CACHE_BYTES = 2**30  # keys and values of one sampled batch
_SCORED_TOKENS = 16384  # tokens of one scored batch


class Policy:
    """A causal language model with its chat format and decoding recipe: Answers, LogProbs and Trains."""

    def __init__(self, model: Any, chat: Chat, decoding: Decoding | None = None, name: str = "policy") -> None:
        self.model, self.chat, self.name = model, chat, name
        self.decoding = decoding or Decoding()
        self._digest: tuple[tuple[int, ...], str] = ((), "")

    # ------------------------------------------------------------------ what it is

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Ids of ``decoding.banned``.

        Raises:
            InputError: one is not a single token of this vocabulary.
        """
        if not self.decoding.banned:
            return ()
        known = self.chat.tokenizer.get_vocab()
        for token in self.decoding.banned:
            if token not in known:
                raise InputError("a banned token must be a token of the vocabulary", where=self.name, found=token)
        return tuple(known[token] for token in self.decoding.banned)

    @property
    def weights_digest(self) -> str:
        """Hash of names, types and values of all weights; found anew after the weights have changed."""
        state = self.model.state_dict()
        versions = tuple(tensor._version for tensor in state.values())
        if self._digest[0] != versions:
            whole = hashlib.sha256()
            for key, tensor in sorted(state.items()):
                value = tensor.detach().cpu().contiguous()
                whole.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
                whole.update(value.reshape(-1).view(torch.uint8).numpy())
            self._digest = (versions, whole.hexdigest()[:16])
        return self._digest[1]

    @property
    def identity(self) -> str:
        """All that determines its answers, beside the request: the stored calls of equal policies are shared."""
        d = self.decoding
        recipe = [d.prefix, d.banned, d.n, d.reranker]
        return "local/" + digest([self.weights_digest, self.chat.template_hash, self.chat.tokenizer_hash, recipe])

    def sampling(self, seed: int = 0) -> Sampling:
        """The recipe's own sampling."""
        d = self.decoding
        return Sampling(d.temperature, d.top_p, d.max_tokens, seed)

    def clone(self) -> Policy:
        """A policy with weights of its own, equal now."""
        return Policy(copy.deepcopy(self.model), self.chat, self.decoding, self.name)

    def add_tokens(self, texts: Sequence[str], seed: int = 0) -> dict[str, int]:
        """Ids of control tokens, made new where they are; see :func:`pippin.lm.vocabulary.add_tokens`."""
        return add_tokens(self, texts, seed)

    # ------------------------------------------------------------------ responses

    def respond(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        purpose: str = "respond",
        rerank: Rerank | None = None,
    ) -> list[Response]:
        """``n`` responses to each prompt, prompt by prompt. Follow-ups are asked after each answer.

        Draw k of a prompt depends on (seed, purpose, prompt id, k) alone. ``sampling`` None takes the recipe's own.
        With ``decoding.n`` > 1 each response is the best of that many by ``rerank``; the first of equals.

        Raises:
            InputError: a prompt does not fit into the model's context, or best-of-n has no ``rerank``.
        """
        sampling = sampling or self.sampling()
        self._check_rerank(rerank)
        rows = [(p, k) for p in prompts for k in range(n)]
        said: list[Messages] = [()] * len(rows)
        stops: list[Stop] = ["end"] * len(rows)
        turns = 1 + max((len(p.follow_ups) for p in prompts), default=0)
        for turn in range(turns):
            asked = [i for i, (p, _) in enumerate(rows) if turn <= len(p.follow_ups)]
            for i in asked:
                if turn:
                    said[i] += (rows[i][0].follow_ups[turn - 1],)
            contexts = [rows[i][0].messages + said[i] for i in asked]
            seeds = [_seeds(sampling.seed, purpose, *rows[i], turn, self.decoding.n) for i in asked]
            for i, (text, ended) in zip(asked, self._best(contexts, seeds, sampling, rerank), strict=True):
                said[i] += (Message("assistant", text),)
                stops[i] = "end" if ended else "length"
        sent = [self._context(p) for p, _ in rows]
        return [
            Response(p.id, said[i], by=self.name, sample=k, context=sent[i], stop=stops[i], sampling=sampling)
            for i, (p, k) in enumerate(rows)
        ]

    def _best(
        self, contexts: list[Messages], seeds: list[list[int]], sampling: Sampling, rerank: Rerank | None
    ) -> list[tuple[str, bool]]:
        """Text and whether it ended, of the best draw for each context."""
        ids = [self.chat.prompt_ids(c, self.decoding.prefix) for c in contexts]
        many = self.decoding.n
        draws = self._draw([row for row in ids for _ in range(many)], [s for row in seeds for s in row], sampling)
        texts = [self.chat.decode(d.ids) for d in draws]
        chosen = [i * many for i in range(len(contexts))]
        if rerank is not None and many > 1:
            scores = rerank([Prompt(c) for c in contexts], [texts[i : i + many] for i in chosen])
            chosen = [i + max(range(many), key=row.__getitem__) for i, row in zip(chosen, scores, strict=True)]
        return [(texts[i], draws[i].ended) for i in chosen]

    def _draw(self, ids: list[list[int]], seeds: list[int], sampling: Sampling) -> list[Draw]:
        if not ids:
            return []
        longest = max(map(len, ids)) + sampling.max_tokens
        return sample(
            self.model, ids, max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
            end_ids=self.chat.end_ids, end_marker=self.chat.end_marker, seeds=seeds, banned=self.banned_ids,
            batch_size=_rows_in_memory(self.model, longest), pad_id=self.chat.pad_id,
        )  # fmt: skip

    def _context(self, prompt: Prompt) -> Messages | None:
        if not self.decoding.prefix:
            return None
        return (*prompt.messages, Message("assistant", self.decoding.prefix))

    def _check_rerank(self, rerank: Rerank | None) -> None:
        if self.decoding.n > 1 and rerank is None:
            raise InputError(
                f"this policy is best-of-{self.decoding.n} and needs the scorer it was made with", where=self.name,
                expected=self.decoding.reranker or "a scorer", mend="Pass the scorer as rerank, or set decoding.n to 1",
            )  # fmt: skip

    # ------------------------------------------------------------------ log-probabilities

    def logprobs(self, prompts: Sequence[Messages], responses: Sequence[str]) -> list[Logps]:
        """Log-probability of each response given its prompt (and the recipe's prefix), end-of-turn token included.

        Nats at temperature 1, in the order given.
        """
        prefix = self.decoding.prefix
        rows = [self.chat.example(p, r, prefix=prefix) for p, r in zip(prompts, responses, strict=True)]
        totals = self._totals(rows)
        return [Logps(total, sum(mask)) for total, (_, mask) in zip(totals, rows, strict=True)]

    @torch.inference_mode()
    def _totals(self, rows: list[tuple[list[int], list[int]]]) -> list[float]:
        """Sum of log-probabilities over each row's mask, batched by length."""
        self.model.eval()
        totals = [0.0] * len(rows)
        for part in _by_length([len(ids) for ids, _ in rows]):
            ids, attention = pad([rows[i][0] for i in part], self.chat.pad_id)
            mask, _ = pad([rows[i][1] for i in part], 0)
            with one_thread_if_small(self.model):
                logp = response_logps(self.model, ids, attention, mask).double().sum(-1).tolist()
            for i, value in zip(part, logp, strict=True):
                totals[i] = value
        return totals

    def label_logps(self, messages: Sequence[Messages], labels: Sequence[tuple[str, ...]]) -> list[dict[str, float]]:
        """For each conversation, the log-probability of each label as its continuation (without end token).

        By forward passes, not by generation. A label of several tokens has the product of their probabilities. The
        labels of a conversation share one pass over it where the model allows that.
        """
        prefix = self.decoding.prefix
        rows = [
            [self.chat.example(m, label, ended=False, prefix=prefix) for label in wanted]
            for m, wanted in zip(messages, labels, strict=True)
        ]
        flat = [(i, label, *row) for i, wanted in enumerate(labels) for label, row in zip(wanted, rows[i], strict=True)]
        single = [entry for entry in flat if sum(entry[3]) == 1]
        longer = [entry for entry in flat if sum(entry[3]) > 1]
        found: list[dict[str, float]] = [{} for _ in messages]
        contexts = list({tuple(ids[:-1]): None for _, _, ids, _ in single})
        after = self._next(contexts)
        for i, label, ids, _ in single:
            found[i][label] = after[tuple(ids[:-1])][ids[-1]].item()
        for (i, label, _, _), total in zip(longer, self._totals_together(longer), strict=True):
            found[i][label] = total
        return [{label: found[i][label] for label in wanted} for i, wanted in enumerate(labels)]

    @torch.inference_mode()
    def _totals_together(self, entries: list[tuple[int, str, list[int], list[int]]]) -> list[float]:
        """As :meth:`_totals` of (conversation, label, ids, mask); what stands before the labels is read once."""
        if not entries or not shares_prompts(self.model):
            return self._totals([(ids, mask) for _, _, ids, mask in entries])
        rows: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for k, (i, _, ids, mask) in enumerate(entries):
            rows.setdefault((i, tuple(ids[: mask.index(1)])), []).append(k)
        prompts, members = [list(prompt) for _, prompt in rows], list(rows.values())
        totals = [0.0] * len(entries)
        self.model.eval()
        for part in _by_length([len(prompt) for prompt in prompts]):
            labels = [[entries[k][2][len(prompts[n]) :] for k in members[n]] for n in part]
            with one_thread_if_small(self.model):
                told = continuation_logps(self.model, [prompts[n] for n in part], labels)
            for n, several in zip(part, told, strict=True):
                for k, logps in zip(members[n], several, strict=True):
                    totals[k] = logps.double().sum().item()
        return totals

    @torch.inference_mode()
    def _next(self, contexts: list[tuple[int, ...]]) -> dict[tuple[int, ...], torch.Tensor]:
        """The distribution after each context."""
        self.model.eval()
        found = {}
        for part in _by_length([len(c) for c in contexts]):
            with one_thread_if_small(self.model):
                logps = next_logps(self.model, *pad([contexts[i] for i in part], self.chat.pad_id))
            found.update({contexts[i]: row.cpu() for i, row in zip(part, logps, strict=True)})
        return found

    # ------------------------------------------------------------------ requests

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        """Calls, batch by batch: free text is generated, labels are scored. What does not fit is an error call."""
        identity, weights = self.identity, self.weights_digest
        groups: dict[Sampling | None, list[tuple[list[int], Request, Call]]] = {}
        for request in requests:
            call = Call(request.key, request_digest(identity, request), self.name, fingerprint=weights)
            try:
                self._check_rerank(None)
                ids = self._fitting_ids(request.messages)
            except InputError as error:
                yield replace(call, stop="error", error=str(error))
                continue
            kind = None if request.labels else replace(request.sampling, seed=0)
            groups.setdefault(kind, []).append((ids, request, replace(call, prompt_tokens=len(ids))))
        for kind, group in groups.items():
            group.sort(key=lambda row: -len(row[0]))
            size = _rows_in_memory(self.model, len(group[0][0]) + (kind.max_tokens if kind else 0))
            if kind is None:  # labels take one pass each: what is known is told, and stored, every few seconds
                size = max(1, min(size, _LABEL_TOKENS // len(group[0][0])))
            for start in range(0, len(group), size):
                yield from self._calls(group[start : start + size])

    def _calls(self, rows: list[tuple[list[int], Request, Call]]) -> Iterator[Call]:
        """One batch, all of it labels or all of it free text with one sampling."""
        began = time.perf_counter()
        requests = [request for _, request, _ in rows]
        try:
            if requests[0].labels:
                told = self._labelled(requests)
            else:
                told = self._generated(requests, [ids for ids, _, _ in rows])
        except (RuntimeError, InputError) as error:  # out of memory, a label that has no tokens: these rows, not others
            told = [{"stop": "error", "error": f"{type(error).__name__}: {error}"}] * len(rows)
        seconds = (time.perf_counter() - began) / len(rows)
        for (_, _, call), fields in zip(rows, told, strict=True):
            yield replace(call, seconds=seconds, **fields)

    def _labelled(self, requests: list[Request]) -> list[dict[str, Any]]:
        found = self.label_logps([r.messages for r in requests], [r.labels for r in requests])
        return [{"text": max(f, key=f.__getitem__), "stop": "end", "logprobs": f} for f in found]

    def _generated(self, requests: list[Request], ids: list[list[int]]) -> list[dict[str, Any]]:
        # what was asked, not who asked, fixes the draw: equal requests have equal answers
        seeds = [int(digest([r.sampling.seed, "answer", request_digest("", r), r.key.sample]), 16) for r in requests]
        draws = self._draw(ids, seeds, requests[0].sampling)
        return [
            {"text": self.chat.decode(d.ids), "stop": "end" if d.ended else "length", "completion_tokens": len(d.ids)}
            for d in draws
        ]

    def _fitting_ids(self, messages: Messages) -> list[int]:
        ids = self.chat.prompt_ids(messages, self.decoding.prefix)
        limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)
        if limit and len(ids) >= limit:
            raise InputError(
                "the prompt does not fit into the model's context", where=self.name, found=f"{len(ids)} tokens",
                expected=f"fewer than {limit}",
            )  # fmt: skip
        return ids

    # ------------------------------------------------------------------ files

    def save(self, folder: str | Path) -> None:
        """A folder that transformers' ``from_pretrained`` loads: weights, tokenizer with its chat template, and the
        sampling in ``generation_config.json``; :data:`FILE` only where the recipe says more than that.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self._set_generation_config()
            self.model.save_pretrained(folder)
            self.chat.tokenizer.save_pretrained(folder)
            if getattr(self.model, "generation_config", None) is not None:
                self.model.generation_config.save_pretrained(folder)
        if self.decoding.plain:
            (folder / FILE).unlink(missing_ok=True)
        else:
            write_json(folder / FILE, {"decoding": asdict(self.decoding)})

    def _set_generation_config(self) -> None:
        config, d = getattr(self.model, "generation_config", None), self.decoding
        if config is None:
            return
        config.eos_token_id, config.pad_token_id = list(self.chat.end_ids), self.chat.pad_id
        config.do_sample, config.max_new_tokens = d.temperature > 0, d.max_tokens
        drawn = d.temperature > 0
        # top_k 0, since transformers cuts to the 50 most likely tokens where nothing is said
        config.temperature, config.top_p, config.top_k = (d.temperature, d.top_p, 0) if drawn else (None, None, None)
        config._from_model_config = False  # or transformers rebuilds it from config.json
        config.bad_words_ids = [[i] for i in self.banned_ids] or None


def _seeds(seed: int, purpose: str, prompt: Prompt, k: int, turn: int, many: int) -> list[int]:
    """One seed for each of the ``many`` draws behind response k. The first turn's do not mention the turn."""
    rest = [turn] if turn else []
    return [int(digest([seed, purpose, prompt.id, k * many + j, *rest]), 16) for j in range(many)]


def _by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, within a budget of padded tokens."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > _SCORED_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _rows_in_memory(model: Any, length: int) -> int:
    """How many sampled rows of ``length`` tokens have their keys and values in :data:`_CACHE_BYTES`; 256 at most."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * next(model.parameters()).element_size()
    return max(1, min(256, _CACHE_BYTES // (token * length)))
