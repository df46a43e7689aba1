"""Whether the Hub can be reached, asked once: its library tries each file for minutes before it says no."""

import logging
import socket
import sys
import threading
import time
import urllib.request
from urllib.parse import SplitResult, urlsplit

from huggingface_hub import constants

logger = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds for one connection
_TRUST = 60.0  # seconds for which an answer holds
_PORTS = {"https": 443, "http": 80}
_last: dict[str, tuple[float, str]] = {}  # address -> when it was asked, and why it could not be reached
_switched: list[bool] = []  # holds an entry while it is we who switched the library to offline
_told: list[bool] = []  # holds an entry once it was said, until the Hub answers again


def reach_hub(tell: bool = True) -> str:
    """Asks whether the Hub (`HF_ENDPOINT`) takes connections; if not, its library reads what was downloaded before.

    Nothing is asked where the user has switched to offline (`HF_HUB_OFFLINE`). The library is switched back as soon as
    the Hub answers again.

    Args:
        tell: Whether the log says, once, that it cannot be reached; False where an error will say it.

    Returns:
        Why it cannot be reached, in words; "" if it can, or if the user works offline.
    """
    if constants.HF_HUB_OFFLINE and not _switched:
        return ""
    address, now = constants.ENDPOINT, time.monotonic()
    asked, reason = _last.get(address, (-_TRUST, ""))
    if now - asked >= _TRUST:
        reason = _connect(urlsplit(address))
        _last[address] = now, reason
        _switch(bool(reason))
    if not reason:
        _told.clear()
    elif tell and not _told:
        logger.warning("%s; only what was downloaded before can be read", reason)
        _told.append(True)
    return reason


def _switch(offline: bool) -> None:
    constants.HF_HUB_OFFLINE = offline
    datasets = sys.modules.get("datasets")
    if datasets is not None:  # it keeps a copy
        datasets.config.HF_HUB_OFFLINE = datasets.config.HF_DATASETS_OFFLINE = offline
    _switched[:] = [True] if offline else []


def _connect(hub: SplitResult) -> str:
    """Returns why no connection can be made; a name that is looked up for too long counts as unknown."""
    proxy = urllib.request.getproxies().get(hub.scheme)
    through = proxy if proxy and not urllib.request.proxy_bypass(hub.hostname or "") else ""
    where = urlsplit(through if "//" in through else f"http://{through}") if through else hub
    answers: list[str] = []

    def ask() -> None:
        try:
            port = where.port or _PORTS.get(where.scheme, 443)
            socket.create_connection((where.hostname or "", port), timeout=_PATIENCE).close()
            answers.append("")
        except (OSError, ValueError) as error:
            answers.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE + 1)
    said = answers[0] if answers else "no answer"
    by = f" by the proxy {where.hostname}" if through else ""
    return f"the Hub ({hub.geturl()}) cannot be reached{by}: {said}" if said else ""
