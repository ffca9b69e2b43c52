//! Icons in files, by the names that entries of applications have for them: those that applications
//! have put into the theme `hicolor`, which is everybody's, or beside it. PNG only.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bulkhead_wire::icons::Icon;
use image::{ImageFormat, RgbaImage};
use xdg::BaseDirectories;

use super::pixels;
use crate::picture;

/// Sides of icons in a theme, the best first.
const SIDES: [u32; 10] = [128, 96, 64, 48, 256, 192, 512, 32, 24, 16];

/// Longest name of an icon or an application: no file has a longer one.
const NAME_MAX: usize = 255;

/// Bytes of an entry that are read; what it says of its icon is in its beginning.
const ENTRY_MAX: u64 = 64 * 1024;

/// Bytes of an icon's file at most.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// The folders of data, the user's own first.
pub(super) fn folders() -> Vec<PathBuf> {
    let base = BaseDirectories::new();
    base.data_home.into_iter().chain(base.data_dirs).collect()
}

/// The icon of the application with this id.
pub(super) fn of_application(folders: &[PathBuf], id: &str) -> Option<Icon> {
    let id = id.strip_suffix(".desktop").unwrap_or(id);
    if !is_name(id) {
        return None;
    }
    let entries = folders
        .iter()
        .map(|folder| folder.join(format!("applications/{id}.desktop")));
    let text = entries
        .into_iter()
        .find_map(|file| read(&file, ENTRY_MAX))?;
    icon(folders, icon_of_entry(&String::from_utf8_lossy(&text))?)
}

/// The icon of this name, or in the file that it names.
pub(super) fn icon(folders: &[PathBuf], name: &str) -> Option<Icon> {
    if Path::new(name).is_absolute() {
        return of_file(Path::new(name));
    }
    let name = name.strip_suffix(".png").unwrap_or(name);
    if !is_name(name) {
        return None;
    }
    let themed = SIDES.iter().flat_map(|side| {
        let below = format!("icons/hicolor/{side}x{side}/apps/{name}.png");
        folders.iter().map(move |folder| folder.join(&below))
    });
    let loose = folders
        .iter()
        .map(|folder| folder.join(format!("pixmaps/{name}.png")));
    themed.chain(loose).find_map(|file| of_file(&file))
}

fn of_file(file: &Path) -> Option<Icon> {
    let bytes = read(file, FILE_MAX + 1)?;
    if bytes.len() as u64 > FILE_MAX {
        return None;
    }
    let bitmap = picture::decode(ImageFormat::Png, &bytes).ok()?;
    let (width, height) = (bitmap.size.width(), bitmap.size.height());
    pixels::best([(width, height)])?;
    pixels::icon(RgbaImage::from_raw(width, height, bitmap.pixels)?)
}

/// So many bytes of a plain file at most.
fn read(file: &Path, most: u64) -> Option<Vec<u8>> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        // Looked at first: to open a pipe would wait.
        if !std::fs::metadata(file)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::open(file)?.take(most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    // What cannot be read is as good as not there: another may be.
    read().ok().flatten()
}

/// One name, and no path.
fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && !name.contains(['/', '\0'])
}

/// What the first group of an entry says of its icon.
fn icon_of_entry(text: &str) -> Option<&str> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with('['));
    if lines.next()?.trim_end() != "[Desktop Entry]" {
        return None;
    }
    let own = lines.take_while(|line| !line.starts_with('['));
    let mut pairs = own.filter_map(|line| line.split_once('='));
    let (_, name) = pairs.find(|(key, _)| key.trim() == "Icon")?;
    Some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Bitmap, encode};

    fn put(folder: &Path, name: &str, bytes: &[u8]) {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// A file of one colour.
    fn png(side: u32, shade: u8) -> Vec<u8> {
        let size = bulkhead_wire::gui::picture::PictureSize::new(side, side).unwrap();
        let pixels = vec![shade; size.bytes()];
        encode(&Bitmap { size, pixels }).unwrap()
    }

    fn shade(icon: Option<Icon>) -> Option<(u32, u8)> {
        icon.map(|icon| (icon.size().width(), icon.pixels()[0]))
    }

    #[test]
    fn an_applications_icon_is_the_best_that_its_entry_names() {
        let (own, all) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [own.path().to_owned(), all.path().to_owned()];
        let find = |id: &str| shade(of_application(&folders, id));
        assert_eq!(find("org.example.App"), None);
        let entry = "# a comment\n[Desktop Entry]\nName=Icon\nIcon[de]=x\nIcon = app \n\
                     [Desktop Action new]\nIcon=other\n";
        put(
            all.path(),
            "applications/org.example.App.desktop",
            entry.as_bytes(),
        );
        assert_eq!(find("org.example.App"), None);
        put(all.path(), "pixmaps/app.png", &png(16, 1));
        assert_eq!(find("org.example.App"), Some((16, 1)));
        put(
            all.path(),
            "icons/hicolor/256x256/apps/app.png",
            &png(256, 2),
        );
        assert_eq!(find("org.example.App"), Some((128, 2)));
        put(all.path(), "icons/hicolor/64x64/apps/app.png", &png(64, 3));
        put(own.path(), "icons/hicolor/48x48/apps/app.png", &png(48, 4));
        assert_eq!(find("org.example.App.desktop"), Some((64, 3)));
        // One that is broken does not hide the others.
        put(
            own.path(),
            "icons/hicolor/128x128/apps/app.png",
            b"no picture",
        );
        assert_eq!(find("org.example.App"), Some((64, 3)));
        let path = own.path().join("any.png");
        put(own.path(), "any.png", &png(20, 5));
        let entry = format!("[Desktop Entry]\nIcon={}\n", path.display());
        put(
            own.path(),
            "applications/org.example.App.desktop",
            entry.as_bytes(),
        );
        assert_eq!(find("org.example.App"), Some((20, 5)));
    }

    #[test]
    fn names_are_no_paths_and_files_no_larger_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        put(folder.path(), "pixmaps/in/app.png", &png(16, 1));
        put(folder.path(), "out.png", &png(16, 1));
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["", "in/app", "../out", "a\0b", &long] {
            assert_eq!(icon(&folders, name), None, "{name:?}");
            assert_eq!(of_application(&folders, name), None, "{name:?}");
        }
        let mut most = png(16, 7);
        most.resize(usize::try_from(FILE_MAX).unwrap(), 0);
        put(folder.path(), "pixmaps/app.png", &most);
        assert_eq!(shade(icon(&folders, "app.png")), Some((16, 7)));
        most.push(0);
        put(folder.path(), "pixmaps/app.png", &most);
        assert_eq!(icon(&folders, "app"), None);
        put(
            folder.path(),
            "pixmaps/large.png",
            &png(pixels::SOURCE_MAX + 1, 7),
        );
        assert_eq!(icon(&folders, "large"), None);
    }
}
