"""Downloads pinned files once, and keeps them under their hash."""

import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tagger.config.schema import DataConfig
from tagger.data.readers import ENDINGS, SUFFIXES
from tagger.errors import UserError
from tagger.files import replacing, sha256_of

TIMEOUT_SECONDS = 30.0


def download(data: DataConfig) -> Path:
    """Return the local copy of a pinned file, fetched if there is none or it is damaged.

    The copy lies in $TAGGER_CACHE, or ~/.cache/tagger, under its hash. Nothing is kept that does
    not have the hash that the config asks for.

    Raises:
        UserError: when the file cannot be fetched, or is another one than was pinned.
    """
    assert data.url is not None and data.sha256 is not None  # the config's own check
    name = _file_name(data.url)
    cache = Path(os.environ.get("TAGGER_CACHE") or "~/.cache/tagger").expanduser()
    path = cache / data.sha256 / name
    if path.is_file() and sha256_of(path) == data.sha256:
        return path
    hint = f"If you have a copy of the file: data=file data.name={data.name} data.path=PATH/{name}"
    with replacing(path) as temporary:
        try:
            with (
                urllib.request.urlopen(data.url, timeout=TIMEOUT_SECONDS) as response,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(response, file)
        # What the disk refuses is an OSError too, and is not the network's fault.
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            UnicodeError,
        ) as error:
            raise UserError(
                f"{data.url} cannot be downloaded: {error}", hint=f"Is there a network? {hint}"
            ) from None
        found = sha256_of(temporary)
        if found != data.sha256:
            raise UserError(
                f"{data.url} is not the file that was pinned; nothing was kept",
                [f"found    sha256 {found}", f"expected sha256 {data.sha256}"],
                f"It has changed, broke off, or something else answered. {hint}",
            )
    return path


def _file_name(url: str) -> str:
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise UserError(f"data.url={url} is no address: {error}") from None
    name = PurePosixPath(unquote(address.path)).name
    if address.scheme not in ("http", "https") or not name.lower().endswith(SUFFIXES):
        raise UserError(
            f"data.url={url}: expected http:// or https:// and a file that ends in one of {ENDINGS}"
        )
    return name
