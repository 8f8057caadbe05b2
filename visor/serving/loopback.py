"""A client for one GET to TorchServe on loopback; the liveness probe, a process of its own, imports nothing more than this."""

import http.client

# The standard library's client, because httpx would take 0.2 s of a CPU for its import in every probe (this one 0.04 s), and
# 10 MB of the process that stays for a pod's life.


def get(port: int, path: str, timeout_s: float, key: str | None = None) -> bytes:
    """The body of the answer to a GET, whatever its status. `key`: of TorchServe's API. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().read()
    finally:
        connection.close()
