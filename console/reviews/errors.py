"""The review queue answers with these errors, beside those of `console.errors`.

ConsoleError
├── DatabaseUnusable    console.database_unusable: the console does not start with this database
├── DatabaseDown        console.database_down, 503
├── PicturesDown        console.pictures_down, 503: the place of pictures cannot be read or written
└── ReviewRefused       400
    ├── NothingWaits        console.nothing_waits, 404
    ├── ItemUnknown         console.item_unknown, 404
    ├── PictureGone         console.picture_gone, 410
    ├── PictureUnshown      console.picture_unshown, 415
    ├── ItemTaken           console.item_taken, 409: another person has it, or it has another label
    ├── NothingToUndo       console.nothing_to_undo, 409
    ├── LabelUnknown        console.label_unknown, 422
    └── EventUnreadable     console.event_unreadable, 400
"""

from console.errors import ConsoleError, RequestRefused, SettingsInvalid


class DatabaseUnusable(SettingsInvalid):
    """A database that cannot be opened, or that a newer version of the console has changed."""

    code = "console.database_unusable"


class DatabaseDown(ConsoleError):
    """The database does not answer."""

    code = "console.database_down"
    status = 503
    retry_after_s = 5


class PicturesDown(ConsoleError):
    """The place where pictures are kept cannot be read or written."""

    code = "console.pictures_down"
    status = 503
    retry_after_s = 5


class ReviewRefused(RequestRefused):
    """What a reviewer asked for cannot be done."""

    code = "console.review"


class NothingWaits(ReviewRefused):
    """No picture waits for this person."""

    code = "console.nothing_waits"
    status = 404


class ItemUnknown(ReviewRefused):
    """No item of the queue has this number."""

    code = "console.item_unknown"
    status = 404


class PictureGone(ReviewRefused):
    """The picture was deleted."""

    code = "console.picture_gone"
    status = 410


class PictureUnshown(ReviewRefused):
    """The picture cannot be decoded."""

    code = "console.picture_unshown"
    status = 415


class ItemTaken(ReviewRefused):
    """The item is not this person's now: its time was up and another person took it, or it has a label."""

    code = "console.item_taken"
    status = 409


class NothingToUndo(ReviewRefused):
    """This person has done nothing that can still be undone."""

    code = "console.nothing_to_undo"
    status = 409


class LabelUnknown(ReviewRefused):
    """The item's model has no such label."""

    code = "console.label_unknown"
    status = 422


class EventUnreadable(ReviewRefused):
    """A body that is no CloudEvent of a request or an answer."""

    code = "console.event_unreadable"
