//! Pictures: whatever the file is called, an RGB image comes out, or a clear error.

mod decode;
mod framing;
mod noise;

pub use decode::{decode, decode_bytes, decode_for, resize};
pub use framing::{Filter, Framing};
pub use noise::corrupt;

use crate::Modality;

/// The modality `image`.
pub static MODALITY: Modality = Modality {
    name: "image",
    about: "a picture: PNG, JPEG, GIF, BMP, WebP or TIFF",
    inline: false,
    noises: noise::KINDS,
    check: |source| decode(source).map(drop),
};
