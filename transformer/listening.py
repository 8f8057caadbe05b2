"""Where the edge listens, as others write it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Listening:
    """Where the edge listens, once it does; `grpc_port` is None without gRPC."""

    host: str
    http_port: int
    grpc_port: int | None

    @property
    def http_address(self) -> str:
        """Where REST listens, as a URL has it."""
        return join_port(self.host, self.http_port)

    @property
    def grpc_address(self) -> str | None:
        """Where gRPC listens, None without it."""
        return None if self.grpc_port is None else join_port(self.host, self.grpc_port)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of all protocols."""
        return (self.http_port,) if self.grpc_port is None else (self.http_port, self.grpc_port)


def join_port(host: str, port: int) -> str:
    """Write HOST:PORT as URLs and gRPC have it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
