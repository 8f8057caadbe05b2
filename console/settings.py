"""The console's settings: environment variables VISOR_CONSOLE_..., a file `.env`, and flags of `visor console serve`.

Each setting is written once, here: its name, type, default and sentence make the flag, the variable and docs/console.md. This
module alone reads the console's environment.
"""

import difflib
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from console.errors import SettingsInvalid

PREFIX = "VISOR_CONSOLE_"
MIB = 1 << 20


class ServerAddress(BaseModel):
    """Where a V2 server is, and what it is asked with.

    `host`: the header Host, for a gateway of several servers. `model`: asked for alone, None for all that the server lists.
    `token_file`: its first line is a bearer token. `grafana`: address of the dashboard about it, to which the page links.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    host: str | None = None
    model: str | None = None
    token_file: Path | None = None
    grafana: str | None = None

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")


class Settings(BaseSettings):
    """What a console is started with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    servers: Annotated[tuple[ServerAddress, ...], NoDecode] = Field(
        default=(ServerAddress(url="http://127.0.0.1:8080"),),
        min_length=1,
        description="addresses of V2 servers, with commas between them, or a JSON list of objects with url, and if need be host "
        "(header Host, for a gateway), model, token_file and grafana",
    )
    host: str = Field(default="127.0.0.1", description="address on which the console listens")
    port: int = Field(default=8090, ge=0, le=65535, description="TCP port of the console; 0 takes a free one")
    keys_file: Path | None = Field(
        default=None,
        description="file of API keys, as `visor console key` writes it; without one the console listens on loopback alone, and "
        "everybody on this machine may do everything",
    )
    secret_file: Path | None = Field(
        default=None, description="file with the secret that signs sessions; without one they end with the console's process"
    )
    folder: Path = Field(default=Path("console-data"), description="folder of what the console keeps")
    database: str | None = Field(
        default=None, description="SQLAlchemy URL of the review queue's database; without one console.db in the folder"
    )
    pictures: str | None = Field(
        default=None, description="folder or s3://BUCKET/PREFIX of kept pictures; without one `pictures` in the folder"
    )
    audit_share: float = Field(
        default=0.02,
        ge=0.01,
        le=1,
        description="share of all answers that are drawn at random for review, whatever was decided: at least 0.01",
    )
    lease_s: float = Field(default=600, ge=1, description="seconds for which a picture under review is one person's")
    undo_s: float = Field(default=900, ge=0, description="seconds for which a label or a skip can be undone")
    keep_days: float | None = Field(
        default=None, gt=0, description="days after which pictures for review are deleted everywhere; without it they are kept"
    )
    line_mib: int = Field(
        default=64,
        ge=1,
        description="most MiB of pictures that wait to be written for review; more are dropped and counted",
    )
    payload_mib: int = Field(
        default=64, ge=1, description="largest event of a payload logger, and all that wait for their other half, in MiB"
    )
    mlflow: str | None = Field(default=None, description="base URL of MLflow's pages, to which models link")
    mlflow_inside: str | None = Field(
        default=None, description="base URL by which the console itself asks MLflow; without one that of its pages"
    )
    prometheus: str | None = Field(default=None, description="URL of a Prometheus, for the views of drift and release")
    releases: str | None = Field(default=None, description="folder or URL where the rollout's record is read")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="names under which browsers may ask for the console, with commas between them, beside loopback's"
    )
    max_image_mib: int = Field(default=20, ge=1, le=1024, description="largest picture, in MiB")
    max_zip_mib: int = Field(default=200, ge=1, le=4096, description="largest upload of a batch, packed and unpacked, in MiB")
    max_zip_entries: int = Field(default=1000, ge=1, le=100_000, description="largest number of pictures in a batch")
    max_batches: int = Field(default=4, ge=1, description="largest number of batches at once, each of which lies on disk")
    memory_mib: int = Field(
        default=256, ge=64, description="memory for pictures under way, in MiB; uploads wait until there is room for them"
    )
    concurrency: int = Field(default=16, ge=1, le=1024, description="largest number of pictures that one server is asked at once")
    max_waiting: int = Field(default=2000, ge=1, description="largest number of pictures that wait for one server")
    max_wait_s: float = Field(default=120, gt=0, description="seconds after which a waiting picture is given up")
    timeout_s: float = Field(default=60, gt=0, description="seconds within which a server must answer")
    upload_timeout_s: float = Field(
        default=60, gt=0, description="seconds that an upload may take, beside one more for each 64 KiB"
    )

    @field_validator("servers", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError as err:
                raise ValueError(f"is no JSON list: {err}") from err
        return [{"url": part.strip()} for part in value.split(",") if part.strip()]

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _parted(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if self.keys_file is None and not self.on_loopback:
            raise ValueError(
                f"host {self.host} is reached by others, and without keys_file anybody could do everything; make a key by "
                "`visor console key NAME --scope predict --keys-file FILE` and name the file, or listen on 127.0.0.1"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the console."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def most_upload(self) -> int:
        """Bytes of the largest upload that any address takes, but for a form's own."""
        return max(self.max_image_mib, self.max_zip_mib, self.payload_mib) * MIB

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.folder / 'console.db'}"

    @property
    def pictures_place(self) -> str:
        """The folder or s3:// address of kept pictures."""
        return self.pictures or str(self.folder / "pictures")


def read_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """Make the settings of flags (`given`, which come first), environment and `.env`. Raises SettingsInvalid, naming each."""
    try:
        return Settings(**(given or {}))
    except ValidationError as err:
        wrong = list(dict.fromkeys(_sentence(one, given or {}) for one in err.errors()))
        invalid = SettingsInvalid(f"{'; '.join(wrong)}; see the settings in docs/console.md")
        invalid.by_flag = any(one["loc"] and one["loc"][0] in (given or {}) for one in err.errors())
        raise invalid from err


def _sentence(wrong: Any, given: Mapping[str, Any]) -> str:
    """Say where a wrong setting was given, the number seen (other values may hold a password) and what is wanted."""
    said = wrong["msg"].removeprefix("Value error, ")
    if not wrong["loc"]:
        return str(said)
    name, *within = wrong["loc"]
    place = f"--{name.replace('_', '-')}" if name in given else f"{PREFIX}{name.upper()}"
    if name not in Settings.model_fields:
        return f"{place}: {said}"
    kind = Settings.model_fields[name].annotation
    if kind in (int, float, float | None):
        return f"{place} {str(wrong['input'])!r}: {_number(name)} wanted"
    if name == "servers":
        entry = f"entry {within[0] + 1}: " if within and isinstance(within[0], int) else ""
        field = str(within[1]) if len(within) > 1 else ""
        if wrong["type"] == "extra_forbidden":
            close = difflib.get_close_matches(field, ServerAddress.model_fields, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(ServerAddress.model_fields)}"
            return f"{place}: {entry}no such key {field}; {meant}"
        if wrong["type"] == "missing":
            return f"{place}: {entry}{field} is missing"
        if field == "url" or wrong["type"] in ("too_short", "model_type"):
            return f"{place}: {entry}address of a server wanted, such as http://127.0.0.1:8080, without a user or a query"
        return f"{place}: {entry}{f'{field}: ' if field else ''}{said}"
    return f"{place}: {said}"


def _number(name: str) -> str:
    """What a setting that is a number may be, in words."""
    field = Settings.model_fields[name]
    limits = {limit: getattr(one, limit) for one in field.metadata for limit in ("ge", "gt", "le") if hasattr(one, limit)}
    kind = "whole number" if field.annotation is int else "number"
    if "gt" in limits:
        return f"{kind} above {limits['gt']}"
    if "le" in limits:
        return f"{kind} from {limits['ge']} to {limits['le']}"
    return f"{kind} of at least {limits['ge']}"
