"""The words of the miniature world and their meaning: classes, synonyms, antonyms, polarity."""

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CLASSES: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "horse", "rabbit", "goat", "tiger"),
    "person": ("teacher", "doctor", "lawyer", "farmer", "painter", "singer", "pilot", "nurse"),
    "vehicle": ("car", "truck", "boat", "train", "tractor"),
    "tool": ("hammer", "saw", "drill", "shovel", "rake"),
    "fruit": ("apple", "pear", "plum", "lemon", "melon"),
    "toy": ("ball", "doll", "kite", "puzzle", "robot"),
    "instrument": ("guitar", "piano", "violin", "flute", "drum"),
    "plant": ("rose", "tulip", "cactus", "fern", "orchid"),
    "garment": ("coat", "shirt", "hat", "scarf", "glove"),
}
"""Each hypernym with its hyponyms."""

HYPERNYM = {noun: kind for kind, nouns in CLASSES.items() for noun in nouns}
NOUNS = tuple(HYPERNYM)
BEINGS = CLASSES["person"] + CLASSES["animal"]
THINGS = tuple(noun for noun in NOUNS if HYPERNYM[noun] != "person")
NAMES = _words("alice carol emma grace julia bob david frank henry kevin")
PLACES = _words("park market kitchen garden school station museum hotel harbor library")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")

_IRREGULAR_PLURALS = {"person": "people", "cactus": "cacti"}


class Verb(NamedTuple):
    """The forms of a transitive verb."""

    base: str
    present: str
    past: str
    participle: str


def _verb(base: str, past: str = "", participle: str = "", present: str = "") -> Verb:
    past = past or (base + "d" if base.endswith("e") else base + "ed")
    return Verb(base, present or base + "s", past, participle or past)


VERBS: tuple[tuple[Verb, Verb], ...] = (
    (_verb("buy", "bought"), _verb("purchase")),
    (_verb("find", "found"), _verb("discover")),
    (_verb("watch", present="watches"), _verb("observe")),
    (_verb("carry", "carried", present="carries"), _verb("transport")),
    (_verb("fix", present="fixes"), _verb("repair")),
    (_verb("pick"), _verb("choose", "chose", "chosen")),
    (_verb("love"), _verb("adore")),
    (_verb("hate"), _verb("despise")),
    (_verb("clean"), _verb("wash", present="washes")),
    (_verb("hide", "hid", "hidden"), _verb("conceal")),
    (_verb("follow"), _verb("pursue")),
    (_verb("push", present="pushes"), _verb("shove")),
    (_verb("paint"), _verb("decorate")),
    (_verb("sell", "sold"), _verb("trade")),
)
"""Actions: events refer to them by their index; the two verbs of an action are synonyms."""

OPPOSITE_ACTION = {6: 7, 7: 6, 0: 13, 13: 0}

_SCALES = (
    (("big", "large"), ("small", "tiny")),
    (("fast", "quick"), ("slow", "sluggish")),
    (("old", "ancient"), ("new", "modern")),
    (("rich", "wealthy"), ("poor", "needy")),
    (("happy", "glad"), ("sad", "gloomy")),
    (("quiet", "silent"), ("loud", "noisy")),
    (("strong", "sturdy"), ("weak", "fragile")),
    (("brave", "bold"), ("timid", "shy")),
)
COLOURS = ("red", "blue", "green", "white", "black")

SYNONYM: dict[str, str] = {}
ANTONYMS: dict[str, tuple[str, ...]] = {
    colour: tuple(other for other in COLOURS if other != colour) for colour in COLOURS
}
for _high, _low in _SCALES:
    for _pole, _opposite in ((_high, _low), (_low, _high)):
        SYNONYM.update({_pole[0]: _pole[1], _pole[1]: _pole[0]})
        ANTONYMS.update({word: _opposite for word in _pole})
ADJECTIVES = tuple(SYNONYM) + COLOURS

PRAISE = _words(
    "wonderful great superb delightful charming brilliant moving funny clever gripping "
    "touching fresh elegant masterful lovely"
)
BLAME = _words(
    "terrible awful dull boring clumsy tedious shallow messy bland stale pointless ugly "
    "lifeless dreadful annoying"
)
LIKED = ("enjoyed", "loved", "adored", "admired", "praised")
DISLIKED = ("hated", "regretted", "disliked", "despised", "resented")
ASPECTS = _words(
    "film plot acting script direction music dialogue ending cast camera humor pacing story romance"
)


def plural(noun: str) -> str:
    """The plural of a noun or of a class."""
    return _IRREGULAR_PLURALS.get(noun, noun + "s")


def article(word: str) -> str:
    """The indefinite article before `word`."""
    return "an" if word[0] in "aeiou" else "a"
