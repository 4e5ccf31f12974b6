//! JSON Lines: one object on each line, of which one field holds the text. Blank lines are skipped.

use serde_json::{Map, Value};

use super::Documents;
use super::lines::Lines;
use crate::error::DocumentError;

pub(super) struct JsonLinesDocuments {
    lines: Lines,
    field: String,
}

impl JsonLinesDocuments {
    pub(super) fn new(lines: Lines, field: &str) -> Self {
        Self {
            lines,
            field: field.to_owned(),
        }
    }

    fn not_json(&self, error: &serde_json::Error) -> DocumentError {
        let position = format!(" at line {} column {}", error.line(), error.column());
        let reason = error.to_string();
        DocumentError::Json {
            path: self.lines.path().to_owned(),
            line: self.lines.number(),
            column: error.column(),
            reason: reason.strip_suffix(&position).unwrap_or(&reason).to_owned(),
        }
    }

    /// The text of an object, or `None` where it is null.
    fn text(&self, mut object: Map<String, Value>) -> Result<Option<String>, DocumentError> {
        match object.remove(&self.field) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(other) => Err(DocumentError::FieldNotText {
                path: self.lines.path().to_owned(),
                line: self.lines.number(),
                field: self.field.clone(),
                found: kind_of(&other),
            }),
            None => Err(DocumentError::NoField {
                path: self.lines.path().to_owned(),
                line: self.lines.number(),
                field: self.field.clone(),
                found: object.into_iter().map(|(name, _)| name).collect(),
            }),
        }
    }
}

impl Documents for JsonLinesDocuments {
    fn next_document(&mut self) -> Result<Option<String>, DocumentError> {
        while let Some(line) = self.lines.next_line()? {
            if line.trim().is_empty() {
                continue;
            }
            let object = match serde_json::from_str(line) {
                Ok(Value::Object(object)) => object,
                Ok(other) => {
                    return Err(DocumentError::NotAnObject {
                        path: self.lines.path().to_owned(),
                        line: self.lines.number(),
                        found: kind_of(&other),
                    });
                }
                Err(error) => return Err(self.not_json(&error)),
            };
            if let Some(text) = self.text(object)?
                && !text.trim().is_empty()
            {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn share_read(&self) -> f64 {
        self.lines.share_read()
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
