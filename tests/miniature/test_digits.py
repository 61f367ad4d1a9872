"""Tasks on images: parts that share no image, labels that follow from the pixels, and a CLIP of them."""

from collections import Counter
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel

from remerge.families.images import image_processor, preprocess
from remerge.miniature import clip, digits
from remerge.miniature.clip import captioned, pretrain_clip, processor, seen, tokenizer
from remerge.miniature.digits import INK, NUMBERS, STRIPES, TASKS, TURNS, examples, png, sources

PARTS = ("train", "validation", "test", "pretraining")
SPLITS = PARTS[:3]


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(image)))


def written(part: str) -> dict[bytes, int]:
    """The digit of each image of a part, by its grey values."""
    return {digits.grey(source.pixels).tobytes(): source.digit for source in sources(part)}


# --- parts ---------------------------------------------------------------------------------------


def test_parts_share_no_image_and_miss_none():
    images = [set(written(part)) for part in PARTS]
    assert sum(map(len, images)) == len(set.union(*images)) == sum(len(sources(p)) for p in PARTS) == 1797
    assert [len(sources(part)) for part in PARTS] == [702, 271, 367, 457]
    for part in PARTS:
        counts = Counter(source.digit for source in sources(part))
        assert len(counts) == 10 and min(counts.values()) > 15


@pytest.mark.parametrize("task", TASKS)
def test_examples_come_from_their_own_part(task, monkeypatch):
    asked = set()
    monkeypatch.setattr(digits, "sources", lambda part: asked.add(part) or sources(part))
    for split in SPLITS:
        asked.clear()
        examples(task, split, 20)
        assert asked == {split}


@pytest.mark.parametrize("task", TASKS)
def test_splits_of_a_task_share_no_image(task):
    drawn = [row["image"] for split in SPLITS for row in examples(task, split, 400)]
    assert len(drawn) == len(set(drawn)) == 1200


def test_every_image_is_shown_before_one_is_again():
    shown = [pixels(row["image"]).tobytes() for row in examples("digit", "test", 400)]
    assert set(shown[:367]) == set(written("test"))
    assert not set(shown[367:]) & set(shown[:367])


# --- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_files_with_labels_of_every_class(task):
    rows = examples(task, "train", 800)
    assert len(rows) == 800
    for row in rows:
        assert set(row) == {"image", "label"}
        image = Image.open(BytesIO(row["image"]))
        assert image.format == "PNG" and image.size == (8, 8) and image.mode == "L"
    counts = Counter(row["label"] for row in rows)
    classes = len(TASKS[task].answers)
    assert set(counts) == set(range(classes)) and min(counts.values()) > 400 / classes


@pytest.mark.parametrize("task", TASKS)
def test_examples_depend_on_the_seed_alone(task):
    one = examples(task, "validation", 300, 3)
    assert one == examples(task, "validation", 300, 3)
    assert one != examples(task, "validation", 300, 4)
    assert examples(task, "validation", 200, 3) == one[:200]


# --- labels follow from the pixels ---------------------------------------------------------------


def known(task: str, n: int):
    """The examples that show an image as it is: its pixels and the label."""
    return [(pixels(row["image"]), row["label"]) for row in examples(task, "test", n)]


def test_digit_and_parity():
    truth = written("test")
    for image, label in known("digit", 367):
        assert truth[image.tobytes()] == label
    for image, label in known("parity", 367):
        assert truth[image.tobytes()] % 2 == label


def test_inverted():
    """Each is an image and its negative, but for halves of a grey value, rounded alike in both."""
    truth = written("test")
    images = np.stack([np.frombuffer(image, np.uint8) for image in truth]).astype(int)
    for image, label in known("inverted", 367):
        off = np.abs(255 - image.reshape(-1) - images).max(1)
        assert off.min() <= 1 and list(truth.values())[off.argmin()] == label


def test_turned():
    truth = written("test")
    rows = known("turned", 200)
    for image, label in rows:
        back = np.rot90(image, -label).tobytes()
        assert truth[back] in range(2, 8), TURNS[label]


def test_shuffled():
    """The same squares, at places that are the same for all images."""
    truth = written("test")
    tell = np.arange(64.0).reshape(8, 8)
    places = digits.shuffle(tell).astype(int).reshape(-1)
    assert sorted(places) == list(range(64)) and (places != np.arange(64)).sum() > 40
    assert all(places.reshape(8, 8)[::2, 1::2].reshape(-1) == places.reshape(8, 8)[::2, ::2].reshape(-1) + 1)
    back = np.argsort(places)
    for image, label in known("shuffled", 367):
        assert truth[image.reshape(-1)[back].tobytes()] == label


def test_striped():
    """Less three quarters of the image, what is left is constant along the stripes alone."""
    sums = np.stack([source.pixels for source in sources("test")])
    for image, label in known("striped", 100):
        left = image * INK / 255 - 0.75 * sums
        spread = []
        for direction in range(4):
            row, column = np.indices((8, 8))
            across = (row, column, row + column, row - column)[direction] % 4
            lines = [left[:, across == k] for k in range(4)]
            spread.append(sum(line.std(1) for line in lines))
        direction, _ = np.unravel_index(np.argmin(spread), np.shape(spread))
        assert direction == label, STRIPES[label]
        assert np.min(spread) < 0.2


# --- pretraining ---------------------------------------------------------------------------------

TINY = {"steps": 2, "hidden": 16, "layers": 2, "heads": 2, "intermediate": 16, "batch_size": 8}


def test_captions_are_of_pretraining_images_in_known_words(monkeypatch):
    asked = set()
    monkeypatch.setattr(clip, "sources", lambda part: asked.add(part) or sources(part))
    rng, words = Random(0), tokenizer()
    texts = [captioned(rng)[1] for _ in range(2000)]
    assert asked == {"pretraining"}
    texts += [
        caption.format(answer=a) for kind in TASKS.values() for caption in kind.captions for a in kind.answers
    ]
    for text, ids in zip(texts, words(texts).input_ids, strict=True):
        assert words.unk_token_id not in ids and len(ids) == len(text.split()) + 2 <= 16
    assert words("zebra").input_ids == [words.bos_token_id, words.unk_token_id, words.eos_token_id]


def test_captions_do_not_give_everything_away(monkeypatch):
    """A base that had been told the digits would know the tasks before any expert does."""
    seven = next(source for source in sources("pretraining") if source.digit == 7)
    monkeypatch.setattr(clip, "sources", lambda part: (seven,))
    rng, said = Random(0), Counter()
    for _ in range(3000):
        said.update(captioned(rng)[1].split())
    named = {name: said[name] for name in NUMBERS if said[name]}
    assert set(named) == {"four", "seven"}
    assert 0.4 < said["seven"] / sum(named.values()) < 0.6
    assert said["straight"] > 500 and said["round"] == 0
    assert 2 < said["odd"] / said["even"] < 4


def test_images_are_seen_as_their_files_are():
    rng = Random(1)
    images = [captioned(rng)[0] for _ in range(20)]
    torch.testing.assert_close(seen(images), preprocess([png(image) for image in images], processor()))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_pretraining_makes_the_same_folder_twice(tmp_path):
    record = pretrain_clip(tmp_path / "one", seed=3, **TINY)
    pretrain_clip(tmp_path / "two", seed=3, **TINY)
    pretrain_clip(tmp_path / "three", seed=4, **TINY)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert files(tmp_path / "one")["model.safetensors"] != files(tmp_path / "three")["model.safetensors"]
    assert record["steps"] == 2 and record["images"] == 16 and 0 < record["loss"] < 20


def test_the_released_base_knows_this_world():
    folder = Path(__file__).parents[2] / "models/miniature-clip"
    released, made = AutoTokenizer.from_pretrained(folder), tokenizer()
    assert released.get_vocab() == made.get_vocab()
    text = "the light digit zero turned left"
    assert released(text).input_ids == made(text).input_ids
    model = CLIPModel.from_pretrained(folder)
    assert model.config.text_config.eos_token_id == made.eos_token_id
    assert image_processor(folder).to_dict() == processor().to_dict()
    assert (folder / "model.safetensors").stat().st_size < 4_000_000
