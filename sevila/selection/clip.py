"""Frames scored by an image-text dual encoder, CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from sevila.checkpoints.state_dict import check_tensors
from sevila.data.records import Question
from sevila.errors import UserError, reason
from sevila.files import check_plain
from sevila.model.sevila import EncodedVideo, SeViLA
from sevila.selection.scorers import question_text

KINDS = ("clip", "siglip")  # model types in transformers whose two encoders are called alike
ROWS = 32  # frames or texts in one pass, so that memory does not grow with their number


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
        wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
        found = {name: tensor for name, tensor in network.state_dict().items() if name not in info["missing_keys"]}
        check_tensors(f"scorer.model={model}", "its weights are not whole", wanted, found)
        self.network = network.eval().to(self.device)
        self.network.requires_grad_(False)
        self.text_tokens = config.text_config.max_position_embeddings

    @torch.no_grad()
    def score(self, encoded: EncodedVideo, questions: Sequence[Question], pixels: Tensor | None) -> Tensor:
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
        values = ready["pixel_values"].to(self.device, torch.float32)
        return normalize(self.network.get_image_features(pixel_values=values).pooler_output, dim=-1)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        """Texts -> unit vectors [N, D]; padded to the full length, as SigLIP was trained (CLIP does not mind)."""
        batch = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.text_tokens, return_tensors="pt"
        )
        said = {name: batch[name].to(self.device) for name in ("input_ids", "attention_mask") if name in batch}
        return normalize(self.network.get_text_features(**said).pooler_output, dim=-1)
