"""What Gatehouse costs beside what others would use: `scripts/bench`.

    toolkit   one host with ten sites: first run, a run that changes nothing, one site more, a long line
    growth    one host with 1 to 1,000 sites
    isolation  every runtime of a site beside the others
    stack      what a visitor gets, beside Debian's Apache with mod_php, nginx and Caddy

Each part brings up lab hosts of its own, lets every tool bring the same resources (wanted.py) to a host, and writes
what it saw as JSON, from which tables and plots are made (paper.py, plots.py).  Nothing is asserted here: tests count,
this times.
"""
