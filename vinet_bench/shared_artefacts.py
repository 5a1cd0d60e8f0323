"""Networks and maps on storage that several machines and runs share: a bucket, a mounted folder."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from vinet_bench.artefacts import read_arrays, write_arrays
from vinet_bench.errors import StoreError, UserError

# A report reads them from the run's folder alone, wherever that is copied.
OF_THE_RUN = frozenset({"scores", "pictures", "gallery"})


class SharedArtefacts:
    """Arrays under an address that fsspec knows, e.g. s3://bucket/folder, gs://..., or a folder.

    Runs of the same settings find each other's: a key is a hash of all that determines the arrays.
    Raises UserError if there is no such kind of storage, or it cannot be reached.
    """

    def __init__(self, address: str) -> None:
        import fsspec  # here: a report, which needs none, would wait for it

        self.address = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
            self._files.exists(self._root)
        except Exception as error:  # a kind of storage has errors of its own
            raise UserError(f"--artefacts {address}: {_reason(error)}") from None

    def has(self, kind: str, key: str) -> bool:
        with self._reached():
            return bool(self._files.isfile(self._place(kind, key)))

    def load(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """The named arrays, or None if there are none or the file does not read."""
        place = self._place(kind, key)
        with self._reached(), TemporaryDirectory() as folder:
            copy = Path(folder) / Path(place).name
            try:
                self._files.get_file(place, str(copy))
            except FileNotFoundError:
                return None
            return read_arrays(copy, f"{self.address}/{kind}/{copy.name}")

    def save(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Stores named arrays, all of them or nothing. Raises StoreError."""
        place = self._place(kind, key)
        with self._reached(), TemporaryDirectory() as folder:
            copy = Path(folder) / Path(place).name
            write_arrays(copy, arrays)
            self._files.makedirs(f"{self._root}/{kind}", exist_ok=True)
            # A transaction: what is written comes to its place when it is whole.
            with (
                self._files.transaction,
                copy.open("rb") as whole,
                self._files.open(place, "wb") as file,
            ):
                shutil.copyfileobj(whole, file)

    def _place(self, kind: str, key: str) -> str:
        return f"{self._root}/{kind}/{key}.safetensors"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a kind of storage has errors of its own
            raise StoreError(
                f"--artefacts {self.address}: {_reason(error)}; what is done is kept: mend it and"
                " run the same command again"
            ) from None


def shared_at(address: str) -> SharedArtefacts | None:
    """None for no address. Raises UserError as SharedArtefacts."""
    return SharedArtefacts(address) if address else None


def _reason(error: Exception) -> str:
    """In one line, whatever storage said."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())
