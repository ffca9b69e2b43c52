"""A window of Wayland that draws each pixel of the screen, whatever the scale, by hand: no toolkit here
knows parts of pixels.

It has 60 by 40 units, and is black and white by turns. What it is told of its scale, and of that of a
surface below it, is in `told`, one line for each.
"""

import mmap
import os
import struct
import sys

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

from wayland_wire import DISPLAY, bind, hear, say

NAMES = {
    "wl_compositor": 6,
    "wl_shm": 1,
    "xdg_wm_base": 1,
    "wl_subcompositor": 1,
    "wp_viewporter": 1,
    "wp_fractional_scale_manager_v1": 1,
}
COMPOSITOR, SHM, SHELL, SUBCOMPOSITOR, VIEWPORTER, MANAGER = range(4, 10)
SURFACE, XDG_SURFACE, TOPLEVEL, VIEWPORT, SCALE = range(10, 15)
BELOW, SUBSURFACE, SCALE_BELOW = range(15, 18)
WIDTH, HEIGHT, PARTS = 60, 40, 120

bind(NAMES)

say(COMPOSITOR, 0, SURFACE)
say(SHELL, 2, XDG_SURFACE, SURFACE)
say(XDG_SURFACE, 1, TOPLEVEL)
say(VIEWPORTER, 1, VIEWPORT, SURFACE)
say(MANAGER, 1, SCALE, SURFACE)
say(COMPOSITOR, 0, BELOW)
say(SUBCOMPOSITOR, 1, SUBSURFACE, BELOW, SURFACE)
say(MANAGER, 1, SCALE_BELOW, BELOW)
say(SURFACE, 6)

scale, last, configured = PARTS, SCALE_BELOW, False


def draw():
    """All of it anew, with a buffer as large as the screen has pixels for it."""
    global last
    width, height = ((side * scale * 2 + PARTS) // (2 * PARTS) for side in (WIDTH, HEIGHT))
    memory = os.memfd_create("pixels")
    os.ftruncate(memory, 4 * width * height)
    pixels = mmap.mmap(memory, 0)
    for y in range(height):
        for x in range(width):
            pixels.write(b"\xff\xff\xff\xff" if (x + y) % 2 else b"\0\0\0\xff")
    pool, buffer = last + 1, last + 2
    last = buffer
    say(SHM, 0, pool, 4 * width * height, file=memory)
    os.close(memory)
    say(pool, 0, buffer, 0, width, height, 4 * width, 0)
    say(VIEWPORT, 2, WIDTH, HEIGHT)
    say(SURFACE, 1, buffer, 0, 0)
    say(SURFACE, 9, 0, 0, width, height)
    say(SURFACE, 6)


def tell(words):
    with open("told", "a") as told:
        told.write(words + "\n")


while True:
    target, opcode, body = hear()
    if (target, opcode) == (DISPLAY, 0):
        raise SystemExit(body)
    if (target, opcode) == (SHELL, 0):
        say(SHELL, 3, body)
    if (target, opcode) == (XDG_SURFACE, 0):
        say(XDG_SURFACE, 4, body)
        if not configured:
            configured = True
            draw()
    if (target, opcode) == (SURFACE, 2):
        tell(f"whole {struct.unpack('i', body)[0]}")
    if (target, opcode) == (SCALE_BELOW, 0):
        tell(f"below {struct.unpack('I', body)[0]}")
    if (target, opcode) == (SCALE, 0):
        scale = struct.unpack("I", body)[0]
        tell(f"parts {scale}")
        if configured:
            draw()
