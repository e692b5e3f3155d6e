"""What a doubter may try for himself: kills, flipped bits, bad inputs. `python -m tests.faults` tries them all."""
