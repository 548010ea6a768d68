"""Run inside an environment that has TRL 1.16.0: what its trainers' own losses say of given log-probabilities.

Each line of standard input is a list of jobs in JSON, and a line of standard output answers it: losses, and gradients
over response tokens.
The trainers' methods are called on a stand-in for the trainer, and the network is one that says what it is given.
"""

import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer


def same(values, *_, **__):
    return values


ACCELERATOR = SimpleNamespace(
    device="cpu", gather=same, gather_for_metrics=same, reduce=same, num_processes=1, process_index=0,
    is_main_process=True, parallelism_config=None,
)  # fmt: skip


def trainer(**settings):
    """What the losses read of a trainer that trains on one process, without anything optional."""
    return SimpleNamespace(
        accelerator=ACCELERATOR, model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, _tp_size=1, aux_loss_enabled=False, **settings,
    )  # fmt: skip


def sequences(rows, name="logp"):
    """Padded on the right: log-probabilities, a leaf ``[N, T-1]``, and masks of completion and attention ``[N, T]``."""
    width = max(r["prompt"] + len(r[name]) for r in rows)
    logp, completion, attention = torch.zeros(len(rows), width - 1), *torch.zeros(2, len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        start, end = row["prompt"], row["prompt"] + len(row[name])
        logp[i, start - 1 : end - 1] = torch.tensor(row[name])
        completion[i, start:end] = 1
        attention[i, :end] = 1
    return logp.requires_grad_(), completion, attention


def network(logp, **more):
    """A model that says these log-probabilities of labels."""
    other = torch.zeros_like(logp)
    said = SimpleNamespace(log_probs=logp, entropy=other, mean_logits=other, is_top1=other.bool(), **more)
    return lambda **inputs: said


def answer(loss, logp, completion, **more):
    loss.backward()
    grad = [g[m.bool()].tolist() for g, m in zip(logp.grad, completion[:, 1:], strict=True)]
    return {"loss": loss.item(), "grad": grad, **more}


def sums(rows, name):
    return torch.tensor([sum(r[name]) for r in rows])


def dpo(rows, loss_types, loss_weights, beta, label_smoothing):
    logp, completion, attention = sequences(rows)
    chosen, rejected = sums(rows, "ref").chunk(2)
    inputs = {
        "input_ids": completion + 5, "attention_mask": attention, "completion_mask": completion,
        "ref_chosen_logps": chosen, "ref_rejected_logps": rejected,
    }  # fmt: skip
    self = trainer(
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=loss_types,
        loss_weights=loss_weights, beta=beta, label_smoothing=label_smoothing, use_weighting=False,
    )  # fmt: skip
    loss = DPOTrainer._compute_loss(self, network(logp), inputs, False)
    logged = {k: v[-1] for k, v in self._metrics["train"].items() if k.startswith(("rewards/", "logps/"))}
    return answer(loss, logp, completion, logged=logged)


def kto(rows, strange, labels, **settings):
    logp, completion, attention = sequences(rows)
    other, other_completion, other_attention = sequences(strange)
    inputs = {
        "input_ids": completion + 5, "attention_mask": attention, "completion_mask": completion,
        "KL_input_ids": other_completion + 500, "KL_attention_mask": other_attention,
        "KL_completion_mask": other_completion, "label": torch.tensor(labels),
        "ref_logps": sums(rows, "ref"), "ref_KL_logps": sums(strange, "ref"),
    }  # fmt: skip
    self = trainer(calculate_KL=True, precompute_ref_logps=True, loss_type="kto", **settings)
    self._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(self, model, batch)

    def model(input_ids, **inputs):
        return network(other if input_ids.max() >= 500 else logp)()

    loss = KTOTrainer._compute_loss(self, model, inputs, False)
    logged = {k: v[-1] for k, v in self._metrics["train"].items() if k.startswith(("rewards/", "logps/", "kl"))}
    return answer(loss, logp, completion, logged=logged)


def reward(scores, margin, center_rewards_coefficient):
    leaf = torch.tensor(scores, requires_grad=True)
    inputs = {"attention_mask": torch.ones(len(scores), 3)}
    if margin is not None:
        inputs["margin"] = torch.tensor(margin)
    self = trainer(args=SimpleNamespace(center_rewards_coefficient=center_rewards_coefficient))
    loss = RewardTrainer.compute_loss(self, lambda **_: SimpleNamespace(logits=leaf[:, None]), inputs)
    loss.backward()
    return {"loss": loss.item(), "score_grad": leaf.grad.tolist()}


def sft(rows):
    logp, completion, attention = sequences(rows)
    inputs = {"input_ids": completion + 5, "attention_mask": attention, "labels": completion}
    self = trainer(
        args=SimpleNamespace(loss_type="nll", average_tokens_across_devices=True),
        compute_loss_func=None, label_smoother=None,
    )  # fmt: skip
    loss = SFTTrainer.compute_loss(self, network(logp, label_mask=completion[:, 1:].bool()), inputs)
    return answer(loss, logp, completion)


def rollout(rows, cls, self):
    """TRL's advantages of a rollout, then its loss under the log-probabilities of now; padded to the responses."""
    width = max(len(r["logp"]) for r in rows)
    said = {}
    for name in ("logp", "old", "ref"):
        said[name] = torch.tensor([r[name] + [-3.0] * (width - len(r[name])) for r in rows])  # pads must not count
    said["logp"].requires_grad_()
    self.model.name, self.ref_model = "old", SimpleNamespace(name="ref") if self.beta else None
    entropy = torch.zeros(len(rows), width)
    self._get_per_token_logps_and_entropies = lambda model, *_, **__: (said[model.name], entropy, None)
    ids = [[7] * (len(r["logp"]) - 1) + [2 if r["ended"] else 7] for r in rows]
    prompts = [[5] * r["prompt"] for r in rows]
    texts = ["" for _ in rows]
    grpo = cls is GRPOTrainer
    self._generate = lambda _: (prompts, ids, None, texts, None, {}, None, None) if grpo else (prompts, ids, texts)
    self._calculate_rewards = lambda *_: torch.tensor([[r["score"]] for r in rows])
    inputs = cls._generate_and_score_completions(self, [{"prompt": ""} for _ in rows])
    loss = cls._compute_loss(self, SimpleNamespace(name="logp"), inputs)
    loss.backward()
    grad = [g[: len(r["logp"])].tolist() for g, r in zip(said["logp"].grad, rows, strict=True)]
    return {"loss": loss.item(), "grad": grad, "advantages": inputs["advantages"].tolist()}


def sampler(num_generations, beta, mask_truncated_completions, **settings):
    return trainer(
        args=SimpleNamespace(
            per_device_train_batch_size=4, gradient_checkpointing_kwargs=None, steps_per_generation=1,
            gradient_accumulation_steps=1, use_bias_correction_kl=True, delta=None, report_to=[],
        ),
        num_generations=num_generations, beta=beta, mask_truncated_completions=mask_truncated_completions,
        eos_token_ids=[2], _tokenizer=SimpleNamespace(pad_token_id=0), pad_to_multiple_of=None,
        reward_weights=torch.ones(1), reward_func_names=["given"], reward_funcs=[None], log_multimodal=False,
        _logs={"rewards": defaultdict(list), "prompt": [], "completion": [], "advantages": []},
        _pending_extra_logs={}, _pending_metrics={}, **settings,
    )  # fmt: skip


def rloo(rows, num_generations, beta, epsilon, normalize_advantages, mask_truncated_completions):
    self = sampler(
        num_generations, beta, mask_truncated_completions, epsilon_low=epsilon, epsilon_high=epsilon,
        normalize_advantages=normalize_advantages, reward_clip_range=None,
    )  # fmt: skip
    return rollout(rows, RLOOTrainer, self)


def grpo(rows, num_generations, beta, epsilon, epsilon_high, mask_truncated_completions, **settings):
    self = sampler(
        num_generations, beta, mask_truncated_completions, epsilon_low=epsilon, epsilon_high=epsilon_high,
        environment_factories=None, environments=None, tools=None, num_iterations=2, use_vllm=False,
        vllm_importance_sampling_correction=False, multi_objective_aggregation="sum_then_normalize",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1, _is_vlm=False, **settings,
    )  # fmt: skip
    return rollout(rows, GRPOTrainer, self)


def without_reference(rows, cls, **settings):
    """CPO and ORPO read logits: of two tokens, the second is the right one and has the log-probability given."""
    logp, completion, attention = sequences(rows)
    certain = torch.stack([torch.log(-torch.expm1(logp.clamp(max=-1e-6))), logp], dim=-1)
    logits = torch.cat([certain, torch.zeros(len(rows), 1, 2)], dim=1)
    batch = {}
    for side, part in (("chosen", slice(0, len(rows) // 2)), ("rejected", slice(len(rows) // 2, None))):
        batch[f"{side}_input_ids"] = torch.ones_like(completion[part])
        batch[f"{side}_attention_mask"] = attention[part]
        batch[f"{side}_labels"] = torch.where(completion[part] == 1, 1, -100)
    self = trainer(is_encoder_decoder=False, pad_token_id=0, padding_value=0, **settings)
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(cls, name):
            setattr(self, name, getattr(cls, name).__get__(self))
    self.concatenated_inputs, self.get_batch_logps = cls.concatenated_inputs, cls.get_batch_logps
    loss, metrics = cls.get_batch_loss_metrics(self, lambda *_, **__: SimpleNamespace(logits=logits), batch)
    return answer(loss, logp, completion, nll=float(metrics["nll_loss"]))


def cpo(rows, **settings):
    return without_reference(rows, CPOTrainer, alpha=0.0, **settings)


def orpo(rows, **settings):
    return without_reference(rows, ORPOTrainer, **settings)


WHAT = {f.__name__: f for f in (dpo, kto, reward, sft, rloo, grpo, cpo, orpo)}
for line in sys.stdin:
    print(json.dumps([WHAT[job.pop("what")](**job) for job in json.loads(line)]), flush=True)
