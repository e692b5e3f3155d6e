"""Whatever knows more than the student: it scores lists, and says in a sentence what it knows (protocols.py)."""
