"""Fetching from the Hugging Face Hub, into the cache that all of its libraries share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+?)(@(?P<revision>[\w./-]+))?")  # OWNER/NAME[@REVISION]
HUB_FAULTS = (OSError, ValueError, EntryNotFoundError, HTTPError)  # offline, no such repository, no right to it, ...


def fetch(place: str, patterns: Sequence[str]) -> Path:
    """The local folder that holds, all of one commit, the repository's files of these patterns.

    Raises one of HUB_FAULTS: without a connection (or with HF_HUB_OFFLINE=1) only what was fetched before is there.
    """
    match = HUB_ID.fullmatch(place)
    if match is None:
        raise ValueError("a repository of the Hub is named OWNER/NAME or OWNER/NAME@REVISION")
    try:
        return Path(
            huggingface_hub.snapshot_download(match["repo"], revision=match["revision"], allow_patterns=list(patterns))
        )
    except LocalEntryNotFoundError:
        why = " because HF_HUB_OFFLINE is set" if is_offline_mode() else ""
        raise LocalEntryNotFoundError(f"not in the cache, and the Hub cannot be reached{why}") from None
