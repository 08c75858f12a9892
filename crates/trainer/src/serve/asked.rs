//! What a request asks: samples, from JSON or from a form.

use std::io::Cursor;

use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use balgrad_data::{Modality, Source};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::Parts;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A sample that an answer is wanted for.
pub(super) struct Asked {
    /// What the answer is called.
    pub(super) id: Option<Value>,
    /// What there is of it, or why it cannot be read.
    pub(super) parts: Result<Parts, Refusal>,
}

/// What can be asked.
pub(super) struct Form<'a> {
    /// The modalities that the model reads.
    pub(super) reads: &'a [&'static Modality],
    /// Pixels of one image.
    pub(super) pixels: u64,
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, message)
}

impl Form<'_> {
    /// The samples of a JSON body, and whether it was a list of them.
    ///
    /// # Errors
    /// What is no JSON object or list.
    pub(super) fn json(&self, body: &[u8]) -> Result<(Vec<Asked>, bool), Refusal> {
        let value = serde_json::from_slice(body)
            .map_err(|e| bad(format!("the body is not JSON ({e}): send an object such as {}", self.example())))?;
        match value {
            Value::Object(sample) => Ok((vec![self.sample(sample)], false)),
            Value::Array(all) => {
                let one = |value| match value {
                    Value::Object(sample) => self.sample(sample),
                    _ => {
                        Asked { id: None, parts: Err(bad(format!("a sample is an object such as {}", self.example()))) }
                    }
                };
                Ok((all.into_iter().map(one).collect(), true))
            }
            _ => Err(bad(format!("a sample is an object such as {}, and a batch a list of them", self.example()))),
        }
    }

    fn sample(&self, mut fields: Map<String, Value>) -> Asked {
        let id = fields.remove("id").filter(|id| !id.is_null());
        let parts = fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
            let modality = self.modality(&name)?;
            let Value::String(text) = value else {
                let wanted = if modality.inline { "a string" } else { "a string in base64" };
                return Err(bad(format!("`{name}` is {wanted}, or null where it is missing")));
            };
            let source = if modality.inline { Source::Text(text) } else { self.decoded(&name, &text)? };
            Ok((name, source))
        });
        Asked { id, parts: parts.collect() }
    }

    fn decoded(&self, name: &str, text: &str) -> Result<Source, Refusal> {
        // A data URL, as browsers make them, holds the same.
        let text = match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
            Some((_, content)) => content,
            None => text,
        };
        let dense: String = text.split_ascii_whitespace().collect();
        let bytes = BASE64.decode(dense).map_err(|e| {
            bad(format!(
                "`{name}` is not base64 ({e}): send the content of the file in base64, not its path or address"
            ))
        })?;
        self.content(name, bytes)
    }

    /// The sample of a form, each field a modality.
    ///
    /// # Errors
    /// A form that is broken off, or a field that is no modality.
    pub(super) async fn multipart(&self, request: Request) -> Result<Asked, Refusal> {
        let broken = |what: String| bad(format!("the form cannot be read ({what}): send it as `curl -F` does"));
        let mut form = Multipart::from_request(request, &()).await.map_err(|e| broken(e.body_text()))?;
        let (mut id, mut parts) = (None, Parts::new());
        while let Some(field) = form.next_field().await.map_err(|e| broken(e.body_text()))? {
            let name = field.name().unwrap_or_default().to_owned();
            let bytes = field.bytes().await.map_err(|e| broken(e.body_text()))?;
            let text = |bytes: &[u8]| {
                let text = String::from_utf8(bytes.to_vec());
                text.map_err(|_| bad(format!("`{name}` is not UTF-8: send it in that encoding")))
            };
            if name == "id" {
                id = Some(Value::from(text(&bytes)?));
                continue;
            }
            let source = match self.modality(&name)?.inline {
                true => Source::Text(text(&bytes)?),
                // A form's field of a file that was not chosen.
                false if bytes.is_empty() => continue,
                false => self.content(&name, bytes.to_vec())?,
            };
            if parts.insert(name.clone(), source).is_some() {
                return Err(bad(format!("`{name}` comes twice: send one sample a form, or a list in JSON")));
            }
        }
        Ok(Asked { id, parts: Ok(parts) })
    }

    fn modality(&self, name: &str) -> Result<&'static Modality, Refusal> {
        let found = self.reads.iter().copied().find(|modality| modality.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.reads.iter().map(|modality| modality.name).collect();
            let message = format!("the model reads no `{name}`: leave it out; it reads {}", known.join(", "));
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        })
    }

    /// The content of a file, once it is known to be no bomb.
    fn content(&self, name: &str, bytes: Vec<u8>) -> Result<Source, Refusal> {
        let reader = image::ImageReader::new(Cursor::new(&bytes)).with_guessed_format();
        if let Some((width, height)) = reader.ok().and_then(|reader| reader.into_dimensions().ok())
            && u64::from(width) * u64::from(height) > self.pixels
        {
            let most = self.pixels as f64 / 1e6;
            let message = format!(
                "`{name}` has {width} × {height} pixels, more than {most} million: send it smaller, or start the server with a \
                 larger --max-pixels"
            );
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        Ok(Source::Bytes(bytes.into()))
    }

    /// A sample in JSON.
    pub(super) fn example(&self) -> String {
        let value = |modality: &&Modality| if modality.inline { "a text" } else { "base64 of a file" };
        let fields = self.reads.iter().map(|modality| format!("\"{}\": \"{}\"", modality.name, value(modality)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Multipart,
}

/// The encoding of a request's body.
///
/// # Errors
/// A content type that is not read.
pub(super) fn encoding(request: &Request) -> Result<Encoding, Refusal> {
    let sent = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => Ok(Encoding::Json),
        "multipart/form-data" => Ok(Encoding::Multipart),
        other => {
            let sent =
                if other.is_empty() { "there is no Content-Type".to_owned() } else { format!("`{other}` is not read") };
            let message = format!("{sent}: send application/json or multipart/form-data");
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}
