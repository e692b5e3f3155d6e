"""The stages: plain functions from artifacts to one artifact, and the runner that remembers what they made."""
