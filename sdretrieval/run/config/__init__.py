"""What a user may write in a run's YAML: schema, loading, the identity part, and warnings."""

from __future__ import annotations

from sdretrieval.run.config.checks import warnings
from sdretrieval.run.config.fields import identity_fields
from sdretrieval.run.config.index_section import index_identity, index_keywords, settings_from
from sdretrieval.run.config.load import dump_config, load_config, parse_config
from sdretrieval.run.config.schema import (
    Config,
    CorpusConfig,
    CrossEncoderConfig,
    DenseConfig,
    EarlyStopConfig,
    EmaConfig,
    EnsembleConfig,
    EvaluateConfig,
    FalseNegativesConfig,
    GateConfig,
    IndexConfig,
    LexicalConfig,
    Member,
    MemberConfig,
    MineConfig,
    PromptsConfig,
    QueryWeightsConfig,
    ScoresConfig,
    StudentConfig,
    TargetsConfig,
    TeacherConfig,
    TrainConfig,
    ViewConfig,
    members_of,
)

__all__ = [
    "Config",
    "CorpusConfig",
    "CrossEncoderConfig",
    "DenseConfig",
    "EarlyStopConfig",
    "EmaConfig",
    "EnsembleConfig",
    "EvaluateConfig",
    "FalseNegativesConfig",
    "GateConfig",
    "IndexConfig",
    "LexicalConfig",
    "Member",
    "MemberConfig",
    "MineConfig",
    "PromptsConfig",
    "QueryWeightsConfig",
    "ScoresConfig",
    "StudentConfig",
    "TargetsConfig",
    "TeacherConfig",
    "TrainConfig",
    "ViewConfig",
    "dump_config",
    "identity_fields",
    "index_identity",
    "index_keywords",
    "load_config",
    "members_of",
    "parse_config",
    "settings_from",
    "warnings",
]
