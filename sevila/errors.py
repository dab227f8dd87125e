"""What a user can mend: a wrong file, key, shape or number; and what the machine refused: space, memory, a file."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one clear line that names the thing, what is wrong and the remedy.

    Entry points print it as `sevila: error: MESSAGE` and leave with `exit_code`; nothing is half-written.
    """

    exit_code = 2


class MachineError(UserError):
    """The same for what is no user's fault, such as a disk that fails."""

    exit_code = 1


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_USERS_FAULT = (errno.EIO, errno.ESTALE)
MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "bad_alloc", "can't start new thread")
REMEDIES = {
    **dict.fromkeys(NO_SPACE, "make room or raise the limit"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit (ulimit -n) or lower frames.workers"),
    errno.ENOMEM: "give it more memory, or lower trainer.batch_size, frames.n, frames.workers or frames.cache_mb",
}
_RUST = re.compile(r"\(os error (\d+)\)")  # as safetensors ends its messages
_WORKER = re.compile(r"DataLoader worker \(pid")


def system_error(error: BaseException | None) -> OSError | None:
    """What the system refused where `error` comes of that: itself, or what a writer of tensors made of it."""
    if isinstance(error, OSError):
        return error
    if error is None or isinstance(error, UserError):  # said already
        return None
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(m in str(error) for m in MEMORY)):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    number = _RUST.search(str(error))
    if number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, RuntimeError | ImportError) and "Too many open files" in str(error):
        return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if "inline_container" in str(error) and isinstance(error.__context__, OSError):  # torch.save: "unexpected pos"
        return error.__context__
    return None


def machine_error(error: BaseException | None) -> UserError | None:
    """One line for what the machine refused; None for everything else, a fault of the program first of all."""
    if isinstance(error, RuntimeError) and _WORKER.search(str(error)):
        reason = " ".join(str(error).split())
        return UserError(f"{reason.rstrip('.')}: perhaps memory was short, then lower frames.workers")
    refused = system_error(error)
    if refused is None or refused.errno is None or isinstance(refused, ConnectionError):
        return None
    kind = MachineError if refused.errno in NO_USERS_FAULT else UserError
    what = os.fsdecode(refused.filename) if isinstance(refused.filename, str | bytes) else ""
    remedy = REMEDIES.get(refused.errno)
    reason = f"{what}: {refused.strerror}" if what else str(refused.strerror)
    return kind(f"{reason}; {remedy}" if remedy else reason)


def for_others(error: Exception) -> str:
    """What the other processes of a run say of an error of this one: its line; of a fault of the program its name."""
    told = error if isinstance(error, UserError) else machine_error(error)
    return str(told) if told is not None else f"another process failed: {type(error).__name__}: {reason(error)}"


def reason(error: BaseException) -> str:
    """What an error of another library says, in a line of at most 200 letters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def suggest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'X'?)` where a known word is close to `word`, otherwise nothing."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    if not close:  # a key given without its group
        close = [name for name in known if name.rpartition(".")[2] == word][:1]
    return f" (did you mean {close[0]!r}?)" if close else ""
