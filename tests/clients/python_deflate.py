"""permessage-deflate as Python's `websockets` has it, against the gateway's own.

Reads "BITS TAKEOVER", then a message a line: "c HEX" is the payload of a compressed message, "p HEX"
a message that was sent as it is. Says for each, in hex: the message, and how it compresses it.
"""

import sys

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

bits, takeover = sys.stdin.readline().split()
no_takeover = takeover == "false"
deflate = PerMessageDeflate(no_takeover, no_takeover, int(bits), int(bits))

for line in sys.stdin:
    what, _, payload = line.strip("\n").partition(" ")
    frame = Frame(Opcode.BINARY, bytes.fromhex(payload), rsv1=what == "c")
    message = bytes(deflate.decode(frame).data)
    compressed = bytes(deflate.encode(Frame(Opcode.BINARY, message)).data)
    print(message.hex())
    print(compressed.hex())
