"""Run inside an environment that has TRL: a supervised run that saves checkpoints, with all its papers.

python external_trl.py MODEL OUT
"""

import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model_path, out = sys.argv[1:]
rows = [
    {"prompt": [{"role": "user", "content": f"apple {k}"}], "completion": [{"role": "assistant", "content": "plum"}]}
    for k in range(4)
]
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(model_path, dtype="float32"),
    args=SFTConfig(
        output_dir=out,
        max_steps=2,
        save_steps=1,
        logging_steps=1,
        learning_rate=1e-3,
        max_length=64,
        use_cpu=True,
        per_device_train_batch_size=2,
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_list(rows),
    processing_class=AutoTokenizer.from_pretrained(model_path),
)
trainer.train()
trainer.save_model(out)
trainer.save_state()
trainer.create_model_card(dataset_name="org/rows")
