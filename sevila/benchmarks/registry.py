"""The data sets by name: what `data=NAME` chooses from."""

from __future__ import annotations

from collections.abc import Callable

from sevila.benchmarks import custom, how2qa, nextgqa, nextqa, qvhighlights, star, tvqa, vlep
from sevila.benchmarks.base import Benchmark
from sevila.benchmarks.synthetic import Synthetic

BENCHMARKS: dict[str, Callable[..., Benchmark]] = {
    "synthetic": Synthetic,
    "nextqa": nextqa.build,
    "star": star.build,
    "how2qa": how2qa.build,
    "tvqa": tvqa.build,
    "vlep": vlep.build,
    "qvhighlights": qvhighlights.build,
    "nextgqa": nextgqa.build,
    "custom": custom.build,
}
