"""SeViLA for one's own videos: heads by name, videos by path.

model = SeViLA.load("Salesforce/blip2-flan-t5-xl", device="auto")     # or "tiny", which knows the drawn world alone
answer = model.answer("video.mp4", "what does the red star hold?", ["a cup", "a key"], k=2)
print(answer.text, answer.probabilities, answer.keyframes)

Many questions about a video cost one decoding and one pass of the vision tower:

video = model.encode("video.mp4")
moments = model.localize(video, "the star opens the box").keyframes
answers = model.answer(video, ["who enters?", "what is red?"], [["the star", "the square"], ["a cup", "a key"]])
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, overload

import torch

from sevila.checkpoints import backbone as backbones
from sevila.checkpoints.architecture import TINY
from sevila.checkpoints.heads import ZEROSHOT, load_head
from sevila.data.dataset import FrameDataset, Sample, patches_of
from sevila.data.folders import AnyFile
from sevila.data.records import Question, Window
from sevila.data.sampling import EvaluationFrames
from sevila.data.store import Store
from sevila.data.video import CachedVideos
from sevila.errors import UserError
from sevila.files import home
from sevila.model import sevila as core
from sevila.model.precision import arithmetic, find_device, find_precision, warn_if_slow
from sevila.model.prompts import letters
from sevila.model.sevila import Answer, EncodedVideo, Localization
from sevila.selection.rules import LocalizerTopK, Selector
from sevila.selection.scorers import LocalizerScorer, choose_keyframes

TEXT_TOKENS = 512  # T5's own limit; published experiments cut texts at 77, as the official code does

WARNING = (
    "sevila: warning: no model is named: this is the tiny one of the drawn world, good for that world alone; "
    'SeViLA.load("Salesforce/blip2-flan-t5-xl") is the paper\'s'
)

Video = str | PathLike[str] | EncodedVideo


class SeViLA:
    """The Localizer chooses frames, the Answerer answers from them.

    model    what does the work, a torch module
    videos   how frames are decoded, and to which size; by default by PyAV, to the size that the model was trained on
    store    where the tower's patches are kept, if anywhere
    tf32     on CUDA, products of float32 as TF32: faster, no longer float32's numbers; torch's own settings are not
             asked, and stay as they are
    """

    def __init__(
        self, model: core.SeViLA, videos: CachedVideos | None = None, store: Store | None = None, tf32: bool = False
    ) -> None:
        self.model, self.store, self.tf32 = model, store, tf32
        self.videos = videos or CachedVideos(model.backbone.image_size, cache_bytes=0)

    @classmethod
    def load(
        cls,
        source: str | None = None,
        localizer: str = ZEROSHOT,
        answerer: str = ZEROSHOT,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        text_tokens: int = TEXT_TOKENS,
        tf32: bool = False,
    ) -> SeViLA:
        """A backbone by Hub id, folder or `tiny`, and its heads by run folder, head file, Hub id or `zeroshot`.

        source        None: the tiny backbone too, with a warning that it knows the drawn world alone
        device        `cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one
        dtype         of the backbone: `fp32`, `bf16`, `fp64`, torch's, or `published` (tower float16, T5 bfloat16);
                      None: bfloat16 where the device has units for it, as GPUs do since Ampere, else float32
        text_tokens   longer prompts lose their end
        tf32          as of `SeViLA`

        Raises UserError for a device that is not there, an unknown dtype, and files that are missing or do not fit.
        """
        if source is None:
            print(WARNING, file=sys.stderr)
        device = find_device(device)
        precision = find_precision(dtype, device)
        warn_if_slow(precision.language, device)
        backbone = backbones.load(
            home(source or TINY),
            device,
            precision.language,
            text_tokens=text_tokens,
            half_tower=precision.half_tower,
        )
        finder = load_head(home(localizer), "localizer", backbone)
        return cls(core.SeViLA(backbone, finder, load_head(home(answerer), "answerer", backbone)), tf32=tf32)

    def encode(self, path: str | PathLike[str], n_frames: int = 32, clip: Window | None = None) -> EncodedVideo:
        """n frames of a video file or a folder of pictures, evenly spread, through the vision tower: [n, P, Dv].

        clip   (start, end) in seconds, where only a part of the video counts

        Raises UserError for a video that cannot be read, and for n_frames below 1. A video of fewer frames gives all.
        """
        if type(n_frames) is not int or n_frames < 1:
            raise UserError(f"n_frames={n_frames!r}: must be a whole number of frames, at least 1")
        if not isinstance(path, str | PathLike):
            raise UserError(f"video: expected a path or what encode() gives, one at a time; found {path!r}")
        record = Question("", str(Path(path).expanduser()), "", (), clip=clip)
        frames = FrameDataset([record], self.videos, AnyFile(), EvaluationFrames(n_frames), store=self.store)
        encoded = self.encode_sample(frames.sample(record, (0, 0)))
        if self.store is not None:
            self.store.flush()
        return encoded

    def encode_sample(self, sample: Sample) -> EncodedVideo:
        """The same of T frames that are decoded already, [T, P, Dv]."""
        with arithmetic(self.tf32):
            patches = patches_of(self.model.backbone, sample)
        return EncodedVideo(sample.frames.indices, sample.frames.times, patches)

    @overload
    def localize(  # type: ignore[overload-overlap]  # a text is a sequence of texts too
        self, video: Video, query: str, k: int = 4, n_frames: int = 32, *, selector: Selector | None = None
    ) -> Localization: ...

    @overload
    def localize(
        self, video: Video, query: Sequence[str], k: int = 4, n_frames: int = 32, *, selector: Selector | None = None
    ) -> list[Localization]: ...

    def localize(
        self,
        video: Video,
        query: str | Sequence[str],
        k: int = 4,
        n_frames: int = 32,
        *,
        selector: Selector | None = None,
    ) -> Localization | list[Localization]:
        """The k frames that matter most for a question or a sentence, in time order, and all frames' scores.

        query      a text, or a list of texts: then a list comes back
        n_frames   how many frames are looked at; not used for a video that is encoded already
        selector   another rule than the k best scores; then it says k

        Raises UserError for an unreadable video, an empty query, or k not from 1 to the number of frames.
        """
        texts = _texts(query, "query")
        asked = [_question(text, (), f"query {i}" if len(texts) > 1 else "query") for i, text in enumerate(texts)]
        found = self._choose(self._encoded(video, n_frames), asked, k, selector)
        return found[0] if isinstance(query, str) else found

    @overload
    def answer(  # type: ignore[overload-overlap]
        self,
        video: Video,
        question: str,
        options: Sequence[str],
        k: int = 4,
        n_frames: int = 32,
        *,
        selector: Selector | None = None,
    ) -> Answer: ...

    @overload
    def answer(
        self,
        video: Video,
        question: Sequence[str],
        options: Sequence[Sequence[str]],
        k: int = 4,
        n_frames: int = 32,
        *,
        selector: Selector | None = None,
    ) -> list[Answer]: ...

    def answer(
        self,
        video: Video,
        question: str | Sequence[str],
        options: Sequence[str] | Sequence[Sequence[str]],
        k: int = 4,
        n_frames: int = 32,
        *,
        selector: Selector | None = None,
    ) -> Answer | list[Answer]:
        """Answer a question about a video from its k best frames among n; or a list of them, each with its options.

        n_frames, selector   as of `localize`

        Raises UserError for an unreadable video, options that are not 2 to 26 texts a question, or k not from 1 to the
        number of frames.
        """
        asked = _questions(question, options)
        encoded = self._encoded(video, n_frames)
        found = self._choose(encoded, asked, k, selector)
        with arithmetic(self.tf32):
            answers = self.model.answer(encoded, asked, [each.positions for each in found], [e.frames for e in found])
        return answers[0] if isinstance(question, str) else answers

    def _encoded(self, video: Video, n_frames: int) -> EncodedVideo:
        return video if isinstance(video, EncodedVideo) else self.encode(video, n_frames)

    def _choose(
        self, encoded: EncodedVideo, asked: Sequence[Question], k: int, selector: Selector | None
    ) -> list[Localization]:
        if selector is None:
            if type(k) is not int or not 1 <= k <= len(encoded):
                raise UserError(f"k={k!r}: {len(encoded)} frames were sampled; choose k from 1 to that")
            selector = LocalizerTopK(k)
        with arithmetic(self.tf32):
            return choose_keyframes(encoded, asked, selector, LocalizerScorer(self.model))


def _questions(question: str | Sequence[str], options: Sequence[str] | Sequence[Sequence[str]]) -> list[Question]:
    """One question, or several with a list of options each. UserError where they do not fit together."""
    if isinstance(options, str):
        raise UserError(f'options={options!r}: a plain text; give a list of texts, such as ["a cup", "a key"]')
    if isinstance(question, str):
        return [_answerable(question, list(options), "")]
    questions = _texts(question, "question")
    if len(options) != len(questions) or any(isinstance(each, str) for each in options):
        raise UserError(
            f"options: {len(questions)} questions need {len(questions)} lists of options, one each; "
            f"found {list(options)!r}"
        )
    return [_answerable(text, options[i], f" {i}") for i, text in enumerate(questions)]


def _texts(given: str | Sequence[str], name: str) -> list[str]:
    """A text, or the texts of a list. UserError for none at all."""
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if not texts:
        raise UserError(f"{name}: expected a text or a list of texts, found {given!r}")
    return texts


def _answerable(text: str, options: Sequence[Any], number: str) -> Question:
    """`number` names the question among several."""
    for option in options:
        if not isinstance(option, str) or not option:
            raise UserError(f"options of question{number}: expected texts, found {option!r}")
    letters(len(options))
    return _question(text, tuple(options), f"question{number}")


def _question(text: str, options: tuple[str, ...], name: str) -> Question:
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{name}: expected a text, found {text!r}")
    return Question(text, "", text, options)
