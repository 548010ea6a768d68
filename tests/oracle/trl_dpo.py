"""Run inside an environment that has TRL: train by DPO on a file of pairs, save the losses and the checkpoint.

python trl_dpo.py MODEL PAIRS.jsonl OUT STEPS LEARNING_RATE BETA
"""

import json
import sys
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

model_path, pairs, out, steps, learning_rate, beta = sys.argv[1:]
rows = [json.loads(line) for line in Path(pairs).read_text(encoding="utf-8").splitlines()]
tokenizer = AutoTokenizer.from_pretrained(model_path)
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(model_path, dtype="float32"),
    args=DPOConfig(
        output_dir=out,
        beta=float(beta),
        max_steps=int(steps),
        learning_rate=float(learning_rate),
        lr_scheduler_type="constant",
        per_device_train_batch_size=len(rows),
        gradient_checkpointing=False,
        max_length=128,
        logging_steps=1,
        report_to=[],
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(out)
tokenizer.save_pretrained(out)
losses = [h["loss"] for h in trainer.state.log_history if "loss" in h]
Path(out, "losses.json").write_text(json.dumps({"losses": losses}))
