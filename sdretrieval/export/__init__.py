"""A trained student as one folder that searches, explains itself and can be checked."""
