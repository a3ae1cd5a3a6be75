//! What a client joins with.

use herenow_protocol::Payload;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::outcome::Refused;

/// The payload of a join.
#[derive(Debug, Clone)]
pub struct Params(Payload);

impl Params {
    pub(crate) fn new(payload: Payload) -> Self {
        Self(payload)
    }

    /// Returns the payload as it came.
    pub fn payload(&self) -> &Payload {
        &self.0
    }

    /// Reads the whole payload into a type.
    ///
    /// # Errors
    ///
    /// A refusal that says what does not fit.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Refused> {
        match &self.0 {
            Payload::Json(text) => serde_json::from_slice(text)
                .map_err(|error| Refused::reason(format!("invalid params: {error}"))),
            Payload::Binary(_) => Err(Refused::reason("invalid params: not JSON")),
        }
    }

    /// Reads one field.
    ///
    /// # Errors
    ///
    /// A refusal that names the field if it is missing, null, or of another type.
    pub fn required<T: DeserializeOwned>(&self, field: &str) -> Result<T, Refused> {
        self.optional(field)?
            .ok_or_else(|| Refused::reason(format!("missing params: {field} is required")))
    }

    /// Reads one field; `None` if it is missing or null.
    ///
    /// # Errors
    ///
    /// A refusal that names the field if it is of another type.
    pub fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>, Refused> {
        let Payload::Json(text) = &self.0 else {
            return Ok(None);
        };
        // A payload that is no object has no fields.
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(text) else {
            return Ok(None);
        };
        let Some(value) = fields.get(field) else {
            return Ok(None);
        };
        serde_json::from_str(value.get())
            .map_err(|error| Refused::reason(format!("invalid params: {field}: {error}")))
    }
}

type Fields<'a> = std::collections::BTreeMap<std::borrow::Cow<'a, str>, &'a RawValue>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soc_04_params_name_the_field_that_does_not_fit() {
        let params = Params::new(Payload::from_static_json(
            r#"{"user":"ada","n":1,"x":null}"#,
        ));
        assert_eq!(params.required::<String>("user").unwrap(), "ada");
        assert_eq!(params.optional::<u32>("x").unwrap(), None);
        assert_eq!(params.optional::<u32>("y").unwrap(), None);
        let refused = params.required::<String>("n").unwrap_err();
        assert!(format!("{:?}", refused.0.unwrap()).starts_with("Json"));
        assert!(params.required::<String>("y").is_err());
        let list = Params::new(Payload::from_static_json("[1]"));
        assert!(list.required::<String>("user").is_err());
        assert_eq!(list.deserialize::<Vec<u8>>().unwrap(), [1]);
    }
}
