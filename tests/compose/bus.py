"""Redis, spoken to as one of its users: the few lines of its protocol that a test needs."""

import socket


class BusError(Exception):
    """Redis said no; the text begins with the kind, e.g. NOPERM."""


class Bus:
    """One connection. Raises OSError when Redis is away, BusError when it refuses."""

    def __init__(self, address, user=None, password=None, timeout=5.0):
        self._socket = socket.create_connection(address, timeout)
        self._file = self._socket.makefile("rb")
        if user is not None:
            self("AUTH", user, password)

    def __call__(self, *words):
        parts = [str(word).encode() for word in words]
        frame = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(frame)
        return self._reply()

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b"-":
            raise BusError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            if size < 0:
                return None
            return self._file.read(size + 2)[:-2].decode()
        if kind == b"*":
            return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]
        raise BusError(f"unknown reply {line!r}")

    def entries(self, stream):
        """Every entry of a stream as a dictionary of its fields."""
        found = []
        for _, flat in self("XRANGE", stream, "-", "+"):
            found.append(dict(zip(flat[::2], flat[1::2])))
        return found

    def close(self):
        self._file.close()
        self._socket.close()
