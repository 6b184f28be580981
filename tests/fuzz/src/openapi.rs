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

/// The keywords of a schema that [`fits`] checks, and those that allow every value.
const KEYWORDS: [&str; 15] = [
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "examples",
    "format",
    "items",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
];

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
        let mut siblings = self.value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        assert!(
            siblings.all(|name| ["$ref", "description"].contains(&name)),
            "this check ignores what stands beside $ref: {}",
            self.value
        );
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

/// Whether the value has the type that a schema names.
fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => panic!("this check does not know the type {name}"),
    }
}

/// Whether the schema allows the value. If `is_whole`, it may only have properties that the schema describes.
///
/// # Panics
/// If the schema has a keyword that this check does not know.
fn fits(schema: Node<'_>, value: &Value, is_whole: bool) -> Result<(), String> {
    for name in schema.value.as_object().expect("a schema is an object").keys() {
        assert!(KEYWORDS.contains(&name.as_str()), "this check does not know {name} in {}", schema.value);
    }
    let wrong = |what: &str| Err(format!("{value} is not {what}"));
    let is_of_type = match schema.value.get("type") {
        Some(Value::Array(types)) => types.iter().any(|name| has_type(value, name)),
        Some(name) => has_type(value, name),
        None => true,
    };
    if !is_of_type {
        return wrong(&format!("of the type {}", schema.value["type"]));
    }
    if let Some(text) = value.as_str() {
        match schema.value.get("format").map(|format| format.as_str().expect("a format is a text")) {
            Some("uuid") if text.len() != 36 || uuid::Uuid::try_parse(text).is_err() => {
                return wrong("a UUID");
            }
            Some("date-time") if OffsetDateTime::parse(text, &Rfc3339).is_err() => return wrong("a time"),
            None | Some("uuid" | "date-time") => {}
            Some(format) => panic!("this check does not know the format {format}"),
        }
        if let Some(pattern) = schema.value.get("pattern") {
            let prefix =
                pattern.as_str().and_then(|pattern| pattern.strip_prefix('^')?.strip_suffix("[a-z_]+$"));
            let prefix = prefix.unwrap_or_else(|| panic!("this check does not know the pattern {pattern}"));
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            if !text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_plain)) {
                return wrong("as its pattern says");
            }
        }
    }
    let bound =
        |name: &str| schema.value.get(name).map(|bound| bound.as_i64().expect("a bound is an integer"));
    let number = value.as_i64();
    let length = value.as_str().map(|text| text.chars().count() as i64);
    if bound("minimum").is_some_and(|minimum| number.is_some_and(|number| number < minimum))
        || bound("maximum").is_some_and(|maximum| number.is_some_and(|number| number > maximum))
        || bound("minLength").is_some_and(|minimum| length.is_some_and(|length| length < minimum))
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
