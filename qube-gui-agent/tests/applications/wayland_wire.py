"""Speaks Wayland by hand, for windows that no toolkit here can make."""

import array
import os
import socket
import struct

DISPLAY, REGISTRY, SYNC, FIRST = 1, 2, 3, 4

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.join(os.environ["XDG_RUNTIME_DIR"], "wayland-0"))


def text(words):
    raw = words.encode() + b"\0"
    return struct.pack("I", len(raw)) + raw + bytes(-len(raw) % 4)


def say(target, opcode, *arguments, file=None):
    body = b"".join(a if isinstance(a, bytes) else struct.pack("i", a) for a in arguments)
    message = struct.pack("IHH", target, opcode, 8 + len(body)) + body
    files = [] if file is None else [file]
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
    connection.sendmsg([message], [rights] if files else [])


def exactly(count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise SystemExit("the compositor has gone")
        data += more
    return data


def hear():
    target, opcode, length = struct.unpack("IHH", exactly(8))
    return target, opcode, exactly(length - 8)


def bind(versions):
    """Binds globals of these names to the numbers from `FIRST` on, in these versions."""
    say(DISPLAY, 1, REGISTRY)
    say(DISPLAY, 0, SYNC)
    numbers = {}
    while (event := hear())[0] != SYNC:
        target, opcode, body = event
        if (target, opcode) == (REGISTRY, 0):
            number, length = struct.unpack_from("II", body)
            numbers[body[8 : 7 + length].decode()] = number
    for new, (name, version) in enumerate(versions.items(), FIRST):
        say(REGISTRY, 0, numbers[name], text(name), version, new)
