"""A tokenizer of T5's kind, made here, so that nothing has to be downloaded: a few words, and all characters."""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("<pad>", "</s>", "<unk>")
WORDS = ("Frame", "Option", "Question", "yes", "no", "what", "the", *string.ascii_uppercase[:6])


def save_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json. As T5's, it makes of "Frame: " a last piece that is a space."""
    space = "▁"
    pieces = [(piece, 0.0) for piece in SPECIAL]
    pieces += [(space + word, -1.0) for word in WORDS] + [(space, -2.0)]
    pieces += [(character, -3.0) for character in string.printable.strip()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=space)
    end = ("</s>", SPECIAL.index("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [end])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5TokenizerFast", "extra_ids": 0}))
