"""What a user may write in a run's YAML: schema, loading, the identity part, and warnings."""

from __future__ import annotations

from sdretrieval.config.chat_section import ChatConfig, JudgeConfig, WriterConfig
from sdretrieval.config.fields import identity_fields
from sdretrieval.config.index_section import settings_from
from sdretrieval.config.load import dump_config, load_config, parse_config, read_index_section
from sdretrieval.config.schema import (
    Config,
    CorpusConfig,
    EvaluateConfig,
    FalseNegativesConfig,
    GateConfig,
    IndexConfig,
    MineConfig,
    StudentConfig,
    TargetsConfig,
    TrainConfig,
)
from sdretrieval.config.smaller_section import SmallerConfig
from sdretrieval.config.teachers import (
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    EnsembleConfig,
    LexicalConfig,
    Member,
    MemberConfig,
    MultiVectorConfig,
    PromptsConfig,
    RerankerApiConfig,
    ScoresConfig,
    TeacherConfig,
    ViewConfig,
    born_again,
    members_of,
    teacher_section,
    with_own_teachers,
)
from sdretrieval.config.warnings import warnings

__all__ = [
    "ChatConfig",
    "Config",
    "CorpusConfig",
    "CrossEncoderConfig",
    "DenseConfig",
    "EmaConfig",
    "EnsembleConfig",
    "EvaluateConfig",
    "FalseNegativesConfig",
    "GateConfig",
    "IndexConfig",
    "JudgeConfig",
    "LexicalConfig",
    "Member",
    "MemberConfig",
    "MineConfig",
    "MultiVectorConfig",
    "PromptsConfig",
    "RerankerApiConfig",
    "ScoresConfig",
    "SmallerConfig",
    "StudentConfig",
    "TargetsConfig",
    "TeacherConfig",
    "TrainConfig",
    "ViewConfig",
    "WriterConfig",
    "born_again",
    "dump_config",
    "identity_fields",
    "load_config",
    "members_of",
    "parse_config",
    "read_index_section",
    "settings_from",
    "teacher_section",
    "warnings",
    "with_own_teachers",
]
