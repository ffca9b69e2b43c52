"""A window of Wayland that gives itself an icon, by hand: no toolkit here knows how.

Its application is `org.example.icon`, the window is white, and the icon has 32 by 32 pixels, half
transparent and red. When `change` is there, it has another of 16 by 16, opaque and blue, instead.
"""

import mmap
import os
import select
import sys

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

from wayland_wire import DISPLAY, bind, connection, hear, say, text

NAMES = dict.fromkeys(
    ["wl_compositor", "wl_shm", "xdg_wm_base", "xdg_toplevel_icon_manager_v1"], 1
)
COMPOSITOR, SHM, SHELL, MANAGER = 4, 5, 6, 7
SURFACE, XDG_SURFACE, TOPLEVEL, POOL, WINDOW, FIRST, SECOND, ICON, OTHER = range(8, 17)

bind(NAMES)

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
