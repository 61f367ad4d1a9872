"""Folders of weights, read as transformers and PEFT read them."""
