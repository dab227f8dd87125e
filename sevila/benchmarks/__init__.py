"""The benchmarks, one file each: what its rows are, what its tables print, what its submission looks like.

`data=NAME` and `sevila score NAME` choose by these names.
"""

from __future__ import annotations

from sevila.benchmarks.base import Benchmark
from sevila.benchmarks.custom import Custom
from sevila.benchmarks.how2qa import How2QA
from sevila.benchmarks.nextgqa import NExTGQA
from sevila.benchmarks.nextqa import NExTQA
from sevila.benchmarks.qvhighlights import QVHighlights
from sevila.benchmarks.star import STAR
from sevila.benchmarks.synthetic import Synthetic
from sevila.benchmarks.tvqa import TVQA
from sevila.benchmarks.vlep import VLEP

BENCHMARKS: dict[str, type[Benchmark]] = {
    "synthetic": Synthetic,
    "nextqa": NExTQA,
    "star": STAR,
    "how2qa": How2QA,
    "tvqa": TVQA,
    "vlep": VLEP,
    "qvhighlights": QVHighlights,
    "nextgqa": NExTGQA,
    "custom": Custom,
}
