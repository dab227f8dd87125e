"""A small tokenizer of the T5 class: whole words of the drawn world, characters for everything else."""

from __future__ import annotations

import string

from transformers import T5Tokenizer

from sevila.synthetic.language import ACTIONS, COLOURS, GROUNDS, SHAPES, SIDES, THINGS, vocabulary

WHOLE, CHARACTER = -2.0, -12.0  # unigram scores: a known word always beats its spelling


def make() -> T5Tokenizer:
    """Build it. Words stand with the leading-space mark; options also without, as they follow a bracket."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", WHOLE) for word in vocabulary()]
    bare = [word for word in (*COLOURS, *SHAPES, *THINGS, *GROUNDS, *SIDES, *ACTIONS, "yes", "no", "the", "a")]
    pieces += [(word, WHOLE) for word in bare if len(word) > 1]
    known = {piece for piece, _ in pieces}
    characters = [c for c in string.ascii_letters + string.digits + string.punctuation if c not in known]
    pieces += [(c, CHARACTER) for c in characters]
    pieces += [(f"▁{c}", CHARACTER) for c in string.ascii_letters + string.digits if f"▁{c}" not in known]
    pieces += [("▁(", WHOLE)]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
