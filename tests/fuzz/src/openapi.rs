//! The responses that the API descriptions allow.

use std::sync::LazyLock;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `infra/openapi.yaml` and `infra/openapi-webhooks.yaml`.
static DOCUMENTS: LazyLock<[Value; 2]> = LazyLock::new(|| {
    [include_str!("../../../infra/openapi.yaml"), include_str!("../../../infra/openapi-webhooks.yaml")]
        .map(|text| serde_saphyr::from_str(text).expect("the description is YAML"))
});

/// A place in one of the documents.
#[derive(Clone, Copy)]
struct Node<'a> {
    document: usize,
    value: &'a Value,
}

/// Checks that the description of the route allows the response. `body` is `None` if there is none.
///
/// # Panics
/// If it does not.
pub(crate) fn check(method: &str, path: &str, status: u16, content_type: Option<&str>, body: Option<&Value>) {
    let operation = |document: usize| {
        let value = DOCUMENTS[document]["paths"].get(path)?.get(method)?;
        Some(Node { document, value })
    };
    let operation = operation(0).or(operation(1)).expect("the route is described");
    let response = operation.get("responses").and_then(|responses| responses.get(&status.to_string()));
    let response = response.unwrap_or_else(|| panic!("{method} {path} cannot respond {status}: {body:?}"));
    let Some(body) = body else {
        assert!(response.get("content").is_none(), "{method} {path} responds {status} without a body");
        return;
    };
    let content_type = content_type.expect("a body has a type");
    let content = response.get("content").and_then(|content| content.get(content_type));
    let schema = content.and_then(|content| content.get("schema"));
    let schema = schema.unwrap_or_else(|| panic!("{method} {path} cannot respond {status} {content_type}"));
    if let Err(error) = fits(schema, body, true) {
        panic!("{method} {path} {status}: {error} in {body}");
    }
}

impl<'a> Node<'a> {
    fn get(self, name: &str) -> Option<Self> {
        self.value.get(name).map(|value| Self { value, ..self }.resolved())
    }

    fn each(self, name: &str) -> impl Iterator<Item = Self> {
        let values = self.value[name].as_array().into_iter().flatten();
        values.map(move |value| Self { value, ..self }.resolved())
    }

    fn resolved(self) -> Self {
        let Some(reference) = self.value["$ref"].as_str() else { return self };
        let (file, pointer) = reference.split_once('#').expect("a reference has a pointer");
        let document = if file.is_empty() { self.document } else { 0 };
        let value = DOCUMENTS[document].pointer(pointer).expect("the reference leads somewhere");
        Self { document, value }.resolved()
    }

    /// The properties that the schema describes.
    fn names(self) -> Vec<&'a str> {
        let own = self.value["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        own.chain(self.each("allOf").flat_map(Self::names)).collect()
    }
}

/// Whether the schema allows the value. If `is_whole`, it may only have properties that the schema describes.
fn fits(schema: Node<'_>, value: &Value, is_whole: bool) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{value} is not {what}"));
    match schema.value["type"].as_str() {
        Some("object") if !value.is_object() => return wrong("an object"),
        Some("array") if !value.is_array() => return wrong("an array"),
        Some("string") if !value.is_string() => return wrong("a string"),
        Some("integer") if !value.is_i64() && !value.is_u64() => return wrong("an integer"),
        Some("null") if !value.is_null() => return wrong("null"),
        _ => {}
    }
    let text = value.as_str().unwrap_or_default();
    match schema.value["format"].as_str() {
        Some("uuid") if text.len() != 36 || uuid::Uuid::try_parse(text).is_err() => return wrong("a UUID"),
        Some("date-time") if OffsetDateTime::parse(text, &Rfc3339).is_err() => return wrong("a time"),
        _ => {}
    }
    if let Some(prefix) = schema.value["pattern"].as_str().and_then(|pattern| pattern.strip_prefix('^')) {
        let prefix = prefix.strip_suffix("[a-z_]+$").expect("a pattern that this check knows");
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if !text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain)) {
            return wrong("as its pattern says");
        }
    }
    let number = value.as_i64();
    if schema.value["minimum"].as_i64().is_some_and(|minimum| number.is_some_and(|number| number < minimum))
        || schema.value["maximum"]
            .as_i64()
            .is_some_and(|maximum| number.is_some_and(|number| number > maximum))
        || schema.value["minLength"].as_u64().is_some_and(|length| (text.len() as u64) < length)
    {
        return wrong("within its bounds");
    }
    if let Some(values) = schema.value["enum"].as_array()
        && !values.contains(value)
    {
        return wrong("one of the values");
    }
    for name in schema.each("required").filter_map(|name| name.value.as_str()) {
        if value.get(name).is_none() {
            return Err(format!("{name} is missing"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        schema.get("items").map_or(Ok(()), |items| fits(items, item, true))?;
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        if let Some(property) = schema.get("properties").and_then(|properties| properties.get(name)) {
            fits(property, member, true)?;
        }
    }
    schema.each("allOf").try_for_each(|part| fits(part, value, false))?;
    let mut choices = schema.each("anyOf").peekable();
    if choices.peek().is_some() {
        return choices.map(|choice| fits(choice, value, true)).reduce(Result::or).unwrap_or(Ok(()));
    }
    let names = schema.names();
    let unknown = value.as_object().into_iter().flatten().find(|(name, _)| !names.contains(&name.as_str()));
    match unknown.filter(|_| is_whole) {
        Some((name, _)) => Err(format!("{name} is not described")),
        None => Ok(()),
    }
}
