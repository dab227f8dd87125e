"""What is measured on: a random model of a given size, pictures and questions.

The weights are scaled by their fan-in, so that signals keep their size through the layers: every score depends on
frame and question, and which letter wins differs from question to question.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Blip2Config, Blip2ForConditionalGeneration

from sevila.checkpoints.architecture import QFORMER, T5, TINY, VIT_G, read_tokenizer
from sevila.checkpoints.backbone import Random
from sevila.model.backbone import assemble_backbone
from sevila.model.language import Direct, Official
from sevila.model.prompts import letters
from sevila.model.sevila import SeViLA
from sevila.synthetic.stories import vocabulary

OPTIONS = 5
FRAMES, KEYFRAMES = 32, 4
SHOT = 4  # frames
SHOTS = 48  # by which the output table is made
CERTAIN = 12.0  # logit of "Option" as the first word; the others are spread by about 1


@dataclass(frozen=True)
class Size:
    """Widths and depths; the vocabulary is Flan-T5's."""

    image: int = 224
    patch: int = 14
    vision_width: int = 384
    vision_layers: int = 12
    qformer_width: int = 384
    qformer_layers: int = 6
    queries: int = 32
    language_width: int = 512
    language_layers: int = 6
    language_inner: int = 1024
    vocabulary: int = 32128

    def config(self) -> Blip2Config:
        return Blip2Config(
            vision_config=VIT_G
            | {
                "hidden_size": self.vision_width,
                "intermediate_size": 4 * self.vision_width,
                "num_hidden_layers": self.vision_layers,
                "num_attention_heads": self.vision_width // 64,
                "image_size": self.image,
                "patch_size": self.patch,
            },
            qformer_config=QFORMER
            | {
                "hidden_size": self.qformer_width,
                "num_hidden_layers": self.qformer_layers,
                "num_attention_heads": self.qformer_width // 64,
                "intermediate_size": 4 * self.qformer_width,
                "encoder_hidden_size": self.vision_width,
            },
            text_config=T5
            | {
                "vocab_size": self.vocabulary,
                "d_model": self.language_width,
                "d_kv": 64,
                "d_ff": self.language_inner,
                "num_heads": self.language_width // 64,
                "num_layers": self.language_layers,
                "num_decoder_layers": self.language_layers,
                "tie_word_embeddings": False,  # as Flan-T5's: the output table's logits are not scaled down
            },
            num_query_tokens=self.queries,
        )


MIDDLE = Size()
SMALL = Size(
    image=56, vision_width=64, vision_layers=2, qformer_width=64, qformer_layers=2, queries=4, language_width=64,
    language_layers=2, language_inner=128, vocabulary=424,
)  # fmt: skip


def random_blip2(config: Blip2Config, seed: int = 0) -> Blip2ForConditionalGeneration:
    """transformers' model with seeded weights, float32, eager attention."""
    blip2 = Random(seed).blip2("bench", config, torch.float32, torch.device("cpu"))
    blip2.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in blip2.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, spread(name, parameter, config.text_config.d_kv), generator=generator)
    return blip2.eval()


def spread(name: str, parameter: Tensor, head_width: int) -> float:
    """Standard deviation of a random matrix."""
    if "shared" in name or "query_tokens" in name or "class_embedding" in name:
        return 1.0
    if "position_embedding" in name or "relative_attention_bias" in name:
        return 0.5
    fan_in = parameter[0].numel()
    unscaled = "language_model" in name and name.endswith(".q.weight")  # T5 does not divide by sqrt(head width)
    return (fan_in * (head_width if unscaled else 1)) ** -0.5


@dataclass(frozen=True)
class Subject:
    """The same weights twice: transformers' own model for the baseline, this library's for the rest."""

    blip2: Blip2ForConditionalGeneration
    sevila: SeViLA

    def fastest(self, dtype: torch.dtype) -> SeViLA:
        """This library's fastest setting: all of it in the precision that `auto` takes, heads included; letters are
        read after "Option" without asking first."""
        made = copy.deepcopy(self.sevila).to(dtype)
        made.answerer.decoding = Direct()
        return made


def subject(size: Size = MIDDLE, seed: int = 0) -> Subject:
    """A random model. Its two heads differ; letters are read by the official rule, as the baseline reads them."""
    config = size.config()
    blip2 = random_blip2(config, seed)
    tokenizer = read_tokenizer(None, TINY, size.vocabulary)
    fused = copy.deepcopy(blip2)
    fused.set_attn_implementation("sdpa")
    backbone = assemble_backbone(fused, tokenizer, "bench")
    localizer = copy.deepcopy(backbone.zeroshot)
    answerer = copy.deepcopy(backbone.zeroshot)
    nn.init.normal_(localizer.queries, generator=torch.Generator().manual_seed(seed + 1))
    model = SeViLA(backbone, localizer, answerer, Official()).requires_grad_(False).eval()
    train_table(model, blip2)
    return Subject(blip2, model)


@torch.no_grad()
def train_table(model: SeViLA, blip2: Blip2ForConditionalGeneration) -> None:
    """Give the words that count their rows of the output table, as training would: a random table hardly tells one
    question from another.

    The letters, and "yes", read the directions in which the decoder's states differ most between questions and
    between frames; "Option" reads what the first states have in common, so that answers begin with it.
    """
    backbone = model.backbone
    frames = pictures(SHOTS * SHOT, backbone.image_size, seed=1)[::SHOT]
    patches = backbone.encode(frames)
    asked = questions(SHOTS, seed=1)
    texts = [model.prompts.answer(a.question, a.options) for a in asked]
    picks = torch.randint(len(frames), (len(texts), KEYFRAMES), generator=torch.Generator().manual_seed(1))
    embeds, mask = backbone.assemble(model.answerer.head(patches)[picks], texts, numbered=True)
    tokens = torch.tensor([[backbone.start, backbone.token("Option")]]).expand(len(texts), -1)
    states = backbone.run_decoder(backbone.run_encoder(embeds, mask), mask, tokens)
    local = [model.prompts.localize(a.question, a.options) for a in asked]
    embeds, mask = backbone.assemble(model.localizer.head(patches)[:, None], local, numbered=False)
    seen = backbone.run_decoder(backbone.run_encoder(embeds, mask), mask, tokens[: len(local), :1])[:, 0]
    first = states[:, 0].mean(0)
    rows = {"Option": CERTAIN * first / first.square().sum(), "yes": directions(seen, 1)[0]}
    rows |= dict(zip(letters(OPTIONS), directions(states[:, 1], OPTIONS), strict=True))
    for language in (backbone.language, blip2.language_model):
        for word, row in rows.items():
            language.lm_head.weight[backbone.token(word)] = row


def directions(states: Tensor, count: int) -> Tensor:
    """[N, D] -> [count, D]: reading along each, states differ most, by 2 (standard deviation) around 0."""
    mean = states.mean(0)
    along = (states - mean) @ mean / mean.square().sum()
    across = states - mean - along[:, None] * mean
    _, sizes, rows = torch.linalg.svd(across, full_matrices=False)
    return 2.0 * len(states) ** 0.5 * rows[:count] / sizes[:count, None]


@dataclass(frozen=True)
class Asked:
    """A question as the prompts need it."""

    question: str
    options: tuple[str, ...]


def questions(count: int, seed: int = 0) -> list[Asked]:
    """Questions of random words and lengths, with options of one to three words."""
    generator = torch.Generator().manual_seed(seed)
    words = [word for word in vocabulary() if word.islower()]

    def some(least: int, most: int) -> str:
        number = int(torch.randint(least, most + 1, (), generator=generator))
        return " ".join(words[int(i)] for i in torch.randint(len(words), (number,), generator=generator))

    return [Asked(some(6, 14), tuple(some(1, 3) for _ in letters(OPTIONS))) for _ in range(count)]


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """Smooth random frames [count, 3, side, side], normalised: shots of four alike frames, as in a video."""
    generator = torch.Generator().manual_seed(seed)
    shots = -(-count // SHOT)
    coarse = torch.randn(shots, 3, 7, 7, generator=generator) + torch.randn(shots, 3, 1, 1, generator=generator)
    coarse = coarse.repeat_interleave(SHOT, 0)[:count]
    coarse = coarse + 0.1 * torch.randn(coarse.shape, generator=generator)
    return F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
