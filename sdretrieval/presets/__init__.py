"""Configs for the usual cases, as data, and the choice among them by what a corpus is."""
