"""Keeps thousands of clients at the beginning of TLS: `handshakes.py HOST:PORT SECONDS CLIENTS`.

Each connects, sends a ClientHello, waits for all that the gateway says to it, and goes: the costly half of a handshake for the
gateway, and next to nothing here. Prints how many were answered.
"""

import resource
import select
import socket
import ssl
import sys
import time


def client_hello():
    """A ClientHello as OpenSSL writes it, which may be sent any number of times."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def begin(address, hello):
    each = socket.socket()
    # Its end is a reset, or all the ports of loopback would soon be waiting for theirs.
    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    each.connect(address)
    each.sendall(hello)
    return each


def main(address, seconds, clients):
    host, port = address.rsplit(":", 1)
    address, hello, answered = (host, int(port)), client_hello(), 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll, waiting = select.epoll(), {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # A few at a time, so that answers are taken meanwhile.
        for _ in range(min(64, clients - len(waiting))):
            each = begin(address, hello)
            waiting[each.fileno()] = each
            poll.register(each, select.EPOLLIN)
        for number, _ in poll.poll(0 if len(waiting) < clients else 0.1, 256):
            each = waiting.pop(number)
            poll.unregister(number)
            # A ServerHello; an alert is not what is wanted.
            if each.recv(1) != b"\x16":
                sys.exit("the gateway refused a handshake")
            answered += 1
            each.close()
    print(f"{answered} {answered / seconds:.0f}")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
