"""Reads gzip files in large pieces, so that several threads can unpack at the same time. The data check uses it."""

import gzip
import zlib
from typing import BinaryIO

PIECE = 2**18  # compressed bytes read at once


class GzipReader:
    """Reads the same bytes as `gzip.open`, and raises the same errors.

    The standard library reads 8 KiB at a time and takes the interpreter's lock after each, so that only one thread
    makes progress. With this class two threads take half the time of one. As the format allows, a file may consist of
    several members, and zeros may follow the last one.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.member = zlib.decompressobj(31)
        self.packed = b""

    def read(self, count: int) -> bytes:
        """Returns `count` bytes, or fewer at the end of the file. At the end all checksums are compared."""
        parts = []
        while count > 0 and self.more():
            part = self.member.decompress(self.packed, count)
            self.packed = self.member.unconsumed_tail
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def more(self) -> bool:
        """Returns whether there are more bytes to unpack. At the end of a member it goes on to the next one."""
        if not self.member.eof:
            if not self.packed:
                self.packed = self.stream.read(PIECE)
                if not self.packed:
                    raise EOFError("the file ends before its compressed data does")
            return True
        rest = self.member.unused_data
        while not (rest := rest.lstrip(b"\0")):
            rest = self.stream.read(PIECE)
            if not rest:
                return False
        if len(rest) < 2:
            rest += self.stream.read(PIECE)
        if not rest.startswith(b"\x1f\x8b"):
            raise gzip.BadGzipFile("data that is not gzip follows the compressed voxels")
        self.member, self.packed = zlib.decompressobj(31), rest
        return True
