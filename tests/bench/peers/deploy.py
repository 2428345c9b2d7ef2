"""The manifest's resources, for pyinfra: an operation each, and daemons take their files when one of those changed."""

import json
from collections import defaultdict
from pathlib import Path

from pyinfra import config, host
from pyinfra.operations import apt, files, server, systemd
from pyinfra.operations.util import any_changed

config.SUDO = True

place = Path(host.data.manifest)
wanted = json.loads((place / "manifest.json").read_text())

apt.packages(name="Packages", packages=wanted["packages"], no_recommends=True, update=True, cache_time=86400)

for each in wanted["users"]:
    server.user(
        name=f"User {each['name']}", user=each["name"], home=each["home"], shell=each["shell"], uid=each["uid"],
        system=True, ensure_home=False,
    )  # fmt: skip
for each in wanted["memberships"]:
    server.user(
        name=f"{each['user']} in {each['group']}", user=each["user"], groups=[each["group"]], append=True,
        ensure_home=False,
    )  # fmt: skip
for each in wanted["directories"]:
    files.directory(
        name=each["path"], path=each["path"], user=each["owner"], group=each["group"], mode=each["mode"],
    )  # fmt: skip

changes = defaultdict(list)
for each in wanted["files"]:
    put = files.put(
        name=each["path"], src=str(place / "files" / each["source"]), dest=each["path"], user=each["owner"],
        group=each["group"], mode=each["mode"], add_deploy_dir=False,
    )  # fmt: skip
    for asked in each["notify"]:
        changes[asked].append(put)
for each in wanted["once"]:
    files.put(
        name=each["path"], src=str(place / "files" / each["source"]), dest=each["path"], user=each["owner"],
        group=each["group"], mode=each["mode"], add_deploy_dir=False,
    )  # fmt: skip
for each in wanted["links"]:
    files.link(name=each["path"], path=each["path"], target=each["target"], force=True)
for path in wanted["absent"]:
    files.file(name=f"no {path}", path=path, present=False, force=True, force_backup=False)  # or a link

for asked in wanted["reloads"]:
    verb, _, unit = asked.partition(" ")
    own, restarts = any_changed(*changes[asked]), any_changed(*changes[f"restart {unit}"])
    systemd.service(
        name=asked, service=unit, restarted=verb == "restart", reloaded=verb == "reload", daemon_reload=True,
        _if=own if verb == "restart" else lambda own=own, restarts=restarts: own() and not restarts(),
    )  # fmt: skip
for unit in wanted["services"]:
    systemd.service(name=unit, service=unit, running=True, enabled=True)
