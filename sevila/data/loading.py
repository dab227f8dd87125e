"""Worker processes that load ahead of the model, for one pass over the data or for a whole run."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing import active_children
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from sevila.data.store import Store
from sevila.errors import UserError, system_error


class Loadable(Protocol):
    """What can be loaded by key. Workers get it pickled or forked."""

    store: Store | None

    def load(self, key: Any) -> Any:
        """An item, with `stored` what the store knows of it."""
        ...


def stream(dataset: Loadable, workers: int, keys: Iterable[Any], pin: bool = False) -> Iterator[Any]:
    """What `Loader` gives for these keys, once; its workers end with the iterator, whatever happens."""
    with Loader(dataset, workers, pin) as loader:
        yield from loader(keys)


class Loader:
    """Loads items in worker processes that stay from the first pass over the data to `close`, with what they know of
    the videos and their caches.

    workers   0: items are loaded in between, by this process
    pin       tensors come in page-locked memory, from where they travel to a GPU while the host goes on

    A faulty record raises its own one-line UserError here also where a worker met it (a DataLoader would make a
    page of it). The workers leave SIGTERM to the main process, which may want to save something: schedulers send it to
    every process of a job. So whatever happens they must be ended by `close`, or a `with` block; they would outlive an
    exception, and the process would wait for them forever. While they start the signal waits, here and in them.
    A killed worker is a RuntimeError of torch's; but one that is killed in the microseconds in which it looks whether
    it shall end holds a lock that torch then waits for.
    """

    def __init__(self, dataset: Loadable, workers: int, pin: bool = False) -> None:
        self.dataset, self.workers = dataset, workers
        self._turn = _Turn()
        self._loader: Any = DataLoader(
            _Faults(dataset),
            batch_size=None,  # a key is a whole item's
            sampler=self._turn,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            generator=torch.Generator(),  # its own: nothing is drawn from the global one
            worker_init_fn=ignore_sigterm,
        )

    def __call__(self, keys: Iterable[Any]) -> Iterator[Any]:
        """The items of these keys, in their order; one pass at a time. Of many keys a few are taken ahead."""
        self._turn.keys = keys
        self._flush()  # what the last pass added to the store is found in this one
        try:
            for item in self._begin():
                if isinstance(item, Exception):
                    raise item
                yield _with_store(item, self.dataset.store)
        finally:
            self._flush()

    def close(self) -> None:
        """End the workers."""
        if self._loader._iterator is not None:  # torch has no public way
            self._loader._iterator._shutdown_workers()
            self._loader._iterator = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> Iterator[Any]:
        others, mask = set(active_children()), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return iter(self._loader)
        except BaseException:  # some may have started; nobody else would end them
            for worker in set(active_children()) - others:
                worker.kill()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _flush(self) -> None:
        if self.dataset.store is not None:
            self.dataset.store.flush()


def _with_store(item: Any, store: Store | None) -> Any:
    """An item that may come from a worker, with this process's own store: its count of bytes, its warnings."""
    return item if item.stored is None else replace(item, stored=replace(item.stored, store=store))


def ignore_sigterm(worker: int) -> None:
    """The `worker_init_fn` of a `Loader`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Turn:
    """The keys of the next pass, as a DataLoader asks for them."""

    keys: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


class _Faults(Dataset[Any]):
    """A dataset that hands over exceptions instead of raising them in a worker."""

    def __init__(self, dataset: Loadable) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset.load(key)
        except UserError as error:
            return UserError(str(error))
        except Exception as error:
            refused = system_error(error)
            if refused is not None and refused.errno is not None:  # by the machine: to be told in a line
                return OSError(refused.errno, refused.strerror, refused.filename)
            return RuntimeError(traceback.format_exc())  # a bug: the main process shall show where
