"""A window of GTK 4 of which all can be dragged, or to which text can be dropped.

Its first argument is its title, its second the text that is dragged from it, if it has any, and its
third how often, where that is more than once. What is dropped to it goes to a file of that title. Files
with more behind the title tell what became of a drag: `-begun`, `-kept` and then `-ended` where it came
from (`moved` is in that if it was), `-over` and `-left` where it came to. By `DRAG_ACTION` it is moved
instead of copied.
"""

import os
import sys

import gi

gi.require_version("Gdk", "4.0")
gi.require_version("Gtk", "4.0")
from gi.repository import Gdk, GObject, Gtk

title, text = sys.argv[1:3]
times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
moves = os.environ.get("DRAG_ACTION") == "move"
action = Gdk.DragAction.MOVE if moves else Gdk.DragAction.COPY


def tell(name, what):
    with open(name, "w") as file:
        file.write(what)


def entered(*_):
    tell(f"{title}-over", "")
    return action


def dropped(_, value, x, y):
    label.set_text(f"dropped: {value[:20]}")
    tell(title, value)
    return True


def ended(_, drag, deletes):
    tell(f"{title}-ended", "moved" if deletes else "copied")


def show(application):
    global label
    window = Gtk.ApplicationWindow(application=application, title=title)
    window.set_default_size(300, 200)
    label = Gtk.Label(label=text or "drop here", hexpand=True, vexpand=True)
    if text:
        source = Gtk.DragSource(actions=action)
        value = GObject.Value(str, text * times)
        source.set_content(Gdk.ContentProvider.new_for_value(value))
        source.connect("drag-begin", lambda *_: tell(f"{title}-begun", ""))
        source.connect("drag-end", ended)
        source.connect("drag-cancel", lambda *_: tell(f"{title}-kept", ""))
        # The text itself can be too large to be shown.
        source.set_icon(Gtk.WidgetPaintable.new(label), 20, 20)
        label.add_controller(source)
    else:
        target = Gtk.DropTarget.new(str, action)
        target.connect("enter", entered)
        target.connect("leave", lambda *_: tell(f"{title}-left", ""))
        target.connect("drop", dropped)
        label.add_controller(target)
    window.set_child(label)
    window.present()


application = Gtk.Application(application_id=f"org.example.{title}")
application.connect("activate", show)
application.run([])
