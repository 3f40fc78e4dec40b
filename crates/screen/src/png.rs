//! PNG in and out. What comes in may be broken or hostile: sizes are checked before memory is taken.

use std::io::Cursor;

use png::{BitDepth, ColorType, Compression, Decoder, DecodingError, Encoder, Limits, Transformations};

use crate::image::Image;

/// More pixels than this are refused: 8K screens have 33 million.
pub const MAX_PIXELS: u64 = 64 << 20;

/// What the decoder may take for itself: rows, palettes and text chunks, not the picture.
const DECODER_BYTES: usize = 64 << 20;

/// Why bytes are no picture.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing there.
    #[error("the file is empty; write the picture again")]
    Empty,
    /// Something else than PNG.
    #[error("this is no PNG (it does not start with a PNG signature); convert the picture to PNG")]
    NotPng,
    /// Too many pixels.
    #[error("{width}x{height} pixels are more than the {} million allowed; use a smaller picture", MAX_PIXELS >> 20)]
    TooLarge {
        /// As the file says.
        width: u32,
        /// As the file says.
        height: u32,
    },
    /// It ends early.
    #[error("the PNG is cut off; copy or write it again")]
    Truncated,
    /// Anything else the decoder finds.
    #[error("the PNG is damaged ({0}); copy or write it again")]
    Damaged(String),
}

impl From<DecodingError> for ImageError {
    fn from(error: DecodingError) -> Self {
        match error {
            DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Decodes any PNG to 8-bit RGB: palettes and small depths expanded, grey spread to three channels, 16-bit
/// samples cut to their upper byte, alpha dropped, interlacing undone. Of an animation the first picture.
pub fn decode(bytes: &[u8]) -> Result<Image, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    let signature = [0x89, b'P', b'N', b'G'];
    if !bytes.starts_with(&signature[..bytes.len().min(4)]) {
        return Err(ImageError::NotPng);
    }
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: DECODER_BYTES });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info()?.size();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or(ImageError::TooLarge { width, height })?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data)?;
    if frame.bit_depth != BitDepth::Eight || (frame.width, frame.height) != (width, height) {
        return Err(ImageError::Damaged("its first picture is not of its own size".into()));
    }
    data.truncate(frame.buffer_size());
    Image::from_rgb(width, height, to_rgb(data, frame.color_type))
        .ok_or_else(|| ImageError::Damaged("it holds fewer pixels than it says".into()))
}

fn to_rgb(data: Vec<u8>, color: ColorType) -> Vec<u8> {
    match color {
        ColorType::Rgb => data,
        ColorType::Rgba => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::GrayscaleAlpha => data.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        // Indexed never comes out of EXPAND.
        ColorType::Grayscale | ColorType::Indexed => data.iter().flat_map(|&g| [g; 3]).collect(),
    }
}

/// Encodes as 8-bit RGB without ancillary chunks. Fast rather than small: it is done for every screenshot kept.
pub fn encode(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(image.rgb().len() / 8 + 1024);
    let mut encoder = Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fastest);
    encoder
        .write_header()
        .and_then(|mut writer| {
            writer.write_image_data(image.rgb())?;
            writer.finish()
        })
        .expect("a Vec takes every byte and the data have the size that was announced");
    bytes
}
