"""Entry point of the worker: answers the host's messages, one at a time, until the host hangs up.

The worker decides nothing. Whatever it sends, the host treats as coming from the submission, which
runs in this same process.
"""

import sys

import protocol
from session import Session


def main() -> int:
    channel = protocol.Channel(int(sys.argv[1]))
    session = Session()
    while True:
        received = channel.receive()
        if received is None:
            return 0
        message, descriptors = received
        channel.send(session.answer(message, descriptors))


if __name__ == "__main__":
    sys.exit(main())
