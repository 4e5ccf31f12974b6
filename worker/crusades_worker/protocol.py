"""Frames on the control socket.

A frame is the length of its body (4 bytes, little endian) and the body: one JSON object with a
`type`. The host attaches descriptors of shared memory to some frames (SCM_RIGHTS).
"""

import array
import json
import socket
import struct

VERSION = 2
MAX_FRAME_BYTES = 4 << 20
_MAX_DESCRIPTORS = 4


class Channel:
    """The worker's end of the control socket."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def receive(self) -> tuple[dict, list[int]] | None:
        """The next message and the descriptors that came with it; None once the host hung up."""
        header, descriptors = self._receive_exactly(4)
        if header is None:
            return None
        (length,) = struct.unpack("<I", header)
        if not 0 < length <= MAX_FRAME_BYTES:
            raise ValueError(f"the host announced a frame of {length} bytes")
        body, more = self._receive_exactly(length)
        if body is None:
            return None
        return json.loads(body), descriptors + more

    def send(self, message: dict) -> None:
        """Sends one message."""
        body = json.dumps(message).encode()
        self._socket.sendall(struct.pack("<I", len(body)) + body)

    def _receive_exactly(self, length: int) -> tuple[bytes | None, list[int]]:
        data = bytearray()
        descriptors = array.array("i")
        room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * descriptors.itemsize)
        while len(data) < length:
            chunk, ancillary, _, _ = self._socket.recvmsg(length - len(data), room)
            if not chunk:
                return None, list(descriptors)
            data += chunk
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(payload) - len(payload) % descriptors.itemsize
                    descriptors.frombytes(payload[:whole])
        return bytes(data), list(descriptors)
