"""visor takes a folder of images to a served classifier. From Python:

    model = visor.load("roofs.mar", public_key="keys/visor.pub")    an archive, in this process
    server = visor.Client("http://127.0.0.1:8080")                  a server, over REST or gRPC
    answer = model.predict("roof.jpg", explain=True)                the same of both
    data = visor.explore("roofs/")                                  a folder of images, looked at before training
    run = visor.train("roofs.yaml")                                 a config to a run, and `run.archive()` to an archive

docs/python.md has it all. The command `visor` does the same; each of its commands is one module over the packages.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archives.errors import ArchiveRefused as ArchiveRefused
    from archives.errors import ArchiveUnexpected as ArchiveUnexpected
    from archives.errors import KeyFileError as KeyFileError
    from archives.errors import StoreError as StoreError
    from drawing.heatmap import HeatMap as HeatMap
    from handlers.errors import ArchiveBroken as ArchiveBroken
    from handlers.errors import ImageError as ImageError
    from handlers.errors import OptionError as OptionError
    from handlers.errors import VisorError as VisorError
    from training.errors import ConfigError as ConfigError
    from training.errors import DataError as DataError
    from training.errors import RunError as RunError
    from visor.answers import Answer as Answer
    from visor.answers import Decision as Decision
    from visor.client import Client as Client
    from visor.data import DataSet as DataSet
    from visor.data import explore as explore
    from visor.errors import AnswerInvalid as AnswerInvalid
    from visor.errors import ClientError as ClientError
    from visor.errors import ImageUnreadable as ImageUnreadable
    from visor.errors import NoHeatMap as NoHeatMap
    from visor.model import Model as Model
    from visor.model import load as load
    from visor.pictures import Picture as Picture
    from visor.runs import Run as Run
    from visor.runs import train as train

# Where each name is, which is imported when it is first used: neither the command line nor a client needs them all.
_PLACES = {
    "drawing.heatmap": ("HeatMap",),
    "visor.answers": ("Answer", "Decision"),
    "visor.client": ("Client",),
    "visor.data": ("DataSet", "explore"),
    "visor.model": ("Model", "load"),
    "visor.pictures": ("Picture",),
    "visor.runs": ("Run", "train"),
    "handlers.errors": ("ArchiveBroken", "ImageError", "OptionError", "VisorError"),
    "archives.errors": ("ArchiveRefused", "ArchiveUnexpected", "KeyFileError", "StoreError"),
    "training.errors": ("ConfigError", "DataError", "RunError"),
    "visor.errors": ("AnswerInvalid", "ClientError", "ImageUnreadable", "NoHeatMap"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


if not TYPE_CHECKING:  # to a type checker, what is not above is not there

    def __getattr__(name: str) -> Any:
        if name not in _PLACE_OF:
            raise AttributeError(f"module 'visor' has no attribute {name!r}")
        return getattr(importlib.import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | _PLACE_OF.keys())
