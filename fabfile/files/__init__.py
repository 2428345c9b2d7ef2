"""Files: one host has those of all sites, the others see them over NFS or follow it.  (T5, VM5; VM1, VM2)"""

from __future__ import annotations

from . import following, serving
from .following import follow
from .mounting import mount
from .serving import serve

STEPS = (serve, mount, follow)

__all__ = ["STEPS", "follow", "following", "mount", "serve", "serving"]
