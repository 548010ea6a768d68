"""Run inside an environment that has verl: its own checkpoint manager saves a model on one CPU process.

python external_verl.py MODEL OUT CONTENTS
"""

import os
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

model_path, out, contents = sys.argv[1:]
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
torch.distributed.init_process_group("gloo", init_method=f"file://{out}.rendezvous", rank=0, world_size=1)
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
with torch.no_grad():
    model.get_input_embeddings().weight.add_(0.25)  # so that what is saved is not what was there
fully_shard(model, mesh=init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",)))
manager = FSDPCheckpointManager(
    model=model,
    processing_class=AutoTokenizer.from_pretrained(model_path),
    checkpoint_config=OmegaConf.create({"load_contents": ["model"], "save_contents": contents.split(",")}),
)
manager.save_checkpoint(local_path=f"{out}/global_step_7/actor", global_step=7)
Path(out, "latest_checkpointed_iteration.txt").write_text("7")
torch.distributed.destroy_process_group()
