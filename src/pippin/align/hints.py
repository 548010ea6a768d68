"""Settings that users of TRL and transformers know, and that have another name here or none: what to say to them.

Source: TRL 1.16.0 (SFTConfig, DPOConfig, KTOConfig, RewardConfig, RLOOConfig, GRPOConfig, OnlineDPOConfig, CPOConfig,
ORPOConfig, ModelConfig), TRL 0.28 (PPOConfig), transformers 5.24 (TrainingArguments)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pippin.core.errors import InputError, UnknownName

_OPTION = "That is the option {}"
_SERVER = "Sampling runs in this process"
_OPTIMISER = "The optimiser is AdamW in float32, with bf16 for the forward pass"
_WHOLE = "Weights are loaded whole, in float32"
_SAVING = "save_steps says how often; a finished run keeps no checkpoint"

SAID: Mapping[str, str] = {
    "model_name_or_path": _OPTION.format("--model"),
    "sft_model_path": _OPTION.format("--model"),
    "ref_model": "The reference is the policy as it was at the start",
    "dataset_name": _OPTION.format("--data"),
    "train_dataset": _OPTION.format("--data"),
    "eval_dataset": _OPTION.format("--eval-data"),
    "dataset_text_field": "Columns are found out: messages, text, prompt and completion, prompt, chosen and rejected",
    "output_dir": _OPTION.format("--out"),
    "reward_funcs": _OPTION.format("--reward, such as python/FILE.py:function"),
    "reward_model_path": _OPTION.format("--reward, such as rm/PATH"),
    "chat_template_path": _OPTION.format("--template"),
    "resume_from_checkpoint": "Running the same command again resumes",
    "overwrite_output_dir": _OPTION.format("--overwrite"),
    "eval_strategy": "--eval-data is tested before and after; eval_steps says how often --dev is",
    "save_strategy": _SAVING,
    "save_total_limit": _SAVING,
    "logging_strategy": "logging_steps says how often",
    "logging_dir": "tensorboard writes into OUT/runs",
    "warmup_steps": "Give their share of all steps as warmup_ratio",
    "fp16": "Use bf16",
    "dtype": f"Use bf16. {_WHOLE}",
    "torch_dtype": f"Use bf16. {_WHOLE}",
    "optim": _OPTIMISER,
    "load_in_4bit": _WHOLE,
    "load_in_8bit": _WHOLE,
    "per_device_eval_batch_size": "Evaluation cuts its batches by tokens",
    "max_prompt_length": "max_length cuts prompt and response together, on the right",
    "truncation_mode": "max_length cuts on the right (keep_start)",
    "disable_dropout": "Training has no dropout",
    "precompute_ref_log_probs": "The reference's log-probabilities are always computed once and kept",
    "packing": "Batches are cut by length, so little is padded and nothing need be packed",
    "padding_free": "Batches are cut by length, so little is padded",
    "max_new_tokens": "Use max_completion_length",
    "use_vllm": _SERVER,
    "vllm_mode": _SERVER,
    "hub_token": "The token comes from HF_TOKEN or `hf auth login`",
    "push_to_hub_model_id": "Use hub_model_id",
}
"""What holds for every method."""

OWN: Mapping[str, Mapping[str, str]] = {
    "sft": {
        "completion_only_loss": "That is what happens; train_on_prompt trains the prompt's tokens too",
        "loss_type": "The loss is nll; reduction says how it is averaged",
    },
    "dpo": {
        "loss_weights": "Use rpo_alpha, the weight of the chosen responses' likelihood",
        "reference_free": "Use cpo or simpo, which have no reference",
        "simpo_gamma": "Use the method simpo",
    },
    "kto": {"loss_type": "The loss is kto's; unpaired data have no other here"},
    "cpo": {
        "simpo_gamma": "Use the method simpo",
        "label_smoothing": "Soft labels come with the data; there is no other smoothing",
    },
    "ppo": {
        "beta": "Use kl_coef",
        "init_kl_coef": "Use kl_coef",
        "num_ppo_epochs": "Use num_train_epochs",
        "ppo_epochs": "Use num_train_epochs",
        "response_length": "Use max_completion_length",
        "total_episodes": "Use num_rollouts and prompts_per_rollout",
        "num_mini_batches": "Use per_device_train_batch_size; a rollout has prompts_per_rollout of them",
        "epsilon": "Use cliprange",
        "kl_estimator": "The KL is k1, log-ratios of what was sampled",
    },
}
"""What holds for one method; its word goes before that for all."""

SAMPLING: Mapping[str, str] = {
    "temperature": "Responses are drawn at temperature 1, as the gradient asks",
    "top_p": "Responses are drawn from all tokens, as the gradient asks",
    "top_k": "Responses are drawn from all tokens, as the gradient asks",
    "generation_batch_size": "Use prompts_per_rollout",
    "steps_per_generation": "Use prompts_per_rollout",
    "reward_weights": "Weigh the rewards in a function of your own: --reward python/FILE.py:function",
}
"""What holds for methods with ``prompts_per_rollout``."""


def unknown(method: str, key: str, known: Iterable[str], *, where: str = "") -> InputError:
    """The error for a setting that ``method`` does not have: where TRL or transformers have it, what to do here; else
    the nearest name that is known.

    Args:
        key: as the user wrote it, perhaps with dashes before it.
    """
    known, bare = set(known), key.lstrip("-")
    dashes = key.removesuffix(bare)
    for words in (OWN.get(method, {}), SAMPLING if f"{dashes}prompts_per_rollout" in known else {}, SAID):
        if bare in words:
            return InputError(f"no setting of {method} named {key!r}", where=where, mend=words[bare])
    return UnknownName(f"setting of {method}", key, known, where=where)
