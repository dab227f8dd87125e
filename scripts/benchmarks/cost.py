"""What an answer costs: operations and bytes of every stage, from the sizes of the model, n, k and the questions.

A multiplication and an addition are two operations. `python scripts/benchmarks/cost.py` prints the table for the
published sizes and what they predict for ten million videos.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Widths, depths and lengths; the defaults are those of the published system (ViT-g, Q-Former, Flan-T5-XL)."""

    patches: int = 257
    patch_numbers: int = 588  # 3 x 14 x 14
    vision_width: int = 1408
    vision_inner: int = 6144
    vision_layers: int = 39
    queries: int = 32
    qformer_width: int = 768
    qformer_layers: int = 12
    language_width: int = 2048
    attention_width: int = 2048
    attention_heads: int = 32
    language_inner: int = 5120
    language_layers: int = 24
    vocabulary: int = 32128
    localizer_text: int = 70  # tokens
    answerer_text: int = 77
    prefix: int = 4  # "Frame i: "


@dataclass(frozen=True)
class Stage:
    """Operations of a video with all its questions, and the bytes of weights that one pass over the stage reads."""

    name: str
    operations: float
    weight_bytes: float


def frame_operations(s: Sizes) -> tuple[float, float]:
    """Of one frame: through the tower, and through one head."""
    d, p, m = s.vision_width, s.patches, s.vision_inner
    tower = 2 * p * s.patch_numbers * d + s.vision_layers * (2 * p * (4 * d * d + 2 * d * m) + 4 * p * p * d)
    w, q = s.qformer_width, s.queries
    own = s.qformer_layers * (2 * q * 12 * w * w + 4 * q * q * w)
    cross = s.qformer_layers / 2 * (2 * q * 2 * w * w + 2 * p * 2 * d * w + 4 * q * p * w)
    return tower, own + cross + 2 * q * w * s.language_width


def encoder_operations(s: Sizes, length: int) -> float:
    """Of one row of `length` tokens through T5's encoder."""
    d, a = s.language_width, s.attention_width
    return s.language_layers * (2 * length * (4 * d * a + 3 * d * s.language_inner) + 4 * length * length * a)


def decoder_operations(s: Sizes, length: int, tokens: int) -> float:
    """Of `tokens` tokens through T5's decoder, beside a row of `length`, without keys and values for that row."""
    d, a = s.language_width, s.attention_width
    each = 2 * (4 * d * a + 3 * d * s.language_inner) + 2 * 4 * d * a + 4 * s.attention_heads * length * d
    return s.language_layers * tokens * each


def weights(s: Sizes) -> dict[str, float]:
    """Parameters of each part."""
    d, a = s.language_width, s.attention_width
    block = 4 * d * a + 3 * d * s.language_inner
    w = s.qformer_width
    return {
        "tower": s.vision_layers * (4 * s.vision_width**2 + 2 * s.vision_width * s.vision_inner),
        "head": s.qformer_layers * 12 * w * w + s.qformer_layers / 2 * (2 * w * w + 2 * w * s.vision_width),
        "encoder": s.language_layers * block,
        "decoder": s.language_layers * (block + 4 * d * a),
    }


def stages(n: int, k: int, questions: float, s: Sizes | None = None, bytes_each: int = 2) -> list[Stage]:
    """A video of n frames, k keyframes and so many questions; weights take `bytes_each` (bfloat16: 2)."""
    s = s or Sizes()
    tower, head = frame_operations(s)
    local = s.prefix - 1 + s.queries + s.localizer_text
    joint = k * (s.prefix + s.queries) + s.answerer_text
    size = {name: count * bytes_each for name, count in weights(s).items()}
    seen = min(n, k * questions)  # keyframes of different questions may be the same frames
    return [
        Stage("vision tower", n * tower, size["tower"]),
        Stage("Localizer's head", n * head, size["head"]),
        Stage("Localizer's encoder", questions * n * encoder_operations(s, local), size["encoder"]),
        Stage("Localizer's decoder", questions * n * decoder_operations(s, local, 1), size["decoder"]),
        Stage("Answerer's head", seen * head, size["head"]),
        Stage("Answerer's encoder", questions * encoder_operations(s, joint), size["encoder"]),
        Stage("Answerer's decoder", questions * decoder_operations(s, joint, 2), size["decoder"]),
    ]


def stored_bytes(n: int, s: Sizes | None = None, bytes_each: int = 2) -> int:
    """Of a video's patches in the store."""
    s = s or Sizes()
    return n * s.patches * s.vision_width * bytes_each


def days(
    videos: float, gpus: int, n: int = 32, k: int = 4, questions: float = 9.0, peak: float = 990e12, share: float = 0.5
) -> float:
    """Days for so many videos.

    peak    operations a second of one GPU (H100 SXM, bfloat16, dense, as its maker states)
    share   of it that is reached: an assumption until `bench.py --suite gpu` has measured it on yours
    """
    total = videos * sum(stage.operations for stage in stages(n, k, questions))
    return total / (gpus * peak * share) / 86400


def main() -> None:
    for questions in (1, 9):
        rows = stages(32, 4, questions)
        total = sum(row.operations for row in rows)
        print(f"32 -> 4 frames, {questions} questions a video: {total / 1e12:.1f} T operations")
        for row in rows:
            share = 100 * row.operations / total
            read = row.weight_bytes / 1e9
            print(f"  {row.name:22}{row.operations / 1e12:10.3f} T{share:7.1f} %{read:8.2f} GB of weights")
    for gpus in (1, 8, 64, 512):
        print(f"10 million videos, 9 questions each, {gpus} GPUs: {days(1e7, gpus):.2f} days")
    print(f"patches of 10 million videos, bfloat16: {1e7 * stored_bytes(32) / 1e12:.0f} TB")


if __name__ == "__main__":
    main()
