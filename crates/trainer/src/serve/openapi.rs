//! `/openapi.json`: what the server understands, for a machine to read.

use balgrad_data::{Modality, Task};
use serde_json::{Map, Value, json};

use super::Limits;

/// The document, by OpenAPI 3.1.
pub(super) fn document(reads: &[&'static Modality], task: Task, limits: &Limits) -> Value {
    let json_part = |m: &&&Modality| {
        let encoding = if m.inline { json!({}) } else { json!({"contentEncoding": "base64"}) };
        part(m, encoding)
    };
    let form_part = |m: &&&Modality| {
        let encoding = if m.inline { json!({}) } else { json!({"contentMediaType": "application/octet-stream"}) };
        part(m, encoding)
    };
    let sample = |part: &dyn Fn(&&&Modality) -> Value, nullable: bool| {
        let field = |m: &&Modality| {
            let part = part(&m);
            (m.name.to_owned(), if nullable { with(part, "type", json!(["string", "null"])) } else { part })
        };
        let mut fields: Map<String, Value> = reads.iter().map(field).collect();
        fields.insert("id".to_owned(), json!({"description": "Comes back with the answer."}));
        json!({"type": "object", "properties": fields, "additionalProperties": false,
               "description": "A modality that is left out is missing."})
    };
    let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let body = |schema: Value| json!({"content": {"application/json": {"schema": schema}}});
    let described = |about: &str, body: Value| with(body, "description", about.into());
    let mut responses = Map::new();
    let answers = json!({"oneOf": [of("Answer"), {"type": "array", "items": {"oneOf": [of("Answer"), of("Error")]}}]});
    responses.insert("200".to_owned(), described("An answer, or for a list one of each sample.", body(answers)));
    let errors = [
        (400, "A body that is not JSON, not a form, or not base64."),
        (408, "A body that did not arrive in time."),
        (413, "A body or an image that is too large, or a list that is too long."),
        (415, "Another content type."),
        (422, "A file that cannot be decoded, or a modality that the model does not read."),
        (429, "Too many samples are waiting: try again."),
        (500, "The model failed."),
        (503, "No answer in time, or the server is stopping."),
    ];
    responses.extend(errors.map(|(status, about)| (status.to_string(), described(about, body(of("Error"))))));
    let get = |about: &str, kind: &str| json!({"get": {"summary": about, "responses": {"200": {"description": about, "content": {kind: {}}}}}});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "BalGrad",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Predictions of a multimodal {} model. A body has at most {} MiB, an image {} million pixels.",
                task.name(), limits.body >> 20, limits.pixels / 1_000_000,
            ),
        },
        "paths": {
            "/predict": {"post": {
                "summary": "Predicts for a sample, or for a list of samples.",
                "requestBody": {"required": true, "content": {
                    "application/json": {"schema": {"oneOf": [of("Sample"), {"type": "array", "items": of("Sample"), "maxItems": limits.waiting}]}},
                    "multipart/form-data": {"schema": of("Form")},
                }},
                "responses": responses,
            }},
            "/health": get("Whether the server is ready, and what it reads.", "application/json"),
            "/metrics": get("Counters for Prometheus.", "text/plain"),
            "/openapi.json": get("This document.", "application/json"),
            "/": get("A page to try the model.", "text/html"),
        },
        "components": {"schemas": {
            "Sample": sample(&json_part, true),
            "Form": sample(&form_part, false),
            "Answer": answer(reads, task),
            "Error": {"type": "object", "required": ["error"], "properties": {
                "error": {"type": "string", "description": "One line that names the fix."},
                "status": {"type": "integer", "description": "Of an item of a list."},
                "id": {},
            }},
        }},
    })
}

fn part(modality: &Modality, schema: Value) -> Value {
    with(with(schema, "type", "string".into()), "description", modality.about.into())
}

/// An object with one more field.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
    object
}

fn answer(reads: &[&'static Modality], task: Task) -> Value {
    let names: Vec<&str> = reads.iter().map(|m| m.name).collect();
    let labels = json!({"type": "array", "items": {"type": "string"}});
    let numbers = json!({"type": "object", "additionalProperties": {"type": "number"}});
    let view = if task == Task::Regression {
        json!({"type": ["object", "null"], "properties": {"values": {"type": "array", "items": {"type": "number"}}}})
    } else {
        json!({"type": ["object", "null"], "properties": {"labels": labels, "confidence": {"type": "number"}}})
    };
    let views: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), view.clone())).collect();
    json!({"type": "object", "required": ["labels", "probs", "got", "views", "confidence", "abstained"], "properties": {
        "labels": labels,
        "probs": numbers,
        "calibrated": numbers,
        "got": {"type": "array", "items": {"enum": names}},
        "views": {"type": "object", "properties": views},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "abstained": {"type": "boolean"},
        "id": {},
    }})
}
