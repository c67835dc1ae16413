"""Whether files of the network can be had: asked once and quickly, before anything waits."""

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException

LARGEST, LONGEST = 2**28, 60.0  # bytes and seconds of a download
PATIENCE = 3.0  # seconds, for the name of a host and then for its answer


def offline() -> bool:
    """Whether ``SEGIC_D2_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids downloads."""
    switches = (os.environ.get(name, "") for name in ("SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.lower() not in ("", "0", "false", "no", "off") for value in switches)


def unreachable(url: str) -> str:
    """Why a server cannot be reached, "" where it answers, whatever the answer: it may want a token
    that the real download has. It takes ``PATIENCE`` at most, also where names are not resolved."""
    if offline():
        return "SEGIC_D2_OFFLINE or HF_HUB_OFFLINE forbids the download"
    found = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=PATIENCE).close()
            found.append("")
        except urllib.error.HTTPError:
            found.append("")
        except (OSError, HTTPException, ValueError) as error:
            found.append(first_line(getattr(error, "reason", error)))

    asking = threading.Thread(target=ask, daemon=True)  # name servers keep no time-out of ours
    asking.start()
    asking.join(PATIENCE)
    return found[0] if found else f"no answer within {PATIENCE:g} s"


def is_web_address(path: object) -> bool:
    """Whether a path is a string that begins with http:// or https://."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def download(url: str) -> bytes:
    """What a web address holds. FileNotFoundError, naming it: it cannot be had, which shows within
    seconds, or is more than ``LARGEST``, or takes more than ``LONGEST``."""
    reason = unreachable(url)
    if not reason:
        # some ask for a name
        request = urllib.request.Request(url, headers={"User-Agent": "segic_d2"})
        try:
            with urllib.request.urlopen(request, timeout=3 * PATIENCE) as answer:
                data, end = bytearray(), time.monotonic() + LONGEST
                while part := answer.read1(1 << 20):
                    data += part
                    if len(data) > LARGEST:
                        raise ValueError(f"it has more than {LARGEST >> 20} MB")
                    if time.monotonic() > end:
                        raise ValueError(f"it takes more than {LONGEST:g} s")
                return bytes(data)
        except (OSError, HTTPException, ValueError) as error:
            reason = first_line(error)
    raise FileNotFoundError(f"{url} cannot be fetched: {reason}")


def cached_from_hub(repository: str, files: Sequence[str]) -> str:
    """The path of the first of some files of a Hugging Face repository that its cache on this
    machine holds, or ""."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, file) for file in files)
    return next((path for path in found if isinstance(path, str)), "")


def missing_on_hub(repository: str, files: Sequence[str]) -> str:
    """Why none of some files of a Hugging Face repository can be had; "" where one is in the cache
    or the hub answers."""
    from huggingface_hub import hf_hub_url

    if cached_from_hub(repository, files):
        return ""
    reason = unreachable(hf_hub_url(repository, files[0]))
    return reason and f"{repository} is not in the hub's cache; {reason}"


def first_line(error: object) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
