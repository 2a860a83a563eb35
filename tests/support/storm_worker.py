"""Stands for a worker: greets as gRPC does, and serves one client only.

It is asked for its address by --hosts and --number, as the real one is for its port.
"""

import signal
import socket
import sys
import threading

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HELLO_BYTES, TOKEN_BYTES = 33, 32
clients = set()


def serve(call):
    with call:
        call.settimeout(30)
        try:
            if len(receive(call, HELLO_BYTES)) < HELLO_BYTES:
                return
            call.sendall(SETTINGS)
            token = receive(call, TOKEN_BYTES)
            if len(token) == TOKEN_BYTES:
                clients.add(token)
                call.sendall(b"1" if clients == {token} else b"2")
        except OSError:
            return


def receive(call, count):
    found = b""
    while len(found) < count and (more := call.recv(count - len(found))):
        found += more
    return found


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    flags = dict(text.lstrip("-").split("=", 1) for text in sys.argv[1:])
    address = flags["hosts"].split(",")[int(flags["number"])]
    host, _, port = address.rpartition(":")
    server = socket.create_server((host, int(port)))
    while True:
        call, _ = server.accept()
        threading.Thread(target=serve, args=(call,), daemon=True).start()


if __name__ == "__main__":
    main()
