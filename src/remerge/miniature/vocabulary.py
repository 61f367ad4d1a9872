"""The tokenizers of the miniature world: one token per word, and no words from outside it."""

from string import Formatter

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from remerge.miniature import generation, lexicon
from remerge.miniature.corpus import SKILLS
from remerge.miniature.glue import FORMATS
from remerge.miniature.pairs import REVIEWS, SENTINELS

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
CLS, SEP, MASK = "<cls>", "<sep>", "<mask>"

_FUNCTION_WORDS = (
    "a an the this that these those some every many no nobody we critics everyone it itself "
    "themselves is are was do does did have has not never hardly far from anything but and "
    "although very really quite often by in on near behind beside who whom what which thing where "
    "place when day means kind of opposite to good bad said yes , . ? : |"
)


def words() -> list[str]:
    """Every word of the world, sorted."""
    found = set(_FUNCTION_WORDS.split())
    for noun in (*lexicon.NOUNS, *lexicon.CLASSES):
        found |= {noun, lexicon.plural(noun)}
    for group in (
        lexicon.NAMES, lexicon.PLACES, lexicon.DAYS, lexicon.ADJECTIVES, lexicon.PRAISE,
        lexicon.BLAME, lexicon.LIKED, lexicon.DISLIKED, lexicon.ASPECTS,
        *(verb for pair in lexicon.VERBS for verb in pair),
    ):  # fmt: skip
        found.update(group)
    frames = [(shown.prompt, shown.answers) for shown in FORMATS.values()]
    for frame, answers in (*frames, *SKILLS.values()):
        found.update(*(literal.split() for literal, *_ in Formatter().parse(frame)), answers)
    return sorted(found)


def more_words() -> list[str]:
    """The words that only the tasks with answers in free text need, sorted."""
    found = {"mean", *REVIEWS, *(f"({letter})" for letter in generation.LETTERS)}
    found.update(*(verdict.split() for verdict in generation.VERDICTS), ["say"])
    for shown in generation.FORMATS.values():
        found.update(*(literal.split() for literal, *_ in Formatter().parse(shown.prompt)))
    return sorted(found - set(words()))


def tokenizer(architecture: str = "qwen2") -> PreTrainedTokenizerFast:
    """The tokenizer of an architecture.

    A decoder's adds no tokens to a text; T5's adds the end token, and DeBERTa's a token before and after it.
    """
    special, known, around = [PAD, EOS, UNKNOWN], words(), ""
    if architecture == "t5":
        known, around = [*known, *more_words(), *SENTINELS], f"$A {EOS}"
    elif architecture == "deberta":
        special, around = [PAD, EOS, UNKNOWN, CLS, SEP, MASK], f"{CLS} $A {SEP}"
    vocabulary = {word: index for index, word in enumerate((*special, *known))}
    model = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    model.pre_tokenizer = WhitespaceSplit()
    if around:
        marks = [(token, vocabulary[token]) for token in special]
        both = f"{around} $B {around.split()[-1]}"
        model.post_processor = TemplateProcessing(single=around, pair=both, special_tokens=marks)
    named = {"cls_token": CLS, "sep_token": SEP, "mask_token": MASK} if architecture == "deberta" else {}
    words_only = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=model,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **named,
    )
    if architecture == "qwen2":
        # For a Qwen2, AutoTokenizer builds Qwen's byte-level BPE from any folder, whatever class was saved
        # there, unless an auto_map is present: with an empty one, it uses the saved class.
        words_only.init_kwargs["auto_map"] = {"AutoTokenizer": [None, None]}
    return words_only
