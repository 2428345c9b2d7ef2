"""A file with a secret in it that never leaves its host: the form comes from here, and the host fills it in itself."""

from __future__ import annotations

import hashlib

from .host import Host

MARK = "@SECRET@"
"""Where in a form the secret shall stand."""

# What was filled in is remembered as two digests, of the form and of the file, so that the next look can tell whether
# either changed.  The secret is in no argument: awk reads it from its file.
FILL = r"""
path=$1 form=$2 secret=$3 owner=$4 mode=$5 name=$6 sum=$7 mark=$8
[ -s "$secret" ] || fail "there is no $secret to fill in"
umask 077
stage "${path%/*}"
printf '%s' "$form" | LC_ALL=C awk -v file="$secret" -v mark="$mark" '
    BEGIN { getline secret < file }
    at = index($0, mark) { $0 = substr($0, 1, at - 1) secret substr($0, at + length(mark)) }
    { print }' > "$stage/new"
chown "$owner:root" "$stage/new"
chmod "$mode" "$stage/new"
sync "$stage/new"
mv -fT "$stage/new" "$path"
rm -rf "$stage"
printf '%s %s\n' "$sum" "$(sha256sum < "$path" | cut -c1-64)" > "$home/loaded/$name.new"
mv -fT "$home/loaded/$name.new" "$home/loaded/$name"
"""


def filled(host: Host, path: str, form: str, secret: str, *, owner: str, mode: int = 0o640) -> None:
    """The file at `path` holds `form`, with what the host's file `secret` holds in the place of MARK.

    It is its reader's own, and of the group root: a site's own group has Apache in it, which shall not read it.  Its
    directory is root's.  It is filled in again when the form, the secret or the file itself changed.
    """
    name, digest = "filled" + path.replace("/", "+"), hashlib.sha256(form.encode()).hexdigest()
    now, source = host.facts.files.get(path), host.facts.files.get(secret)
    if now and source and float(now.mtime) >= float(source.mtime):
        as_wished = (now.kind, now.mode, now.owner, now.group) == ("f", mode, owner, "root")
        if as_wished and host.facts.loaded.get(name) == f"{digest} {now.digest}":
            return
    host.run(f"fill in {path}", FILL, path, form, secret, owner, f"{mode:o}", name, digest, MARK)
