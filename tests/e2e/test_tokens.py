"""A release that asks for a token: clients, probes, metrics and helm test, and a Secret that changes while it serves."""

from typing import Any

import httpx

from tests.e2e.cluster import apply, wait_until
from tests.e2e.load import call_many
from tests.e2e.releases import Archives, Release

OLD, NEW = "old-token-0123456789abcdef", "new-token-0123456789abcdef"
# The kubelet looks at Secrets once a minute, and may have one in its cache for another.
FOLLOWED_S = 180


def secret(namespace: str, *tokens: str) -> dict[str, Any]:
    """The Secret with these tokens, one a line."""
    metadata = {"name": "digits-tokens", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"clients": "\n".join(tokens)}}


def test_who_has_a_token_is_answered_and_it_is_rotated_without_a_restart(release: Release, archives: Archives) -> None:
    def refused(token: str | None) -> list[bool]:
        headers = {"authorization": f"Bearer {token}"} if token else None
        outcomes = call_many(release.target, archives.picture, 2, headers)  # REST, then gRPC
        assert all(not outcome.error or "request.unauthenticated" in outcome.error for outcome in outcomes), outcomes
        return [bool(outcome.error) for outcome in outcomes]

    assert refused(None) == [False, False]
    apply(secret(release.namespace, OLD))
    release.upgrade({"edge": {"token": {"secretName": "digits-tokens", "key": "clients"}}})
    release.wait_ready()
    wait_until(lambda: refused(None) == [True, True], 30, "who has no token is refused")
    assert refused(OLD) == [False, False]
    assert refused(NEW) == [True, True]
    assert "Succeeded" in release.helm("test", "--logs")
    [pod] = release.pods()
    address = f"http://{pod['status']['podIP']}:8080"
    assert httpx.get(f"{address}/metrics").status_code == 200
    assert httpx.get(f"{address}/v2").status_code == 401

    apply(secret(release.namespace, NEW))
    wait_until(lambda: refused(NEW) == [False, False], FOLLOWED_S, "the new token is valid")
    assert refused(OLD) == [True, True]
    [same] = release.pods()
    assert same["metadata"]["name"] == pod["metadata"]["name"]
    assert [status["restartCount"] for status in same["status"]["containerStatuses"]] == [0, 0]
