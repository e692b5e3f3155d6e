"""Stage pretrained/train: the student learns from documents alone, before it is taught. Pieces of a document find each
other."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from sdretrieval.config import identity_fields
from sdretrieval.encode.views import View
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity
from sdretrieval.mining.mine import duplicate_groups
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run, Weights, prompts_of, student_from
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.training.pretrain import LEAST_TOKENS

CHECKPOINTS = 5
"""A kill costs a fifth of it at most."""
OF_TRAIN = ("warmup", "weight_decay", "max_grad_norm", "dropout", "lora_rank")
"""Settings of the section train that hold here, too."""
PRETRAINED_SHARE = 0.5
"""Of the weights after it, the others being the base's: keeps most of a gain where there is one, and takes back what
was lost elsewhere (docs/ablations/pretrain.md)."""
LEAST_LENGTH = 2 * LEAST_TOKENS
"""Of a document, in tokens: two pieces of a shorter one would be much the same."""


def pretrain(run: Run, collection: Collection, tokens: Tokens) -> Weights:
    """The base student after `pretrain.updates` of it, which is to be mixed with the base (`PRETRAINED_SHARE`).

    Raises CorpusError if hardly any document is long enough.
    """
    cfg, train_cfg, precision = run.config.pretrain, run.config.train, number_format(run, "train")
    assert cfg is not None

    def build(work: Work) -> None:
        from sdretrieval.training.batches import Side
        from sdretrieval.training.pretrain import PieceBatches, SameDocument
        from sdretrieval.training.train import TrainSettings, processes, train

        group_N = duplicate_groups(collection.corpus.document_texts())
        rows_N = rows_of_pieces(collection, tokens, group_N)
        if len(rows_N) < 2:
            raise CorpusError(
                f"pretrain: found {quantity(len(rows_N), 'documents')} of {LEAST_LENGTH} tokens or more to learn from; "
                "expected 2 at least, whose pieces are told apart. Leave pretrain out (--set pretrain=null)"
            )
        student = student_from(run.base.student, run.config)  # one of its own: it changes
        model = student.model
        batches = PieceBatches(
            model, Side(tokens.queries, student.query_view, student.query_specials),
            Side(tokens.documents, View(run.config.student.max_tokens), student.document_specials),
            rows_N, group_N, run.config.seed,
        )  # fmt: skip
        documents = min(cfg.documents_per_batch, len(rows_N))
        settings = TrainSettings(
            epochs=cfg.updates * documents * processes() / len(rows_N), queries_per_batch=documents,
            learning_rate=cfg.learning_rate, warmup=train_cfg.warmup, weight_decay=train_cfg.weight_decay,
            max_grad_norm=train_cfg.max_grad_norm, freeze=train_cfg.freeze, dropout=train_cfg.dropout,
            precision=precision, lora_rank=train_cfg.lora_rank, seed=run.config.seed,
            save_every=train_cfg.save_every or max(1, cfg.updates // CHECKPOINTS),
        )  # fmt: skip
        loss = SameDocument(model, train_cfg.student_temperature)
        trained = train(
            model, batches, loss, settings, work.folder, description="pretrain",
            expected=run.expected.get("pretrained/train"), tracking=run.tracking("pretrained/train"),
        )  # fmt: skip
        counts = trained.counts
        work.counts.update(documents=len(rows_N), documents_seen=counts.pop("queries"), **counts)

    views = [run.config.student.max_tokens, run.config.student.query_tokens]
    identity = {
        **identity_fields(cfg), "precision": precision, "temperature": train_cfg.student_temperature,
        **{name: getattr(train_cfg, name) for name in OF_TRAIN}, "freeze": list(train_cfg.freeze),
        "student": [*views, *astuple(prompts_of(run.config).prompts)], "seed": run.config.seed,
    }  # fmt: skip
    inputs: list[Artifact | str] = [run.base.key, tokens, collection.filtered]
    made = run.runner.stage("pretrained/train", 2, identity, inputs, build, resumable=True)
    return Weights(made.key, made.path / "student", made.path / "student")


def rows_of_pieces(collection: Collection, tokens: Tokens, group_N: Array) -> Array:
    """Rows of documents that are long enough. Those that measuring queries were made from stay out, and their copies
    (of the same group): a student that has seen such a query beside the rest of its document would only remember it."""
    measuring = sorted({one.document_row for one in collection.query_removed[: collection.measuring]})
    rows_N = np.flatnonzero(tokens.documents.lengths >= LEAST_LENGTH)
    return rows_N[~np.isin(group_N[rows_N], group_N[measuring])]
