"""Raw teacher scores -> calibrated, mixed, tempered, weighted distributions. Pure functions over ragged lists."""
