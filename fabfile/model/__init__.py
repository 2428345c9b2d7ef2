"""
What YAML says: sites, machines, the fleet; and the refusal of everything else, with file, line, key and an example.

    fleet = find_fleet(ssh_config=Path(".lab/ssh_config"))     fleet.sites_for("vps") -> (Site, ...)

`Refusal` is the only error that leaves here; its `exit_code` is 2 and nothing has been touched.
"""

from .balancer import Balancer, Route
from .choose import chosen_site, nearest
from .durations import duration
from .fleet import PRODUCTION, ROLES, STAGING, Acme, Edge, Files, Fleet, Machine, Static, Store
from .functions import DISABLED
from .load import find_fleet, load_fleet, load_sites
from .owners import owner_of
from .refusal import Problem, Refusal
from .runtime import GONE, PHP, RUNTIMES, SUEXEC, UNITS, Limits, Mount, Zone
from .site import Cache, Deploy, Php, Site, Tls, most_workers

__all__ = [
    "DISABLED",
    "GONE",
    "PHP",
    "PRODUCTION",
    "ROLES",
    "RUNTIMES",
    "STAGING",
    "SUEXEC",
    "UNITS",
    "Acme",
    "Balancer",
    "Cache",
    "Deploy",
    "Edge",
    "Files",
    "Fleet",
    "Limits",
    "Machine",
    "Mount",
    "Php",
    "Problem",
    "Refusal",
    "Route",
    "Site",
    "Static",
    "Store",
    "Tls",
    "Zone",
    "chosen_site",
    "duration",
    "find_fleet",
    "load_fleet",
    "load_sites",
    "most_workers",
    "nearest",
    "owner_of",
]
