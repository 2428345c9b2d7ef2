"""Python looks for rings among all objects there are, again and again.  A run makes many that all live to its end."""

import gc

gc.set_threshold(100_000, 20, 20)
