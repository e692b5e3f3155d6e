"""The stages, one file each: plain functions from artifacts to one artifact, with key, inputs and work together."""
