//! Pictures as applications have them, and as they are carried to other qubes.

use std::io::Cursor;

use bulkhead_wire::gui::picture::{PICTURE_MAX, PICTURE_SIDE_MAX, PictureSize};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat,
    ImageReader, Limits,
};
use thiserror::Error;

/// What pictures are called that can be carried, the best name first.
pub(crate) const KINDS: [(&str, ImageFormat); 4] = [
    (PNG, ImageFormat::Png),
    ("image/bmp", ImageFormat::Bmp),
    ("image/x-bmp", ImageFormat::Bmp),
    ("image/x-MS-bmp", ImageFormat::Bmp),
];

/// What a picture that was carried is called.
pub(crate) const PNG: &str = "image/png";

/// Bytes of a picture as an application has it, at most: it is seldom longer than its pixels.
pub(crate) const FILE_MAX: usize = PICTURE_MAX + 64 * 1024;

/// Bytes that may be needed to understand one: some have 8 for each pixel.
const WORK_MAX: u64 = 4 * PICTURE_MAX as u64;

/// A picture as it is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    pub(crate) size: PictureSize,
    /// As many as it has.
    pub(crate) pixels: Vec<u8>,
}

#[derive(Debug, Error)]
pub(crate) enum PictureError {
    #[error("the picture is too large")]
    TooLarge,
    #[error("the picture cannot be understood")]
    Decode(#[source] ImageError),
    #[error("the picture cannot be written")]
    Encode(#[source] ImageError),
}

/// Understands what an application has copied.
pub(crate) fn decode(format: ImageFormat, bytes: &[u8]) -> Result<Bitmap, PictureError> {
    let failed = |error| match error {
        ImageError::Limits(_) => PictureError::TooLarge,
        other => PictureError::Decode(other),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(PICTURE_SIDE_MAX);
    limits.max_image_height = Some(PICTURE_SIDE_MAX);
    limits.max_alloc = Some(WORK_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let size = PictureSize::new(width, height).ok_or(PictureError::TooLarge)?;
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let pixels = image.into_rgba8().into_raw();
    Ok(Bitmap { size, pixels })
}

/// A file of kind [`PNG`].
pub(crate) fn encode(bitmap: &Bitmap) -> Result<Vec<u8>, PictureError> {
    let (width, height) = (bitmap.size.width(), bitmap.size.height());
    let mut file = Vec::new();
    // It is read once, and in this qube.
    let (compression, filter) = (CompressionType::Fast, FilterType::Adaptive);
    PngEncoder::new_with_quality(&mut file, compression, filter)
        .write_image(&bitmap.pixels, width, height, ExtendedColorType::Rgba8)
        .map_err(PictureError::Encode)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(width: u32, height: u32) -> Bitmap {
        let size = PictureSize::new(width, height).expect("a size");
        let pixels = (0..size.bytes()).map(|n| (n % 251) as u8).collect();
        Bitmap { size, pixels }
    }

    /// A bitmap file of these pixels, without their alpha.
    fn bmp(bitmap: &Bitmap) -> Vec<u8> {
        let image = image::RgbaImage::from_raw(
            bitmap.size.width(),
            bitmap.size.height(),
            bitmap.pixels.clone(),
        );
        let image = DynamicImage::from(image.expect("an image")).into_rgb8();
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, ImageFormat::Bmp).expect("a file");
        file.into_inner()
    }

    #[test]
    fn what_is_written_is_read_pixel_by_pixel() {
        for (width, height) in [(1, 1), (3, 2), (64, 48)] {
            let one = bitmap(width, height);
            let file = encode(&one).expect("a file");
            assert_eq!(decode(ImageFormat::Png, &file).expect("a picture"), one);
            let mut opaque = one.clone();
            opaque
                .pixels
                .iter_mut()
                .skip(3)
                .step_by(4)
                .for_each(|a| *a = 255);
            let read = decode(ImageFormat::Bmp, &bmp(&one));
            assert_eq!(read.expect("a picture"), opaque);
        }
    }

    #[test]
    fn what_is_too_large_or_no_picture_is_an_error() {
        // The sizes are in the header, and nothing else is looked at.
        let whole = encode(&bitmap(3, 2)).expect("a file");
        let sized = |width: u32, height: u32| {
            let mut file = whole.clone();
            file[16..20].copy_from_slice(&width.to_be_bytes());
            file[20..24].copy_from_slice(&height.to_be_bytes());
            let crc = crc(&file[12..29]);
            file[29..33].copy_from_slice(&crc.to_be_bytes());
            decode(ImageFormat::Png, &file).expect_err("another size")
        };
        for (width, height) in [(PICTURE_SIDE_MAX + 1, 1), (4097, 4096), (1, u32::MAX >> 1)] {
            let error = sized(width, height);
            assert!(matches!(error, PictureError::TooLarge), "{error:?}");
        }
        for (format, wrong) in [
            (ImageFormat::Png, &whole[..whole.len() / 2]),
            (ImageFormat::Png, b"no picture"),
            (ImageFormat::Bmp, &whole),
            (ImageFormat::Bmp, b""),
        ] {
            let error = decode(format, wrong).expect_err("no picture");
            assert!(matches!(error, PictureError::Decode(_)), "{error:?}");
        }
    }

    /// As PNG has it.
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| crc >> 1 ^ if crc & 1 == 0 { 0 } else { 0xedb8_8320 };
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), step)
        })
    }
}
