"""What `import sdretrieval` does to the process: it bounds a cache of torch's, unless the user has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
ASK = f"import os, sys, sdretrieval; print(os.environ[{CAPACITY!r}], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "stands"), [(None, "64"), ("7", "7")])
def test_the_cache_of_compiled_kernels_is_bounded_before_torch_is_there(given: str | None, stands: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != CAPACITY}
    if given is not None:
        environment[CAPACITY] = given
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [stands, "False"]
