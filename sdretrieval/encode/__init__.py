"""Texts become tokens, tokens become vectors; views say what part of a text a side may see."""
