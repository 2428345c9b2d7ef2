"""What lets a run begin and end sooner.

Python looks for rings among all objects there are, again and again.  A run makes many that all live to its end,
where it would look once more.

Invoke keeps Python from writing bytecode (`--write-pyc`), so that every run would compile the whole runbook and its
templates once more.  Who wants that tells Python itself: PYTHONDONTWRITEBYTECODE.
"""

import atexit
import gc
import sys

gc.set_threshold(100_000, 20, 20)
atexit.register(gc.freeze)
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
