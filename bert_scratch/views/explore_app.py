"""The web application of `explore`: a few addresses behind a secret, closed to other sites."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from bert_scratch.config import InputError
from bert_scratch.extras import import_extra
from bert_scratch.views.embedding_map import MIN_LINES
from bert_scratch.views.explain_data import Json
from bert_scratch.views.explore_page import MAX_CHARACTERS, MAX_LINES, explore_page
from bert_scratch.views.explorer import Explorer

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 1 << 18
_HEADERS = {
    # In addition to the policy in each page itself.
    "Content-Security-Policy": "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Kind = TypeVar("Kind")


def explore_app(explorer: Explorer, secret: str) -> Flask:
    """Return the application, for a server that is reachable only from this machine.

    Args:
        explorer: answers the requests.
        secret: the first part of each address; requests without it get 403.

    Raises:
        InputError: if Flask is missing.
    """
    flask = import_extra("flask", "`explore`", "explore")
    http = import_extra("werkzeug.exceptions", "`explore`", "explore")
    app: Flask = flask.Flask(__name__, static_folder=None)
    # Checking the host name defeats sites whose name resolves to this machine (DNS rebinding).
    app.config |= {"MAX_CONTENT_LENGTH": MAX_REQUEST_BYTES, "TRUSTED_HOSTS": [HOST, "localhost"]}
    whole_page = explore_page([model.name for model in explorer.models])

    def check_secret() -> None:
        given = flask.request.path.split("/")[1]
        if not secrets.compare_digest(given.encode(), secret.encode()):
            raise http.Forbidden("the address lacks the secret; open the one explore printed")

    def page(number: int) -> str:
        found = explorer.page(number)
        if found is None:
            raise http.NotFound("this page is gone; look at the text again")
        return found

    def answering(answer: Callable[[Explorer, _Request], Json]) -> Callable[[], Json]:
        return lambda: answer(explorer, _Request(flask.request.get_json()))

    def refused(error: Any) -> tuple[str, int, dict[str, str]]:
        return f"{error.description}\n", error.code, {"Content-Type": "text/plain; charset=utf-8"}

    def unusable(error: InputError) -> tuple[str, int, dict[str, str]]:
        kind = http.RequestEntityTooLarge if isinstance(error, _TooLarge) else http.BadRequest
        return refused(kind(str(error)))

    def with_headers(response: Any) -> Any:
        response.headers.update(_HEADERS)
        return response

    app.before_request(check_secret)
    app.after_request(with_headers)
    app.register_error_handler(http.HTTPException, refused)
    app.register_error_handler(InputError, unusable)
    app.add_url_rule(f"/{secret}/", "start", lambda: whole_page)
    app.add_url_rule(f"/{secret}/page/<int:number>", "page", page)
    for name, answer in {"read": _read, "look": _look, "map": _map}.items():
        app.add_url_rule(f"/{secret}/{name}", name, answering(answer), methods=["POST"])
    return app


class _TooLarge(InputError):
    """A request holds more than the page may send."""


class _Request:
    """A request's JSON object, with checked access to its parts."""

    def __init__(self, values: Any) -> None:
        self._values = values if isinstance(values, dict) else {}

    def get(self, name: str, kind: type[Kind]) -> Kind:
        """Return a part, which must have the given type."""
        value = self._values.get(name)
        if not isinstance(value, kind):
            raise InputError(f"the request needs {name!r}, as {kind.__name__}")
        return value

    def text(self, name: str) -> str:
        """Return a text that is whole and not too long."""
        text = self._whole(name)
        if len(text) > MAX_CHARACTERS:
            raise _TooLarge(
                f"a text may have {MAX_CHARACTERS:,} characters; this one has {len(text):,}"
            )
        return text

    def lines(self, name: str) -> list[str]:
        """Return the non-blank lines; their number must be within the limits of a map."""
        lines = [line.strip() for line in self._whole(name).splitlines() if line.strip()]
        if len(lines) > MAX_LINES:
            raise _TooLarge(f"a map may have {MAX_LINES:,} lines; these are {len(lines):,}")
        if len(lines) < MIN_LINES:
            raise InputError(f"a map needs {MIN_LINES} lines or more; these are {len(lines)}")
        return lines

    def _whole(self, name: str) -> str:
        """Return a text without halves of surrogate pairs, which JSON can hold but UTF-8 cannot."""
        text = self.get(name, str)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"{name!r} holds half of a surrogate pair, which is not a character; remove it"
            )
        return text

    def numbers(self, name: str) -> list[list[int]]:
        """Return two lists of integers."""
        lists = self.get(name, list)
        are_numbers = len(lists) == 2 and all(
            isinstance(found, list) and all(type(number) is int for number in found)
            for found in lists
        )
        if not are_numbers:
            raise InputError(f"the request needs {name!r}, as two lists of whole numbers")
        return lists


def _read(explorer: Explorer, request: _Request) -> Json:
    return explorer.read(request.text("text"), request.text("pair"))


def _look(explorer: Explorer, request: _Request) -> Json:
    return explorer.look(request.text("text"), request.text("pair"), request.numbers("hidden"))


def _map(explorer: Explorer, request: _Request) -> Json:
    lines = request.lines("lines")
    return {"lines": lines} | explorer.map(lines, request.get("method", str))
