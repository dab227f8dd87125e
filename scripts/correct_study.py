"""Correct the intervals and verdicts of a study whose runs are gone, from its tables and claims.

    python scripts/correct_study.py OLD NEW

OLD holds what scripts/synthetic_study.py wrote while its intervals were percentiles of a bootstrap over videos and
seeds; NEW gets the same files by today's rule (`study.claims.RULE`). An old interval tells the total variance, as that
of something normal: ((high - low) / 3.92)^2. Resampling S seeds gave (S - 1) / S of the seeds' variance s^2 / S, and
s^2 follows from the means of each seed, which the tables hold; the rest is the videos'. What videos and seeds do
together is in that rest, so it is rather too large than too small. Of a comparison with the best of several rows only
one old interval is there; it is taken as that against the best.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sevila.cli import guarded
from sevila.errors import UserError
from sevila.files import home_path, read_json
from study.claims import findings
from study.few_seeds import Lead, Mean, Part, of_seeds
from study.intervals import Estimate
from study.outputs import PSEUDO_LABELS, Study, write
from study.rows import GROUPS, Numbers, all_rows

NORMAL = 1.959964  # standard errors to each side of a 95 % interval
WINDOWS = 2  # that a question of the embedded world needs at most
NOTE = (
    "The intervals and verdicts of this page were corrected from the tables of an earlier version of it "
    "(scripts/correct_study.py), not computed from the runs, which are gone, and with them what was answered to each "
    "question. The earlier intervals, percentiles of a bootstrap over videos and seeds, were too narrow. Where a row "
    "is compared with the best of several, both ends are those against the best."
)


def corrected(mean: float, low: float, high: float, seeds: Sequence[float], videos: int) -> Mean:
    """A mean with its parts, from its old interval and the means of each seed (one where nothing was trained)."""
    parts = tuple(of_seeds(seeds))
    drawn = sum(part.variance for part in parts) * (len(seeds) - 1) / len(seeds)
    rest = max(0.0, ((high - low) / (2 * NORMAL)) ** 2 - drawn) * videos / (videos - 1)
    return Mean(mean, (Part(rest, videos - 1), *parts))


class Committed:
    """The values of a study of one world, as `study.values.Values` gives them, from its files."""

    def __init__(self, folder: Path) -> None:
        self.environment = read_json(folder / "environment.json")
        self.seeds, self.worlds = self.environment["seeds"], self.environment["worlds"]
        if len(self.worlds) != 1:
            raise UserError(f"{folder}: worlds {self.worlds}; only a study of one world can be corrected")
        self.videos = int(dict(word.split("=", 1) for word in self.environment["set"])["data.test_videos"])
        files = [folder / "tables" / f"{group}.json" for group in GROUPS]
        self._rows = {row["row"]: row for file in files if file.exists() for row in read_json(file)["rows"]}
        first = next(iter(self._rows.values()))  # of the main table, whose rows have the default numbers
        self.default = Numbers(first["n"], first["k"])
        self.rows, self.missing = [row for row in all_rows(self.default) if row.key in self._rows], []
        claims = read_json(folder / "claims.json")
        if any("p" in claim for claim in claims):
            raise UserError(f"{folder}: its intervals are not percentiles of a bootstrap; nothing is to be corrected")
        self._claims = {(claim["better"], *claim["others"], claim["measure"]): claim for claim in claims}
        labels = folder / "tables" / f"{PSEUDO_LABELS}.json"
        self.refinements = read_json(labels) if labels.exists() else []

    def has(self, key: str) -> bool:
        return key in self._rows

    def count(self) -> int:
        return max(row["accuracy"]["questions"] for row in self._rows.values())

    def counted(self, key: str, measure: str) -> int:
        return self._rows[key][measure]["questions"]

    def most_windows(self) -> int:
        return WINDOWS

    def type_means(self, key: str, measure: str) -> dict[str, float]:
        return self._rows[key][measure]["by_type"]

    def seed_means(self, key: str, measure: str, world: int) -> list[float]:
        return self._rows[key][measure]["by_world"][str(world)]

    def estimate(self, key: str, measure: str) -> Estimate:
        old = self._rows[key][measure]
        seeds = self.seed_means(key, measure, self.worlds[0])
        return corrected(old["mean"], old["low"], old["high"], seeds, self.videos).estimate()

    def effect(self, better: str, others: Sequence[str], measure: str) -> Lead:
        old = self._claims[better, *others, measure]
        best = max(others, key=lambda key: self._rows[key][measure]["mean"])
        above, below = (self.seed_means(key, measure, self.worlds[0]) for key in (better, best))
        seeds = max(len(above), len(below))  # one mean stands for every seed
        pairs = zip(*(means * seeds if len(means) == 1 else means for means in (above, below)), strict=True)
        differences = [high - low for high, low in pairs]
        return Lead((corrected(old["effect"], old["low"], old["high"], differences, self.videos),))

    def world_effects(self, better: str, others: Sequence[str], measure: str) -> dict[int, Estimate]:
        return {self.worlds[0]: self.effect(better, others, measure).estimate()}


def correct(old: Path, new: Path) -> list[dict[str, Any]]:
    """Write the corrected study; the findings whose verdict is another now, with the old one as `was`."""
    values = Committed(old)
    found, unmeasured = findings(values)
    write(Study(values, found, unmeasured, values.refinements, values.environment, NOTE), new)
    changed = []
    for finding in found:
        claim = finding.claim
        was = values._claims[claim.better, *claim.others, claim.measure]["verdict"]
        if was != finding.verdict:
            changed.append({**finding.to_json(), "was": was})
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=home_path, help="folder of the results as they were written")
    parser.add_argument("new", type=home_path, help="folder for the corrected ones")
    given = parser.parse_args(argv)

    def work() -> None:
        for row in correct(given.old, given.new):
            interval = f"{row['effect']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"
            print(f"{row['claim']}, {row['measure']}: {row['was']} -> {row['verdict']} {interval}")

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
