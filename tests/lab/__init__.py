"""The lab: real Debian hosts with systemd, sshd and their own firewall, as containers on this machine.

`lab.py` brings a lab up and down; `machine.py` is one host of it, `authority.py` its CA and its DNS, `network.py` its
addresses; `image.py` builds what the hosts run. Nothing of the product knows that it is in here: it sees addresses, the
URL of a CA and a CA bundle, all of it data.
"""
