"""Removal of secrets from URLs: every address that is printed, logged or stored goes through here.

    without_secrets("http://me:pass@host/x?token=abc")   # "http://host/x?token=***"
    without_secrets("no answer from http://me:pass@host")  # "no answer from http://host"

People type passwords unescaped, with `/`, `@`, quotes and spaces, so a URL parser cannot find where
one ends. When in doubt this removes too much: everything between the scheme and the last `@`, and
every query value whose name is not known to be harmless.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
HARMLESS = {
    "cache",
    "charset",
    "check_same_thread",
    "connect_timeout",
    "database",
    "db",
    "driver",
    "encoding",
    "endpoint_url",
    "experiments",
    "format",
    "lang",
    "limit",
    "mode",
    "offset",
    "page",
    "partnumber",
    "region",
    "runs",
    "schema",
    "service",
    "sort",
    "sslmode",
    "tab",
    "timeout",
    "tz",
    "version",
    "versionid",
}
"""Query parameters whose values are shown."""
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]{0,40}:\\?/\\?/"  # JSON may write `http:\/\/`
_NEXT = rf"(?<=[\s\"'`,;(<\[|=]){_SCHEME}"  # elsewhere `://` may belong to a password
_URL = re.compile(rf"({_SCHEME})((?:(?!{_NEXT})[^\r\n])*)")
_WHOLE = re.compile(rf"({_SCHEME})(.*)", re.DOTALL)
_PAIR = re.compile(r"""([?&;#])([^=&;#?\s"'<>]*)=([^&;#\s"'<>]*)""")
_WHOLE_PAIR = re.compile(r"([?&;#])([^=&;#?]*)=([^&;#]*)")
_BARE = re.compile(r"""\?([^=&;#\s"'<>.,:!?)\]}]+)(?=[#\s"'<>]|$)""")
_ENCODED = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,40}%3A%2F%2F)\S{0,1000}%40", re.IGNORECASE)
_HOST = re.compile(r"\[[0-9A-Fa-f:.]*\]|[\w\-]+(\.[\w\-]+)+(?=:)|localhost(?=:)")
_PORT = re.compile(r"\d{1,5}(?=[\s\"'`,;.)\]}]|$)")
_PORT_AND_PATH = re.compile(r":\d{1,5}\\?[/?#]|[/?#]|$")
_NO_SCHEME = re.compile(r"[^/?#@:\s]+:[^/@\s]+@[\w.\-\[]")


def without_secrets(text: str) -> str:
    """Remove users, passwords and tokens from every URL in a text.

    Args:
        text: any text; one without whitespace may be a single URL, which ends where the text does.
    """
    if not re.search(r"\s", text) and (url := _WHOLE.fullmatch(text)):
        return _address(url)
    text = _ENCODED.sub(r"\1", text)
    return _URL.sub(lambda url: url[1] + _rest(url[2], url[1], whole=False), text)


def redacted(value: Any) -> Any:
    """Remove secrets from JSON values; a string that begins as a URL is one, even with spaces."""
    if isinstance(value, str):
        url = _WHOLE.fullmatch(value)
        return without_secrets(value) if url is None else _address(url)
    if isinstance(value, dict):
        return {key: redacted(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(member) for member in value]
    return value


def holds_secret(value: Any) -> bool:
    """Whether a setting's value is or contains a URL with a user, a password or a token."""
    if isinstance(value, dict):
        return any(map(holds_secret, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_secret, value))
    return bool(redacted(value) != value)


def public(url: str) -> str:
    """Return the address of a server unchanged if it holds no secret.

    Raises:
        ValueError: it holds a secret; the message says where that belongs.
    """
    if holds_secret(url) or _NO_SCHEME.match(url):
        raise ValueError(
            "the address holds a user, a password or a token, which would be stored with every"
            " run: leave it out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " MLFLOW_TRACKING_TOKEN (for a PostgreSQL database PGPASSWORD)"
        )
    return url


def _address(url: re.Match[str]) -> str:
    return _ENCODED.sub(r"\1", url[1] + _rest(url[2], url[1], whole=True))


def _rest(rest: str, scheme: str, *, whole: bool) -> str:
    """Redact everything after the scheme."""
    rest = rest[_user_length(rest, whole=whole) :]
    if scheme.lower().startswith(("http", "ws:", "wss:")):
        rest = _BARE.sub(f"?{HIDDEN}", rest)
    return (_WHOLE_PAIR if whole else _PAIR).sub(_hidden, rest)


def _user_length(rest: str, *, whole: bool) -> int:
    """Count the characters of user and password after the scheme, including `@`."""
    user = re.match(r"[^/?#\s@:\\]*:" if not whole else r"[^/?#@:\\]*:", rest)
    host = _HOST.match(rest)
    if host and (port := _PORT_AND_PATH.match(rest, host.end())):
        end = re.match(r".*" if whole else r"\S*", rest[port.end() :], re.DOTALL)
        behind = 0 if end is None or host[0].startswith("[") else port.end() + end.end()
        return rest.rfind("@", 0, behind) + 1  # a password of digits and a slash
    if user is None:  # a user or token without a password ends before the path
        token = re.match(r"[^/?#\s\\]*@", rest)
        return token.end() if token else 0
    if not whole and (_PORT.match(rest, user.end()) or not rest[user.end() :].strip()):
        return 0
    return rest.rfind("@") + 1


def _hidden(pair: re.Match[str]) -> str:
    separator, name, value = pair.groups()
    nested = unquote(value)
    is_safe = name.lower() in HARMLESS and (
        "://" not in nested or without_secrets(nested) == nested
    )
    return pair[0] if is_safe or not value else f"{separator}{name}={HIDDEN}"
