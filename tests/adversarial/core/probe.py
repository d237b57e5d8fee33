"""Asks for a page again and again, one request after the other, and prints how each was answered.

A process of its own, so that what an attack costs the suite itself is not taken for what it costs the server.
`python -m core.probe HOST PORT TARGET HOST-HEADER COUNT`; prints a JSON list of status (0: no answer) and seconds.
"""

import json
import socket
import sys
import time

PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.03
SECONDS_MAX = 20.0
"""After so long it asks no more."""


def main(host: str, port: str, target: str, host_header: str, count: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: {host_header}\r\nConnection: close\r\n\r\n".encode()
    results, started = [], time.monotonic()
    for _ in range(int(count)):
        began = time.monotonic()
        if began - started > SECONDS_MAX:
            break
        results.append((_status(host, int(port), request), time.monotonic() - began))
        time.sleep(PAUSE_SECONDS)
    print(json.dumps(results))


def _status(host: str, port: int, request: bytes) -> int:
    received = b""
    try:
        with socket.create_connection((host, port), PATIENCE_SECONDS) as connection:
            connection.sendall(request)
            while data := connection.recv(65536):
                received += data
    except OSError:
        return 0
    words = received.split(b" ", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdigit() else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
