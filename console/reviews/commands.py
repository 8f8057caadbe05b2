"""The review queue's commands, parts of `visor console` and of `python -m console`; their work is imported once they run."""

import argparse
import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
"""Declares a command: its name, what runs it, its description."""
ADD_S = 300.0
"""Seconds that the console may take for a picture, of which most may be spent in line."""
ASK = "is `visor console serve` running there?"
NO_CONSOLE = f"answers, but is no console; {ASK}"
"""What follows an address at which something else answers, such as the server that the console is in front of."""


def add_parts(add: Add) -> None:
    """Declare the commands."""
    _add_places(add("migrate", migrate, MIGRATE))
    exporting = add("export", export, EXPORT)
    exporting.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write into (required)")
    exporting.add_argument("--model", metavar="NAME", help="name of the model whose reviews are written (default: all models)")
    exporting.add_argument(
        "--prefix",
        metavar="TEXT",
        help="what stands before a picture's SHA-256 in tasks.json (default: where Label Studio serves FOLDER's local files)",
    )
    _add_places(exporting)
    erasing = add("erase", erase, ERASE)
    erasing.add_argument("pictures", nargs="*", metavar="PICTURE", help="file with the same bytes, or the picture's SHA-256")
    erasing.add_argument(
        "--older-than-days", type=_days, metavar="DAYS", help="delete also what came longer ago (default: no picture for its age)"
    )
    _add_places(erasing)
    adding = add("add", add_pictures, ADD)
    adding.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="encoded picture, as the server reads it")
    adding.add_argument(
        "--console", default="http://127.0.0.1:8090", metavar="URL", help="address of the console (default: %(default)s)"
    )
    adding.add_argument("--model", metavar="NAME", help="name of the model to ask (default: the console's only one)")
    adding.add_argument(
        "--key-file", type=Path, metavar="FILE", help="file whose first line is a key of scope review (default: no key is sent)"
    )


MIGRATE = (
    "Make the review queue's tables, or bring them to this version. Several processes may do so at once; `serve` does it, too."
)
EXPORT = (
    "Write labelled pictures: tasks.json, Label Studio's tasks, reviews.jsonl, of which `visor data from-reviews` "
    "makes a data set, and a folder of the pictures. Prints how many there are; reviewers are pseudonyms."
)
ERASE = (
    "Delete pictures of the review queue everywhere: file, digest, probabilities and heat map. Labels and decisions stay, for "
    "the figures. Prints how many pictures were deleted."
)
ADD = (
    "Ask a running console about pictures and put them into its review queue, whatever it answers. For those that `visor drift` "
    "calls unusual: they are shown to people in the order given."
)


def migrate(args: argparse.Namespace) -> int:
    """Make or change the tables."""
    from console.reviews.database import Database, shown

    database = Database.open(_settings(args).database_url)
    print(f"{shown(database.engine)} is of this version")  # noqa: T201
    database.close()
    return 0


def export(args: argparse.Namespace) -> int:
    """Write tasks and pictures."""
    from console.reviews.database import Database
    from console.reviews.export import write
    from console.reviews.pictures import open_pictures

    settings = _settings(args)
    database = Database.open(settings.database_url, make=False)
    written = write(database, open_pictures(settings.pictures_place), args.out, args.prefix, args.model)
    database.close()
    print(f"{written} labelled pictures in {args.out}")  # noqa: T201
    return 0


def erase(args: argparse.Namespace) -> int:
    """Delete pictures by name and by age."""
    from console.errors import ParameterInvalid
    from console.reviews import erasing
    from console.reviews.database import Database
    from console.reviews.pictures import digest_of, open_pictures

    settings = _settings(args)
    digests = []
    for named in args.pictures:
        if re.fullmatch("[0-9a-f]{64}", named):
            digests.append(named)
        elif Path(named).is_file():
            digests.append(digest_of(Path(named).read_bytes()))
        else:
            raise ParameterInvalid(f"{named} is no file and no SHA-256, which has 64 of the digits 0 to 9 and a to f")
    if not digests and args.older_than_days is None:
        raise ParameterInvalid("nothing is named; give pictures, or an age by --older-than-days")
    database, pictures = Database.open(settings.database_url, make=False), open_pictures(settings.pictures_place)
    erased = sum(erasing.erase(database, pictures, digest) for digest in digests)
    if args.older_than_days is not None:
        erased += erasing.erase_older(database, pictures, args.older_than_days)
    database.close()
    print(f"{erased} pictures deleted")  # noqa: T201
    return 0


def add_pictures(args: argparse.Namespace) -> int:
    """Send pictures to a console; 1 where one of them was not queued."""
    import orjson

    from console.errors import ParameterInvalid
    from handlers.errors import unread

    if not args.console.startswith(("http://", "https://")):
        raise ParameterInvalid(f"--console {args.console}: an address wanted, such as http://127.0.0.1:8090")
    headers = {"Content-Type": "application/octet-stream"}
    if args.key_file:
        try:
            headers["Authorization"] = f"Bearer {args.key_file.read_text().partition(chr(10))[0].strip()}"
        except (OSError, UnicodeDecodeError) as err:
            why = unread(err) if isinstance(err, OSError) else "is no text"
            raise ParameterInvalid(f"--key-file {args.key_file} {why}; name a file whose first line is a key") from err
    query = f"?{urllib.parse.urlencode({'model': args.model})}" if args.model else ""
    failed = 0
    for picture in args.pictures:
        try:
            content = picture.read_bytes()
        except OSError as err:
            why = "no such file" if isinstance(err, FileNotFoundError) else err.strerror or str(err)
            print(f"{picture}  cannot be read: {why}")  # noqa: T201
            failed += 1
            continue
        asked = urllib.request.Request(f"{args.console.rstrip('/')}/reviews/items{query}", content, headers)
        try:
            with urllib.request.urlopen(asked, timeout=ADD_S) as answer:
                said = orjson.loads(answer.read())
                outcome = f"{said['answer']['decision']}  {'queued' if said['queued'] else 'no room in the queue'}"
                failed += not said["queued"]
        except urllib.error.HTTPError as err:
            outcome, failed = _refusal(err, args.console), failed + 1
        except urllib.error.URLError as err:
            outcome, failed = f"{args.console} cannot be reached: {err.reason}; {ASK}", failed + 1
        except (http.client.HTTPException, ValueError, KeyError, TypeError):
            outcome, failed = f"{args.console} {NO_CONSOLE}", failed + 1
        except OSError as err:  # a connection that ends, or says nothing, while it is read
            outcome, failed = f"{args.console} does not answer: {err}; {ASK}", failed + 1
        print(f"{picture}  {outcome}")  # noqa: T201
    return 1 if failed else 0


def _refusal(err: urllib.error.HTTPError, address: str) -> str:
    """What a console refused, in its words; anybody else's answer is named as such."""
    import orjson

    try:
        said = orjson.loads(err.read())["error"]
        return f"{said['code']}: {said['message']}"
    except (ValueError, KeyError, TypeError, http.client.HTTPException, OSError):
        return f"{address} {NO_CONSOLE}"


def _add_places(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("folder", "folder of what the console keeps"),
        ("database", "SQLAlchemy URL of the database"),
        ("pictures-place", "folder or s3://BUCKET/PREFIX of pictures"),
    ):
        variable = f"VISOR_CONSOLE_{name.removesuffix('-place').upper()}"
        parser.add_argument(f"--{name}", metavar="PLACE", help=f"{what} (default: that of {variable}, as the console's own)")


def _settings(args: argparse.Namespace) -> Any:
    from console.settings import read_settings

    places = {"folder": args.folder, "database": args.database, "pictures": args.pictures_place}
    return read_settings({name: value for name, value in places.items() if value is not None})


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < 36500:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days above 0")
    return days
