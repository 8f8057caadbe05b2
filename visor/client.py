"""A V2 server, asked over REST or gRPC."""

import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from handlers.arrays import UInt8
from handlers.errors import VisorError
from visor.answers import Answer, Answering, Question
from visor.connection import Access, Address, check_headers, check_token, connect, mistaken, read_token
from visor.errors import ClientError
from visor.paths import path_of
from visor.pictures import Picture, read
from visor.responses import answer_of, image_error, labels_of, only_model, reading_answer
from visor.threads import in_lasting_thread

URL = "http://127.0.0.1:8080"
# The edge spreads a request's images over its workers; more of them in one request only make it larger.
CHUNK = 8
CHUNK_BYTES = 16 << 20
"""Bytes of pictures from which on a request is full; a server takes 64 MiB, in base64 or not."""
REDIRECTS = ("301", "302", "307", "308")
UNREADABLE = "client while decoding the response"
"""What tritonclient says of an answer that is not JSON."""


@dataclass(frozen=True)
class _Read:
    """A picture as it is sent. `content`: encoded bytes, or pixels, (h, w, 3) uint8."""

    source: Picture
    content: bytes | UInt8


class _Connection(threading.local):
    """A thread's own connection, made when the thread first asks. `client`: tritonclient's; `make_input`: its inputs' class."""

    def __init__(self, connect: Callable[[], tuple[Any, Any]]) -> None:
        self.client, self.make_input = connect()


class Client(Answering):
    """A client of one model on a V2 server, which may be closed by `with`, and asked by several threads at once."""

    def __init__(
        self,
        url: str = URL,
        *,
        model: str | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        cacert: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Prepare a connection, which the first question makes.

        `url`: http:// or https:// for REST, behind a path if need be, grpc:// or grpcs:// for gRPC. `model`: its name, None for
        the one that `url` names (.../v2/models/NAME), else the server's only one. `token`: a bearer token, by default the first
        line of `token_file`, else the environment's VISOR_TOKEN. `headers`: sent along, over gRPC as metadata; `host` names the
        server to a gateway that serves several. `cacert`: the authorities that may vouch for the server, None for the system's;
        `cert`, `key`: the client's own
        certificate and its key, PEM files. Raises ClientError.
        """
        address = Address.parse(url)
        if model is not None and not isinstance(model, str):
            raise ClientError(f"model must be a name, got {model!r}")
        if model and address.model not in {None, model}:
            raise ClientError(f"URL {url!r} names another model than {model!r}; leave out what begins with /v2")
        if token is None:
            token = read_token(_path(token_file, "token_file"))
        token = check_token(token, "of `token`")
        access = Access(_path(cacert, "cacert"), _path(cert, "cert"), _path(key, "key"), token)
        sent = check_headers({} if headers is None else headers)
        access.check(address, sent)
        self._url, self._address = url, address
        self._open = True
        self._clients: list[Any] = []

        def open_one() -> tuple[Any, Any]:
            connected = connect(address, access, sent)
            self._clients.append(connected[0])
            return connected

        self._own: _Connection = in_lasting_thread(lambda: _Connection(open_one))
        self._name = address.model if model is None else model
        self._known_labels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"<visor.Client {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        self._open = False
        in_lasting_thread(lambda: [client.close() for client in self._clients])

    @property
    def name(self) -> str:
        """The model's name: the one that was given, else the server's only one. Raises ClientError."""
        if self._name is None:
            with self._reaching():
                self._name = in_lasting_thread(lambda: only_model(self._own.client))
        return self._name

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels in the order of the probabilities. Raises ClientError."""
        name = self.name
        if self._known_labels is None:
            with self._reaching(), reading_answer():
                self._known_labels = in_lasting_thread(lambda: labels_of(self._own.client, name))
        return self._known_labels

    def ask(self, pictures: Iterable[Picture], question: Question) -> Iterator[Answer]:
        """See Answering.ask. Raises ClientError when the server cannot be asked, AnswerInvalid when it does not speak V2."""
        waiting: list[_Read] = []
        for picture in pictures:
            one: _Read | Answer
            try:
                one = _Read(picture, read(picture))
            except VisorError as err:
                one = Answer(error=err, source=picture)
            if isinstance(one, _Read) and isinstance(one.content, bytes):
                size = sum(len(each.content) for each in waiting) + len(one.content)
                if waiting and (len(waiting) == CHUNK or size > CHUNK_BYTES):
                    yield from self._infer(waiting, question)
                    waiting = []
                waiting.append(one)
            else:
                yield from self._infer(waiting, question)
                waiting = []
                yield from [one] if isinstance(one, Answer) else self._infer([one], question)
        yield from self._infer(waiting, question)

    def _infer(self, pictures: Sequence[_Read], question: Question) -> list[Answer]:
        """Ask about pictures in one request; each that fails has its own error, with the server's sentence."""
        from tritonclient.utils import InferenceServerException

        if not pictures:
            return []
        name = self.name
        parameters: dict[str, Any] = {"explain": question.explain}
        parameters |= {} if question.threshold is None else {"threshold": question.threshold}
        parameters |= {} if question.group is None else {"group": question.group}
        with self._reaching():
            try:
                with reading_answer():
                    # No output is named, so that a server older than some of them answers with those that it has.
                    result = in_lasting_thread(
                        lambda: self._own.client.infer(name, [self._tensor(pictures)], parameters=parameters)
                    )
                    by_label = ("probabilities", "prediction_set")
                    labels = () if all(result.as_numpy(each) is None for each in by_label) else self.labels
                    answers = [answer_of(result, n, labels, name) for n in range(len(pictures))]
            except InferenceServerException as err:
                # Every picture of this request is bad: the server says so as one error.
                refusal = image_error(err.message() or "")
                if refusal is None:
                    raise
                answers = [Answer(error=refusal, model=name)] * len(pictures)
                if len(pictures) == 1:
                    return [replace(answers[0], source=pictures[0].source)]
        told = zip(answers, pictures, strict=True)
        return [
            # Beside others, or for others, only its code is told: alone, it gets its sentence.
            self._infer([one], question)[0]
            if len(pictures) > 1 and answer.error and not answer.decision
            else replace(answer, source=one.source)
            for answer, one in told
        ]

    def _tensor(self, pictures: Sequence[_Read]) -> Any:
        [first, *_] = pictures
        if isinstance(first.content, bytes):
            tensor = self._own.make_input("image", [len(pictures)], "BYTES")
            tensor.set_data_from_numpy(np.array([one.content for one in pictures], dtype=np.object_))
            return tensor
        tensor = self._own.make_input("pixels", [1, *first.content.shape], "UINT8")
        tensor.set_data_from_numpy(first.content[None])
        return tensor

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Raise ClientError for whatever keeps a server from answering."""
        from geventhttpclient.response import HTTPParseError
        from tritonclient.utils import InferenceServerException

        url, address = self._url, self._address
        closed = f"the client of {url} is closed; make another one"
        if not self._open:
            raise ClientError(closed)
        try:
            yield
        except RuntimeError as err:  # of a connection that another thread has closed meanwhile
            if self._open:
                raise
            raise ClientError(closed) from err
        except InferenceServerException as err:
            if err.status() in REDIRECTS:
                raise ClientError(f"{url} redirects ({err.status()}); ask the address that it leads to, often https://") from err
            if UNREADABLE in (err.message() or ""):
                sentence = f"{url} answers what is no Open Inference Protocol (V2); is it the address of `visor serve`?"
                raise ClientError(sentence) from err
            added = "; /v2 is added to it, so leave that out" if err.status() == "404" and "v2" in address.path.split("/") else ""
            raise ClientError(mistaken(address, err.message() or "") or f"{url}: {err.message()}{added}") from err
        except ssl.SSLCertVerificationError as err:
            sentence = f"{url} has a certificate that is not trusted: {err.verify_message}; name its authority by --cacert"
            raise ClientError(sentence) from err
        except ssl.SSLError as err:
            sentence = f"{url}: TLS failed: {err}; the server may ask for a certificate (--cert), or speak no TLS (http://)"
            raise ClientError(mistaken(address, str(err)) or sentence) from err
        except HTTPParseError as err:
            raise ClientError(mistaken(address, str(err)) or f"{url} answered nothing that is HTTP: {err}") from err
        except OSError as err:
            raise ClientError(f"{url} does not answer: {err}; is `visor serve` running?") from err


def _path(path: str | os.PathLike[str] | None, what: str) -> Path | None:
    return None if path is None else path_of(path, what, ClientError)
