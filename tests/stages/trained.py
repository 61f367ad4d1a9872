"""Experts that are drawn and not trained, as folders beside the base's."""

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM


def full(generator, task):
    """An expert with every weight changed, in the base's dtype."""
    model = AutoModelForCausalLM.from_pretrained("base")
    for theta in model.parameters():
        theta.data += 0.05 * torch.randn(theta.shape, generator=generator)
    model.save_pretrained(task)


def adapter(config: PeftConfig, part: str, generator, task, around=0.0):
    """An adapter, whose tensors with `part` in their names are drawn around a number."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config)
    for name, theta in model.named_parameters():
        if part in name:
            theta.data = around + torch.randn(theta.shape, generator=generator)
    model.save_pretrained(task)
