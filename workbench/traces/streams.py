"""Streams: from whatever bytes a trace arrives in to plain bytes, with a look at the head.

    source ──▶ magic bytes ──▶ decompressor (zstd, gzip, lz4, bz2, xz) ──▶ PlainStream ──▶ reader
                                                                             │ head, last byte

Compression is told by magic bytes, never by the file's name. A compressed stream that ends
early, or does not decode, becomes an error that names the file; a failure of the source itself
(a disk error) passes through unchanged. This module does not interpret what it reads.
"""

from __future__ import annotations

import codecs
import io
import lzma
from typing import TYPE_CHECKING, BinaryIO, Final

import pyarrow as pa

from workbench.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES: Final = 1 << 16
PARQUET_MAGIC: Final = b"PAR1"
# A Parquet file that cannot be read in place (compressed, or from a pipe) is held in memory.
IN_MEMORY_BYTES_MAX: Final = 4 << 30
# An xz file says how much memory decoding takes; `xz -9` asks for 65 MiB.
XZ_MEMORY_BYTES_MAX: Final = 1 << 30
_READ_BYTES: Final = 1 << 20
_TEXT_BYTES: Final = 1 << 10
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"

_CODECS: Final = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"BZh", "bz2"),
    (_XZ_MAGIC, "xz"),
)
_KNOWN: Final = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"ARROW1", "an Arrow IPC file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PARE", "an encrypted Parquet file"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


class PlainStream(io.RawIOBase):
    """The decompressed bytes of a trace; readable once, from the start.

    Attributes:
        head: The first HEAD_BYTES, read ahead; reading starts with them.
        last_byte: The last byte that was read; empty before the first.
        compression: Name of the codec, or `none`.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._name = name
        raw = _read_up_to(source, HEAD_BYTES)
        self.compression = _codec(raw)
        self._inner: BinaryIO = _Joined(raw, source)  # type: ignore[assignment]
        if self.compression == "xz":
            self._inner = _Xz(self._inner)  # type: ignore[assignment]
        elif self.compression != "none":
            self._inner = pa.CompressedInputStream(
                pa.PythonFile(self._inner, mode="r"), self.compression
            )
        self.last_byte = b""
        self._ahead = b""
        self.head = b""
        self.head = self._ahead = _read_up_to(self, HEAD_BYTES)

    def readable(self) -> bool:
        """Return True: this stream is for reading."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` from what was read ahead, then from the source.

        Raises:
            InvalidInput: the compressed stream ends early, does not decode, or asks for too much
                memory.
        """
        view = memoryview(buffer)
        if self._ahead:
            data, self._ahead = self._ahead[: len(view)], self._ahead[len(view) :]
        else:
            data = self._decompressed(len(view))
        view[: len(data)] = data
        if data:
            self.last_byte = data[-1:]
        return len(data)

    def _decompressed(self, length: int) -> bytes:
        try:
            return bytes(self._inner.read(length) or b"")
        except OSError as error:
            # Arrow reports decoding failures as OSError without errno; those with one are real.
            if error.errno is not None:
                raise
            if "Truncated" in str(error):
                raise self._ends_early() from error
            raise self._damaged() from error
        except EOFError as error:
            raise self._ends_early() from error
        except lzma.LZMAError as error:
            if "Memory usage limit" in str(error):
                raise InvalidInput(
                    f"trace {self._name!r} needs more than {XZ_MEMORY_BYTES_MAX} bytes of memory "
                    "to unpack",
                    code="trace_too_large",
                    hint="unpack the file first, or compress it with `xz -9` or less",
                ) from error
            raise self._damaged() from error

    def _ends_early(self) -> InvalidInput:
        return truncated(self._name, f"its {self.compression} stream ends early")

    def _damaged(self) -> InvalidInput:
        return InvalidInput(
            f"trace {self._name!r} is damaged: its {self.compression} stream does not decode",
            code="trace_damaged",
            hint="fetch or write the file again",
        )


class _Joined(io.RawIOBase):
    """Bytes that were read ahead, followed by the rest of their source."""

    def __init__(self, ahead: bytes, rest: BinaryIO) -> None:
        self._ahead = ahead
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        if self._ahead:
            data, self._ahead = self._ahead[: len(view)], self._ahead[len(view) :]
        else:
            data = self._rest.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)


class _Xz(io.RawIOBase):
    """The plain bytes of one or more xz streams, which Arrow does not read.

    The standard library's LZMAFile passes over rubbish after the first stream; here it is an
    error. Between and after streams there may be zero bytes, in multiples of four.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._next = b""
        self._decoder = _xz_decoder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer`.

        Raises:
            EOFError: the packed bytes end inside a stream.
            lzma.LZMAError: they do not decode, or ask for too much memory.
        """
        view = memoryview(buffer)
        while True:
            if self._decoder.eof and not self._has_next_stream():
                return 0
            packed = b""
            if self._decoder.needs_input:
                packed = self._next or self._packed.read(_READ_BYTES)
                self._next = b""
                if not packed:
                    raise EOFError
            if data := self._decoder.decompress(packed, len(view)):
                view[: len(data)] = data
                return len(data)

    def _has_next_stream(self) -> bool:
        """Pass over padding; take up the stream behind it, or tell that there is none."""
        padding_bytes = 0
        packed = self._decoder.unused_data or self._packed.read(_READ_BYTES)
        while packed:
            self._next = packed.lstrip(b"\0")
            padding_bytes += len(packed) - len(self._next)
            if self._next:
                break
            packed = self._packed.read(_READ_BYTES)
        if padding_bytes % 4:
            raise lzma.LZMAError("padding is no multiple of four bytes")
        if not self._next:
            return False
        # A decoder waits for a whole header before it looks at the first byte.
        if not _XZ_MAGIC.startswith(self._next[: len(_XZ_MAGIC)]):
            raise lzma.LZMAError("what follows a stream is no stream")
        self._decoder = _xz_decoder()
        return True


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES_MAX)


def _codec(head: bytes) -> str:
    """Return by which codec a file with these first bytes is compressed, or `none`.

    A file that ends inside the magic bytes is a compressed one that was cut.
    """
    for magic, codec in _CODECS:
        if head.startswith(magic) or (len(head) > 1 and magic.startswith(head)):
            return codec
    return "none"


def truncated(name: str, how: str) -> InvalidInput:
    """Return the error for a file that was cut; `how` says by what it was noticed."""
    return InvalidInput(
        f"trace {name!r} is cut off: {how}",
        code="trace_truncated",
        hint="copy or download the whole file again",
    )


def read_whole(stream: PlainStream, name: str) -> bytes:
    """Return all bytes of `stream`, or raise InvalidInput where they exceed the limit."""
    parts: list[bytes] = []
    left = IN_MEMORY_BYTES_MAX
    while part := stream.read(_READ_BYTES):
        left -= len(part)
        if left < 0:
            raise InvalidInput(
                f"trace {name!r} unpacks to more than {IN_MEMORY_BYTES_MAX} bytes",
                code="trace_too_large",
                hint="unpack the Parquet file first, it is then read in place",
            )
        parts.append(part)
    return b"".join(parts)


def describe_bytes(head: bytes) -> str:
    """Return what the first bytes of a file look like, in words, safe to print."""
    for magic, what in _KNOWN:
        if head.startswith(magic):
            return what
    line = head.split(b"\n", 1)[0].strip()[:48]
    if line and all(0x20 <= byte <= 0x7E or byte == 0x09 for byte in line):
        shown = ascii(line.decode("ascii"))
        if line[:1] in {b"{", b"["}:
            return f"JSON, {shown}"
        return f"text without a known header, {shown}"
    return f"binary data, 0x{head[:8].hex()}"


def is_text(head: bytes) -> bool:
    """Tell whether the first bytes of a file are UTF-8 text without control characters."""
    sample = head[:_TEXT_BYTES]
    if any(byte < 0x20 and byte not in b"\t\r\n" for byte in sample):
        return False
    try:
        # The last character of a sample may be cut, that of a file may not.
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=sample == head)
    except UnicodeDecodeError:
        return False
    return True


def _read_up_to(source: io.RawIOBase | BinaryIO, length: int) -> bytes:
    """Return the next `length` bytes, fewer only at the end; raw streams answer in part."""
    parts: list[bytes] = []
    while length > 0 and (part := source.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
