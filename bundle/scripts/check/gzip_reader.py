"""Unpacks gzip in large pieces."""

import gzip
import zlib
from typing import BinaryIO

PIECE = 2**18  # packed bytes read at once


class GzipReader:
    """Reads what `gzip.open` would, with the same errors.

    The standard library goes by 8 KiB, takes the interpreter's lock back after each and so keeps all threads but one
    waiting; here two threads take half the time of one. Several members in a row are one file, zeros may follow them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.member = zlib.decompressobj(31)
        self.packed = b""

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, fewer only at the end, which is reached only if every checksum is right."""
        parts = []
        while count > 0 and self.more():
            part = self.member.decompress(self.packed, count)
            self.packed = self.member.unconsumed_tail
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def more(self) -> bool:
        """Whether there is anything to unpack; goes on to the next member where one has ended."""
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
            raise gzip.BadGzipFile("something that isn't gzip follows the compressed voxels")
        self.member, self.packed = zlib.decompressobj(31), rest
        return True
