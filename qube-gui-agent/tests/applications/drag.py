"""A window of GTK 4 of which all can be dragged, or to which text can be dropped.

Its first argument is its title, its second the text that is dragged from it, if it has any. What is
dropped to it goes to a file of that title. Files with more behind the title tell what became of a
drag: `-begun`, `-kept` and then `-ended` where it came from, `-over` where it came to.
"""

import sys

import gi

gi.require_version("Gdk", "4.0")
gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, GObject, Gtk

title, text = sys.argv[1:]


def tell(name, what):
    with open(name, "w") as file:
        file.write(what)


def entered(*_):
    tell(f"{title}-over", "")
    return Gdk.DragAction.COPY


def dropped(_, value, x, y):
    label.set_text(f"dropped: {value}")
    tell(title, value)
    return True


def show(application):
    global label
    window = Gtk.ApplicationWindow(application=application, title=title)
    window.set_default_size(300, 200)
    label = Gtk.Label(label=text or "drop here", hexpand=True, vexpand=True)
    if text:
        source = Gtk.DragSource(actions=Gdk.DragAction.COPY)
        value = GObject.Value(str, text)
        source.set_content(Gdk.ContentProvider.new_for_value(value))
        source.connect("drag-begin", lambda *_: tell(f"{title}-begun", ""))
        source.connect("drag-end", lambda *_: tell(f"{title}-ended", ""))
        source.connect("drag-cancel", lambda *_: tell(f"{title}-kept", ""))
        label.add_controller(source)
    else:
        target = Gtk.DropTarget.new(str, Gdk.DragAction.COPY)
        target.connect("enter", entered)
        target.connect("drop", dropped)
        label.add_controller(target)
    window.set_child(label)
    window.present()


application = Gtk.Application(application_id=f"org.example.{title}")
application.connect("activate", show)
application.run([])
