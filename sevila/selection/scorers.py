"""Who scores frames, and the one place where keyframes are chosen: scores -> rule -> positions.

The Localizer scores a frame at a time, as published, or several together; CLIP and SigLIP need no language model. The
scorers that are trained by the answers stand in `trained`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from sevila.checkpoints.state_dict import check_tensors
from sevila.data.records import Question
from sevila.errors import UserError, reason
from sevila.files import check_plain
from sevila.model.device import taken
from sevila.model.sevila import EncodedVideo, Localization, SeViLA
from sevila.selection.rules import Candidates, Selector
from sevila.transfer import upload

KINDS = ("clip", "siglip")  # model types in transformers whose two encoders are called alike
ROWS = 32  # frames or texts in one pass of theirs, so that memory does not grow with their number


class Scorer(Protocol):
    """`needs_pictures` says whether it looks at the decoded pictures, or at patches alone."""

    needs_pictures: ClassVar[bool]

    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None) -> Tensor:
        """How much each of T frames of one video matters for each of M questions: [M, T]; higher is better.

        pixels   the T frames as decoded, uint8 [T, 3, S, S]; None where no scorer asked for them
        """
        ...


def choose_keyframes(
    encoded: EncodedVideo,
    questions: Sequence[Question],
    selector: Selector,
    scorer: Scorer,
    pixels: Tensor | None = None,
) -> list[Localization]:
    """Keyframes of M questions about one video, whose T frames, patches [T, P, Dv], are scored together.

    selector   its k is cut to T
    scorer     asked only where the selector goes by scores
    pixels     the frames as decoded, uint8 [T, 3, S, S], for a scorer that looks at them
    """
    # section 3.2: s_i of every frame; then the top-k, or another rule; positions come out in time order
    scores = scorer.score(encoded, questions, pixels) if selector.needs_scores else None
    return by_rule(encoded, questions, selector, scores)


def by_rule(
    encoded: EncodedVideo, questions: Sequence[Question], selector: Selector, scores: Tensor | None
) -> list[Localization]:
    """Keyframes of M questions about one video by the scores of its T frames, [M, T]; `selector.k` is cut to T."""
    rows: list[list[float] | None] = [None] * len(questions) if scores is None else scores.tolist()
    rule = replace(selector, k=min(selector.k, len(encoded)))
    chosen = []
    for question, row in zip(questions, rows, strict=True):
        candidates = Candidates(question.qid, encoded.times, encoded.indices, row, question.windows)
        chosen.append(Localization(encoded.frames(row), tuple(rule.select(candidates))))
    return chosen


def question_text(question: Question) -> str:
    """Question and options as one plain text, for encoders that take no instructions."""
    return " ".join([question.question, *question.options]).strip()


class LocalizerScorer:
    """SeViLA's own (Yu et al. 2023, section 3.2): the language model's logit of "yes", a frame at a time.

    The scorers below ask the same Localizer, but show it several frames at once.
    """

    needs_pictures: ClassVar[bool] = False

    def __init__(self, sevila: SeViLA) -> None:
        self.sevila = sevila

    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None = None) -> Tensor:
        """[M, T]: the logits of "yes"."""
        return self.sevila.localize(encoded, questions)

    def score_each(self, videos: Sequence[EncodedVideo], questions: Sequence[Question]) -> list[Tensor]:
        """The same for the B videos of a batch, with a question each: of each [1, T]."""
        return self.sevila.localize_each(videos, questions)


class GroupScorer(LocalizerScorer):
    """The Localizer reads `frames` neighbours at once, and their one "yes" logit is the score of each of them.

    How frames are grouped, and that all of a group score alike, is this project's choice: the T frames are cut from
    the first on, and the last group may be smaller. So the `frames` best frames are the best group, and a smaller k
    takes the group's frames in the order that its rule gives to equals (`topk`: the earliest).
    """

    def __init__(self, sevila: SeViLA, frames: int = 4) -> None:
        if type(frames) is not int or frames < 1:
            raise UserError(f"scorer.frames={frames!r}: must be a whole number of frames read together, at least 1")
        super().__init__(sevila)
        self.frames = frames

    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None = None) -> Tensor:
        """[M, T]: the logit of "yes" of the group that a frame is in."""
        return self.relevance(encoded.patches, self.sevila.localizer_prompts(questions))

    def score_each(self, videos: Sequence[EncodedVideo], questions: Sequence[Question]) -> list[Tensor]:
        """Of each video [1, T], one video after another."""
        return [self.score(video, [question]) for video, question in zip(videos, questions, strict=True)]

    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """Patches [T, P, Dv] of one video and M prompts -> [M, T], without gradients."""
        raise NotImplementedError

    def _groups(self, frames: Tensor) -> Iterator[Tensor]:
        """[T, ...] -> the whole groups [G, frames, ...], then the smaller last one [1, rest, ...]."""
        whole = len(frames) - len(frames) % self.frames
        if whole:
            yield frames[:whole].unflatten(0, (-1, self.frames))
        if whole < len(frames):
            yield frames[None, whole:]


class LongImageScorer(GroupScorer):
    """Frames "concatenated into a long image for the Q-Former" (Yu et al. 2023, table 12).

    The queries attend to the patches of all frames of a group together and give one set of soft tokens, which stands
    behind plain "Frame: " as a single frame's does. With `frames=1` it is the Localizer as ever.
    """

    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """[T, P, Dv] and M prompts -> [M, T]."""
        columns = []
        for groups in self._groups(patches):
            long_images = rearrange(groups, "g k p d -> g (k p) d")
            logits = self.sevila.relevance(long_images, texts)
            columns.append(logits.repeat_interleave(groups.shape[1], dim=1))
        return torch.cat(columns, dim=1)


class JointLocalizerScorer(GroupScorer):
    """The language model reads the frames of a group as one sequence: this project's reading, not the paper's.

    Each frame has its own soft tokens: "Frame 1: ... Frame 2: ..." and then the prompt, as the Answerer reads
    keyframes. With `frames=1` a frame stands behind "Frame 1: " and not, as for the Localizer alone, behind "Frame: ".
    """

    @torch.no_grad()
    def relevance(self, patches: Tensor, texts: Sequence[str]) -> Tensor:
        """[T, P, Dv] and M prompts -> [M, T]."""
        soft = self.sevila.localizer.head(patches)
        columns = []
        for groups in self._groups(soft):
            logits = self._yes(groups, texts)
            columns.append(logits.repeat_interleave(groups.shape[1], dim=1))
        return torch.cat(columns, dim=1)

    def _yes(self, groups: Tensor, texts: Sequence[str]) -> Tensor:
        """[G, K, Q, Dl] and M texts -> the logits of "yes", [M, G]."""
        pairs = [(m, g) for m in range(len(texts)) for g in range(len(groups))]
        size = max(1, self.sevila.rows // groups.shape[1])
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        seen = taken(groups, [[g for _, g in part] for part in parts])
        found = [
            self.sevila.localizer.word_logits(rows, [texts[m] for m, _ in part], numbered=True)[:, 0]
            for part, rows in zip(parts, seen, strict=True)
        ]
        return torch.cat(found).view(len(texts), len(groups))


class CLIPScorer:
    """Cosine similarity of frame and question (CLIP: Radford et al. 2021; SigLIP: Zhai et al. 2023).

    The selector "CLIP" of table 6 in SeViLA (Yu et al. 2023). The text is the question followed by its options, cut
    to what the text encoder reads (77 tokens for CLIP, 64 for SigLIP); with `options=False` the question alone.

    model   a Hub id or a local folder in transformers' format

    Raises UserError, which names scorer.model, where there is no such model, or where it is another kind.
    """

    needs_pictures: ClassVar[bool] = True

    def __init__(self, sevila: SeViLA, model: str = "openai/clip-vit-base-patch32", options: bool = True) -> None:
        self.options, self.device = options, sevila.backbone.device
        check_plain(model)
        try:
            config = AutoConfig.from_pretrained(model, trust_remote_code=False)
            if config.model_type not in KINDS:
                raise UserError(f"scorer.model={model}: is a {config.model_type}; choose a {' or '.join(KINDS)} model")
            network, info = AutoModel.from_pretrained(
                model, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
            self.processor = AutoImageProcessor.from_pretrained(model, trust_remote_code=False)
        except UserError:
            raise
        except Exception as error:  # what a folder holds may fail in any way in transformers
            raise UserError(
                f"scorer.model={model}: neither a folder nor a reachable Hub id of a CLIP or SigLIP ({reason(error)}); "
                "offline, name the folder of a downloaded one"
            ) from error
        weights = network.state_dict()
        found = {name: tensor for name, tensor in weights.items() if name not in info["missing_keys"]}
        wanted = {name: tensor.shape for name, tensor in weights.items()}
        check_tensors(f"scorer.model={model}", "its weights are not whole", wanted, found)
        self.network = network.eval().to(self.device)
        self.network.requires_grad_(False)
        self.text_tokens = config.text_config.max_position_embeddings

    @torch.no_grad()
    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None) -> Tensor:
        """[M, T]: cosines. ValueError where there are no pictures."""
        if pixels is None:
            raise ValueError("this scorer looks at pictures, and there are none")
        texts = [question_text(q) if self.options else q.question for q in questions]
        seen = torch.cat([self._images(part) for part in pixels.split(ROWS)])
        asked = torch.cat([self._texts(texts[start : start + ROWS]) for start in range(0, len(texts), ROWS)])
        return asked @ seen.T

    def _images(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] -> unit vectors [N, D]; the model's own processor brings frames to its size."""
        pictures = list(pixels.permute(0, 2, 3, 1).numpy(force=True))
        ready = self.processor(images=pictures, input_data_format="channels_last", return_tensors="pt")
        values = upload(ready["pixel_values"], self.device).to(torch.float32)
        return normalize(self.network.get_image_features(pixel_values=values).pooler_output, dim=-1)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Texts -> unit vectors [N, D]; padded to the full length, as SigLIP was trained (CLIP does not mind)."""
        batch = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.text_tokens, return_tensors="pt"
        )
        ready = {name: upload(batch[name], self.device) for name in ("input_ids", "attention_mask") if name in batch}
        return normalize(self.network.get_text_features(**ready).pooler_output, dim=-1)
