"""Do synthetic queries look like those that people ask? How well a simple classifier tells them apart.

Legend: Q queries of both sorts together, D dimensions of a vector, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.read.documents.blocks import word_count
from sdretrieval.synthetic_queries.kinds import QUESTION_WORDS

FOLDS = 5
SPREAD = 3.0
"""A coordinate of a vector of length 1 is small beside the features of its text."""


def told_apart(real: tuple[NDArray[Any], Sequence[str]], made: tuple[NDArray[Any], Sequence[str]], seed: int) -> float:
    """Area under the ROC curve of a logistic regression that tells `made` queries from `real` ones, cross-validated:
    0.5 if they look alike, 1 if each gives itself away. Both are vectors (Q, D) and texts, at least 5 of each.

    It looks at the vectors, the length, and how the text is written (question or not, capitals, function words).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    features_QF = np.concatenate([_features(*real), _features(*made)])
    is_real_Q = np.arange(len(features_QF)) < len(real[1])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced", max_iter=500)
    chance_Q = cross_val_predict(model, features_QF, is_real_Q, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(is_real_Q, chance_Q))


def _features(vectors_QD: NDArray[Any], texts: Sequence[str]) -> NDArray[Any]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    rows = []
    for text in texts:
        words = text.lower().split() or [""]
        rows.append(
            [
                np.log1p(word_count(text)),
                text.rstrip().endswith("?"),
                words[0] in QUESTION_WORDS,
                text[:1].isupper(),
                sum(word in ENGLISH_STOP_WORDS for word in words) / len(words),
            ]
        )
    return np.concatenate([SPREAD * np.asarray(vectors_QD), np.asarray(rows, dtype=np.float64)], axis=1)
