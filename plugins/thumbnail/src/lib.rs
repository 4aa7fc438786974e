//! Makes thumbnails: the classic reason to isolate, a decoder of three formats that reads hostile bytes.
//!
//! It needs no file, no thread and no network. What it may use of memory is limited twice: here, so that a large
//! picture is an ordinary error, and by the sandbox, for whatever the decoders get wrong.

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use serde::Serialize;
use std::io::Cursor;

/// Longest side of a thumbnail, in pixels.
const SIDE: u32 = 128;

/// Longest side of a picture that is decoded, in pixels.
const SIDE_MAX: u32 = 8192;

/// Most bytes that a decoder may allocate: 8192 x 8192 pixels of four bytes.
const DECODED_MAX: u64 = 256 * 1024 * 1024;

type Decoder<'a> = Box<dyn ImageDecoder + 'a>;

/// Opens a picture of one of the three formats, told by its first bytes, with the limits set.
fn open(picture: &[u8]) -> Result<(ImageFormat, Decoder<'_>), String> {
    let mut reader =
        ImageReader::new(Cursor::new(picture)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = reader.format().ok_or("neither PNG nor JPEG nor WebP")?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_MAX);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    Ok((format, Box::new(decoder)))
}

/// A PNG whose longest side is at most 128 pixels. A picture that is smaller already keeps its size.
fn thumbnail(picture: &[u8]) -> Result<Vec<u8>, String> {
    let (_, mut decoder) = open(picture)?;
    let orientation = decoder.orientation().map_err(|error| error.to_string())?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    if picture.width().max(picture.height()) > SIDE {
        picture = picture.thumbnail(SIDE, SIDE);
    }
    // Last, when the picture is small: turning it takes a second copy.
    picture.apply_orientation(orientation);
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(png.into_inner())
}

#[derive(Serialize)]
struct Info {
    format: &'static str,
    width: u32,
    height: u32,
}

/// Format and size in pixels, as JSON, from the picture's head alone.
fn info(picture: &[u8]) -> Result<Vec<u8>, String> {
    let (format, decoder) = open(picture)?;
    let (width, height) = decoder.dimensions();
    let format = match format {
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Png => "png",
        _ => "webp",
    };
    serde_json::to_vec(&Info { format, width, height }).map_err(|error| error.to_string())
}

hotcell_plugin::export! {
    thumbnail => thumbnail,
    info => info,
}
