"""Candidates for the teacher: retrieve, fuse, drop what must not be a negative, sample; and say what was dropped."""
