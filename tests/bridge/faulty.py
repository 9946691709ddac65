"""A relay that cuts connections, and a process that serves the stub, for faults at random moments."""

import contextlib
import socket
import threading


class Relay:
    """A TCP relay in front of a port: counts bytes, and cuts every connection after so many, mid-frame."""

    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs, self._lock = [], threading.Lock()
        self.left = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, count):
        """Cut all connections once so many more bytes have passed."""
        self.left = count

    def close(self):
        self._listener.close()
        self._cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                other.sendall(data)
                if self.left is not None and self.left <= 0:
                    self.left = None
                    self.cuts += 1
                    self._cut()
            self._shut(one, other)

    def _cut(self):
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._shut(*pair)

    @staticmethod
    def _shut(*sockets):
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
