"""Whether the server of Weights & Biases can be used, found out without asking or waiting for anybody."""

import netrc
import os
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 4.0  # seconds


def has_key(server: str) -> bool:
    """Whether the environment or the netrc file holds a key for ``server`` (a URL), without asking anybody."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    hosts = {urlsplit(server).netloc, "api.wandb.ai"}
    for path in candidates:
        try:
            entries = netrc.netrc(str(path))
        except (OSError, netrc.NetrcParseError):
            continue
        if any((entries.authenticators(host) or ("", "", ""))[2] for host in hosts):
            return True
    return False


def reachable(server: str, timeout: float = CONNECT_TIMEOUT) -> bool:
    """Whether something listens at ``server`` (a URL), or at the proxy on the way to it, within ``timeout`` seconds."""
    parts = urlsplit(server)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    answered = threading.Event()

    def connect() -> None:
        try:
            with socket.create_connection((parts.hostname or "", port), timeout=timeout):
                answered.set()
        except OSError:
            pass

    # In a thread, because a name server that is away blocks for longer than any socket timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()
