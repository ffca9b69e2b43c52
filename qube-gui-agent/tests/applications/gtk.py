"""A window of GTK 4: an entry whose text goes to a file, and a button with a menu.

A picture on the clipboard goes to a file when the window gets the keyboard; the text "copy" puts
a red and a blue pixel there.
"""

import gi

gi.require_version("Gdk", "4.0")
gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, GLib, GObject, Gtk


def enter(entry):
    if entry.get_text() == "copy":
        pixels = GLib.Bytes.new([255, 0, 0, 255, 0, 0, 255, 255])
        form = Gdk.MemoryFormat.R8G8B8A8
        texture = Gdk.MemoryTexture.new(2, 1, form, pixels, 8)
        # As any texture: others have no name that pictures go by.
        value = GObject.Value(Gdk.Texture, texture)
        content = Gdk.ContentProvider.new_for_value(value)
        entry.get_clipboard().set_content(content)
    open("entered", "w").write(entry.get_text())


def look(window, _):
    clipboard = window.get_clipboard()
    if window.is_active() and clipboard.get_formats().contain_mime_type("image/png"):
        clipboard.read_texture_async(None, keep)


def keep(clipboard, result):
    clipboard.read_texture_finish(result).save_to_png("seen.png")


def show(application):
    window = Gtk.ApplicationWindow(application=application, title="a form")
    window.set_default_size(400, 300)
    column = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=20)
    entry = Gtk.Entry(tooltip_text="What the form is about")
    entry.connect("activate", enter)
    column.append(entry)

    inside = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
    choice = Gtk.Button(label="A choice to make")
    choice.connect("clicked", lambda _: open("chosen", "w").write("chosen"))
    inside.append(choice)
    menu = Gtk.MenuButton(label="A menu", popover=Gtk.Popover(child=inside))
    column.append(menu)
    window.set_child(column)
    window.connect("notify::is-active", look)
    window.present()


application = Gtk.Application(application_id="org.example.form")
application.connect("activate", show)
application.run()
