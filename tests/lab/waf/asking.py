"""Runs on the host: sends requests byte by byte, and tells the status of each and what the rules said of it.

An answer names its request, and so does the audit log.
"""

import base64
import json
import re
import socket
import sys
import time
from pathlib import Path


def ask(port: int, raw: bytes) -> bytes:
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        try:
            line.sendall(raw)
            while b"\r\n\r\n" not in received and (some := line.recv(65536)):
                received += some
        except OSError:
            pass
    return received


def main() -> None:
    port, log = int(sys.argv[1]), Path(sys.argv[2])
    log.touch()
    with log.open("rb") as stream:
        stream.seek(0, 2)
        answers = []
        for raw in json.load(sys.stdin):
            head = ask(port, base64.b64decode(raw))
            status = re.match(rb"HTTP/\S+ (\d+)", head)
            number = re.search(rb"(?im)^x-gatehouse-number: (\S+)\r$", head)
            answers.append((int(status[1]) if status else 0, number[1].decode() if number else ""))
        time.sleep(1)
        said: dict[str, list[str]] = {}
        for line in stream:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            said[record["transaction"]["transaction_id"]] = record.get("audit_data", {}).get("messages") or []
    print(json.dumps([(status, said.get(number, [])) for status, number in answers]))


main()
