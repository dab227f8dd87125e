from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevila.errors import UserError
from sevila.metrics.ranking import average_precision, mean_average_precision


def test_average_precision_by_hand() -> None:
    # ranks 1 and 3 are true: (1/1 + 2/3) / 2
    assert average_precision([0.9, 0.1, 0.5, 0.7], [True, False, True, False]) == pytest.approx(5 / 6)
    assert average_precision([0.1, 0.2, 0.3], [True, False, False]) == pytest.approx(1 / 3)
    assert average_precision([1.0, 1.0], [False, True]) == pytest.approx(1 / 2)  # of equals the earlier comes first


def test_the_mean_leaves_out_queries_without_a_true_frame() -> None:
    ranked = [([3.0, 2.0, 1.0], [True, False, False]), ([3.0, 2.0], [False, True]), ([1.0, 2.0], [False, False])]
    assert mean_average_precision(ranked) == 75.0
    with pytest.raises(UserError, match="no query has a frame inside its windows"):
        mean_average_precision(ranked[2:])


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1).filter(lambda rows: any(r[1] for r in rows)))
def test_true_frames_first_is_the_best_there_is(rows: list[tuple[float, bool]]) -> None:
    scores, labels = zip(*rows, strict=True)
    value = average_precision(scores, labels)
    assert 0 < value <= 1
    assert average_precision([float(label) for label in labels], labels) == 1
