//! Which columns a file has, and what their fields mean.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};

use crate::layouts::labels::class_at;
use crate::layouts::{Answer, Part};

const IMAGES: &[&str] = &["image", "img", "images", "picture", "photo", "image_bytes", "jpg", "png"];
const TEXTS: &[&str] = &["text", "caption", "title", "sentence", "description"];
const LABELS: &[&str] = &["label", "labels", "genres", "category", "class", "target"];

/// The names of the columns that are read.
pub(super) struct Columns {
    pub(super) image: Option<String>,
    pub(super) text: Option<String>,
    pub(super) label: String,
    pub(super) id: Option<String>,
    pub(super) split: Option<String>,
    /// What was decided, in words.
    pub(super) note: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Picture,
    Bytes,
    Other,
}

/// What a column holds, and whether lists of it.
fn kind(field: &Type) -> (Kind, bool) {
    let info = field.get_basic_info();
    if let Type::PrimitiveType { physical_type, .. } = field {
        let text = matches!(info.converted_type(), ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON)
            || matches!(info.logical_type_ref(), Some(LogicalType::String));
        let kind = match physical_type {
            Physical::BYTE_ARRAY if text => Kind::Text,
            Physical::BYTE_ARRAY => Kind::Bytes,
            _ => Kind::Other,
        };
        return (kind, info.has_repetition() && info.repetition() == Repetition::REPEATED);
    }
    let fields = field.get_fields();
    if info.converted_type() == ConvertedType::LIST
        && let [repeated] = fields
    {
        let element = match repeated.as_ref() {
            Type::GroupType { fields, .. } if fields.len() == 1 => &fields[0],
            _ => repeated,
        };
        return (kind(element).0, true);
    }
    let picture = fields.iter().any(|f| f.name() == "bytes");
    (if picture { Kind::Picture } else { Kind::Other }, false)
}

impl Columns {
    /// Picks from a schema's columns; an error says what is missing.
    pub(super) fn of(fields: &[TypePtr]) -> Result<Self, String> {
        let all = || fields.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
        let field = |name: &str| fields.iter().find(|f| f.name() == name);
        let known = |names: &[&str]| names.iter().find(|n| field(n).is_some()).map(|n| (*n).to_owned());
        let Some(label) = known(LABELS) else {
            return Err(format!("no label column ({}); found: {}", LABELS.join(", "), all()));
        };
        let (id, split) = (known(&["id"]), known(&["split"]));
        let pictured = || fields.iter().find(|f| kind(f).0 == Kind::Picture).map(|f| f.name().to_owned());
        let image = known(IMAGES).or_else(pictured);
        let taken = [Some(&label), id.as_ref(), split.as_ref(), image.as_ref()];
        let free = |f: &&TypePtr| !taken.iter().flatten().any(|n| *n == f.name()) && kind(f).0 == Kind::Text;
        let words = |f: &TypePtr| f.name().to_lowercase();
        let named = || fields.iter().filter(free).find(|f| TEXTS.iter().any(|t| words(f).contains(t)));
        let place = |f: &TypePtr| words(f).split('_').any(|w| ["id", "path", "file", "filename", "url"].contains(&w));
        let rest: Vec<&TypePtr> = fields.iter().filter(free).filter(|f| !place(f)).collect();
        let only = || if let [only] = rest[..] { Some(only) } else { None };
        let text = known(TEXTS).or_else(|| named().or_else(only).map(|f| f.name().to_owned()));
        let told = |what: &str, name: &Option<String>, names: &[&str]| match name {
            None => format!("no {what} ({})", names.join(", ")),
            Some(name) if field(name).is_some_and(|f| kind(f).1) => format!("{what} `{name}` (the first of each list)"),
            Some(name) => format!("{what} `{name}`"),
        };
        let read = [Some(&label), id.as_ref(), split.as_ref(), image.as_ref(), text.as_ref()];
        let unread: Vec<&str> =
            fields.iter().map(|f| f.name()).filter(|n| !read.iter().flatten().any(|r| r == n)).collect();
        let note = format!(
            "columns read: {}, {}, label `{label}`{}{}",
            told("image", &image, &IMAGES[..2]),
            told("text", &text, TEXTS),
            if split.is_some() { ", split `split`" } else { "" },
            if unread.is_empty() { String::new() } else { format!("; not read: {}", unread.join(", ")) }
        );
        Ok(Self { image, text, label, id, split, note })
    }

    /// Whether a column is read.
    pub(super) fn has(&self, name: &str) -> bool {
        let columns = [&self.image, &self.text, &self.id, &self.split];
        self.label == name || columns.into_iter().flatten().any(|c| c == name)
    }
}

/// A row's field, where it is not null.
pub(super) fn field<'a>(row: &'a Row, name: &str) -> Option<&'a Field> {
    row.get_column_iter().find(|(n, _)| *n == name).map(|(_, f)| f).filter(|f| !matches!(f, Field::Null))
}

/// A text or a whole number as text; of a list the first.
pub(super) fn word(field: &Field) -> Result<Option<String>, String> {
    Ok(match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes.data());
            Some(text.map_err(|e| format!("the text is not UTF-8 from byte {} on", e.valid_up_to()))?.to_owned())
        }
        Field::ListInternal(list) => list.elements().first().map_or(Ok(None), word)?,
        other => number(other).map(|n| n.to_string()),
    })
}

fn number(field: &Field) -> Option<i128> {
    Some(match field {
        Field::Bool(v) => i128::from(*v),
        Field::Byte(v) => i128::from(*v),
        Field::Short(v) => i128::from(*v),
        Field::Int(v) => i128::from(*v),
        Field::Long(v) => i128::from(*v),
        Field::UByte(v) => i128::from(*v),
        Field::UShort(v) => i128::from(*v),
        Field::UInt(v) => i128::from(*v),
        Field::ULong(v) => i128::from(*v),
        _ => return None,
    })
}

fn decimal(field: &Field) -> Option<f32> {
    match field {
        Field::Float16(v) => Some(v.to_f32()),
        Field::Float(v) => Some(*v),
        Field::Double(v) => Some(*v as f32),
        _ => None,
    }
}

/// An image column: bytes, else a path relative to the data folder; of a list the first.
pub(super) fn picture(field: &Field) -> Option<Part> {
    match field {
        Field::Bytes(bytes) => Some(Part::Bytes(bytes.data().to_vec())),
        Field::Str(path) => Some(Part::Path(path.clone())),
        Field::Group(group) => {
            self::field(group, "bytes").and_then(picture).or_else(|| self::field(group, "path").and_then(picture))
        }
        Field::ListInternal(list) => list.elements().first().and_then(picture),
        _ => None,
    }
}

/// Classes by name or number, or decimals, which may yet turn out to be classes ([`whole_numbers`]).
pub(super) fn answer(field: &Field, names: Option<&[String]>) -> Result<Answer, String> {
    if let Field::ListInternal(list) = field {
        let elements = list.elements();
        return match elements.iter().map(decimal).collect::<Option<Vec<f32>>>() {
            Some(values) if !values.is_empty() => Ok(Answer::Values(values)),
            _ => elements.iter().map(|f| class(f, names)).collect::<Result<_, _>>().map(Answer::Classes),
        };
    }
    match decimal(field) {
        Some(value) if value.is_nan() => Err("no label: it is not a number".to_owned()),
        Some(value) => Ok(Answer::Values(vec![value])),
        None => Ok(Answer::Classes(vec![class(field, names)?])),
    }
}

fn class(field: &Field, names: Option<&[String]>) -> Result<String, String> {
    match number(field) {
        Some(n) => numbered(n, names),
        None => match field {
            Field::Str(_) | Field::Bytes(_) => word(field).map(Option::unwrap_or_default),
            Field::Null => Err("an empty entry among the labels".to_owned()),
            _ => Err("the label is neither a text nor a number".to_owned()),
        },
    }
}

/// The class of a number, which is its own name where classes have none.
pub(super) fn numbered(n: i128, names: Option<&[String]>) -> Result<String, String> {
    match names {
        None => Ok(n.to_string()),
        Some(_) if n == -1 => Err("no label: it is -1".to_owned()),
        Some(names) => class_at(n, names),
    }
}

/// The names of a label column's classes, in the metadata that the hub's library writes.
pub(super) fn class_names(metadata: &str, label: &str) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_str(metadata).ok()?;
    let feature = &json["info"]["features"][label];
    let names = feature["names"].as_array().or_else(|| feature["feature"]["names"].as_array())?;
    let names: Vec<String> = names.iter().filter_map(|n| n.as_str().map(str::to_owned)).collect();
    (!names.is_empty()).then_some(names)
}
