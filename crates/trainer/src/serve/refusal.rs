//! Why a request is not answered.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// A status, and one line that names the fix.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// What the sample is called.
    pub(super) id: Option<Value>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), id: None }
    }

    /// As an item of a list.
    pub(super) fn item(self) -> Refused {
        Refused { error: self.message, status: self.status.as_u16(), id: self.id }
    }
}

/// A sample of a list that is not answered.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    error: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.message}))).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
