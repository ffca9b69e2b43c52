"""A window of Wayland that gives itself an icon, by hand: no toolkit here knows how.

Its application is `org.example.icon`, the window is white, and the icon has 32 by 32 pixels, half
transparent and red. When `change` is there, it has another of 16 by 16, opaque and blue, instead.
"""

import array
import mmap
import os
import select
import socket
import struct

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


DISPLAY, REGISTRY, SYNC = 1, 2, 3
NAMES = ["wl_compositor", "wl_shm", "xdg_wm_base", "xdg_toplevel_icon_manager_v1"]
COMPOSITOR, SHM, SHELL, MANAGER = 4, 5, 6, 7
SURFACE, XDG_SURFACE, TOPLEVEL, POOL, WINDOW, FIRST, SECOND, ICON, OTHER = range(8, 17)

say(DISPLAY, 1, REGISTRY)
say(DISPLAY, 0, SYNC)
numbers = {}
while (event := hear())[0] != SYNC:
    target, opcode, body = event
    if (target, opcode) == (REGISTRY, 0):
        number, length = struct.unpack_from("II", body)
        numbers[body[8 : 7 + length].decode()] = number
for new, name in enumerate(NAMES, COMPOSITOR):
    say(REGISTRY, 0, numbers[name], text(name), 1, new)

say(COMPOSITOR, 0, SURFACE)
say(SHELL, 2, XDG_SURFACE, SURFACE)
say(XDG_SURFACE, 1, TOPLEVEL)
say(TOPLEVEL, 3, text("org.example.icon"))
say(SURFACE, 6)

memory = os.memfd_create("pixels")
window, red, blue = 64 * 64, 32 * 32, 16 * 16
os.ftruncate(memory, 4 * (window + red + blue))
pixels = mmap.mmap(memory, 0)
# Blue, green, red, alpha, by which they are multiplied.
pixels.write(b"\xff\xff\xff\xff" * window + b"\0\0\x80\x80" * red + b"\xff\0\0\xff" * blue)
say(SHM, 0, POOL, 4 * (window + red + blue), file=memory)
offset = 0
for buffer, side in [(WINDOW, 64), (FIRST, 32), (SECOND, 16)]:
    say(POOL, 0, buffer, offset, side, side, 4 * side, 0)
    offset += 4 * side * side

for icon, buffer in [(ICON, FIRST), (OTHER, SECOND)]:
    say(MANAGER, 1, icon)
    say(icon, 2, buffer, 1)
say(MANAGER, 2, TOPLEVEL, ICON)

changed = False
while True:
    if select.select([connection], [], [], 0.05)[0]:
        target, opcode, body = hear()
        if (target, opcode) == (DISPLAY, 0):
            raise SystemExit(body)
        if (target, opcode) == (SHELL, 0):
            say(SHELL, 3, body)
        if (target, opcode) == (XDG_SURFACE, 0):
            say(XDG_SURFACE, 4, body)
            say(SURFACE, 1, WINDOW, 0, 0)
            say(SURFACE, 2, 0, 0, 64, 64)
            say(SURFACE, 6)
    elif not changed and os.path.exists("change"):
        changed = True
        say(MANAGER, 2, TOPLEVEL, OTHER)
        say(SURFACE, 6)
