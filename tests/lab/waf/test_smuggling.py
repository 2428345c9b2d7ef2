"""F-79 for the balancer: no request that Apache and a member behind it could read as two."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..faults.http.test_smuggling import CORPUS, FRAMES
from ..faults.http.wire import h2
from .conftest import NAME, Guarded


class Victim(threading.Thread):
    """Asks on and on, each time for a page of its own, and notes every answer that is not its own."""

    def __init__(self, guarded: Guarded, number: int) -> None:
        super().__init__()
        self.guarded, self.number, self.asked, self.wrong, self.over = guarded, number, 0, list[bytes](), False

    def run(self) -> None:
        while not self.over:
            path = f"/victim-{self.number}-{self.asked}"
            head = f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: t\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            answer = self.guarded.send(head.encode(), 20)
            if not answer.startswith(b"HTTP/1.1 200 ") or f'"path": "{path}"'.encode() not in answer:
                self.wrong.append(answer)
            self.asked += 1


@pytest.mark.demand
@pytest.mark.parametrize("watching", [False, True], ids=["rules refuse", "rules watch"])
def test_nothing_that_is_sent_becomes_two_requests(every: Guarded, watching: bool) -> None:
    """Also while the rules only watch: it is Apache that must read it rightly, whatever the rules think of it."""
    if watching:
        every.done("waf.detect-only", "--for", "10m")
        time.sleep(2)
    victims = [Victim(every, number) for number in range(2)]
    before = len(every.reached())
    outcomes: dict[str, list[int]] = {}
    try:
        for victim in victims:
            victim.start()
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda sent: every.send(sent, 1.5), CORPUS.values())
            for name, answer in zip(CORPUS, answers, strict=True):
                outcomes[name] = [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d) ", answer)]
        for name, (headers, body) in FRAMES.items():
            answered = h2(every.host, headers, *body, seconds=2)[0]
            outcomes[f"h2 {name}"] = [int(answered)] if answered.isdigit() else []
        time.sleep(1)
    finally:
        for victim in victims:
            victim.over = True
        for victim in victims:
            victim.join()
        if watching:
            every.done("waf.enforce")
    lines = every.reached()[before:]
    assert [each for each in lines if re.search(r"^GET \S*smuggled=", each)] == []
    assert [victim.wrong for victim in victims] == [[], []]
    assert sum(victim.asked for victim in victims) > 20
    assert {name: each for name, each in outcomes.items() if len(each) > 1} == {}
    refused = sum(1 for each in outcomes.values() if not each or each[0] >= 400)
    print(f"{len(outcomes)} requests: {refused} refused, {len(outcomes) - refused} read alike")
