"""Candidates for the teacher: retrieve, fuse, drop what must not be a negative, sample; and say what was dropped."""

from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import HitsLike, mine
from sdretrieval.mining.report import Example, MiningReport, duplicate_groups

__all__ = ["Candidates", "Example", "HitsLike", "MiningReport", "duplicate_groups", "mine"]
