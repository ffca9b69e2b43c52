"""A window of GTK 4: an entry whose text goes to a file, and a button with a menu."""

import gi

gi.require_version("Gtk", "4.0")
from gi.repository import Gtk


def show(application):
    window = Gtk.ApplicationWindow(application=application, title="a form")
    window.set_default_size(400, 300)
    column = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=20)
    entry = Gtk.Entry()
    entry.connect("activate", lambda e: open("entered", "w").write(e.get_text()))
    column.append(entry)

    inside = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
    choice = Gtk.Button(label="A choice to make")
    choice.connect("clicked", lambda _: open("chosen", "w").write("chosen"))
    inside.append(choice)
    menu = Gtk.MenuButton(label="A menu", popover=Gtk.Popover(child=inside))
    column.append(menu)
    window.set_child(column)
    window.present()


application = Gtk.Application(application_id="org.example.form")
application.connect("activate", show)
application.run()
