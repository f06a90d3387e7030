//! The operations that the application says it has, and requests made up from their schemas.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Map, Value, json};
use tenantry::testing::TestApp;

/// One operation of `/openapi.json`.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// With its parameters in braces.
    pub(crate) path: String,
    body: Option<(String, Value)>,
}

/// The document.
pub(crate) struct OpenApi(pub(crate) Value);

/// How often a schema may refer to a schema.
const DEPTH: usize = 8;

impl OpenApi {
    pub(crate) async fn of(app: &TestApp) -> Self {
        Self(app.anonymous().get("/openapi.json").await.expect(200).body)
    }

    /// Every operation under `/api/v1`, by path and method.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let found = self.under("/api/v1/");
        assert!(found.len() > 20, "only {} operations under /api/v1", found.len());
        found
    }

    /// What directories call.
    pub(crate) fn directory_operations(&self) -> Vec<Operation> {
        let found = self.under("/scim/v2/");
        assert!(found.len() > 10, "only {} operations under /scim/v2", found.len());
        found
    }

    fn under(&self, prefix: &str) -> Vec<Operation> {
        let mut found = Vec::new();
        let paths = self.0["paths"].as_object().expect("paths");
        for (path, item) in paths.iter().filter(|(path, _)| path.starts_with(prefix)) {
            for (method, operation) in item.as_object().expect("a path's operations") {
                let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
                if ["get", "post", "put", "patch", "delete"].contains(&method.as_str().to_lowercase().as_str()) {
                    let content = operation["requestBody"]["content"].as_object();
                    let body = content.and_then(|types| types.iter().next());
                    let body = body.map(|(name, of)| (name.clone(), of["schema"].clone()));
                    found.push(Operation { method, path: path.clone(), body });
                }
            }
        }
        found
    }

    /// The parameters that an operation's query takes.
    pub(crate) fn query(&self, operation: &Operation) -> Vec<String> {
        let method = operation.method.as_str().to_lowercase();
        let parameters = self.0["paths"][&operation.path][&method]["parameters"].as_array().into_iter().flatten();
        let of_query = parameters.filter(|parameter| parameter["in"] == "query");
        of_query.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect()
    }

    /// Whether the operation answers a page of a list.
    pub(crate) fn is_list(&self, operation: &Operation) -> bool {
        let method = operation.method.as_str().to_lowercase();
        let answer = &self.0["paths"][&operation.path][&method]["responses"]["200"]["content"]["application/json"];
        answer["schema"]["$ref"].as_str().is_some_and(|schema| schema.contains("/ListEnvelope"))
    }

    /// A body that the operation's schema allows: whatever is required or has an example. `ids` fills what is named so.
    pub(crate) fn body(&self, operation: &Operation, ids: &BTreeMap<String, String>) -> Option<(String, Value)> {
        operation.body.as_ref().map(|(name, schema)| (name.clone(), self.example(schema, "", ids, DEPTH)))
    }

    fn example(&self, schema: &Value, name: &str, ids: &BTreeMap<String, String>, depth: usize) -> Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let at = reference.trim_start_matches('#');
            let target = self.0.pointer(at).unwrap_or_else(|| panic!("{reference} leads nowhere"));
            return if depth == 0 { Value::Null } else { self.example(target, name, ids, depth - 1) };
        }
        if let Some(id) = ids.get(name) {
            return json!(id);
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        for several in ["allOf", "oneOf", "anyOf"] {
            if let Some(first) = schema[several].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"))
            {
                return self.example(first, name, ids, depth);
            }
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or(Value::Null),
            kind => kind.clone(),
        };
        match kind.as_str() {
            Some("object") => self.object(schema, ids, depth),
            Some("array") => json!([]),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("boolean") => json!(false),
            _ => json!(text(name, schema["format"].as_str().unwrap_or_default())),
        }
    }

    fn object(&self, schema: &Value, ids: &BTreeMap<String, String>, depth: usize) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut made = Map::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            if required.contains(&name.as_str()) || property.get("example").is_some() {
                made.insert(name.clone(), self.example(property, name, ids, depth));
            }
        }
        Value::Object(made)
    }
}

fn text(name: &str, format: &str) -> String {
    match (name, format) {
        (_, "email") | ("email", _) => format!("{}@example.com", super::unique("somebody")),
        (_, "uuid") => "01890000-0000-7000-8000-000000000000".into(),
        (_, "date-time") => "2026-01-01T00:00:00Z".into(),
        (_, "password") => "correct horse battery staple".into(),
        _ => "example".into(),
    }
}

impl Operation {
    /// `GET /api/v1/users/{id}`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether directories call it, with tokens of their own and errors of another shape.
    pub(crate) fn is_of_directories(&self) -> bool {
        self.path.starts_with("/scim/")
    }

    /// Whether it is an operators' one.
    pub(crate) fn is_admin(&self) -> bool {
        self.path.starts_with("/api/v1/admin/")
    }

    /// The segment before each parameter, and the parameter: `[("users", "id"), ("roles", "roleId")]`.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let segments: Vec<&str> = self.path.split('/').collect();
        let mut found = Vec::new();
        for pair in segments.windows(2) {
            if let Some(name) = pair[1].strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                found.push((pair[0].to_owned(), name.to_owned()));
            }
        }
        found
    }

    /// The path with its parameters filled in.
    ///
    /// # Panics
    /// If a parameter is not known: a new route is not forgotten.
    pub(crate) fn fill(&self, ids: &BTreeMap<String, String>) -> String {
        let mut path = self.path.clone();
        for (of, name) in self.parameters() {
            let found = ids.get(&format!("{of}/{name}")).map(String::as_str);
            // What operators alone name, no tenant has one of: whoever comes with a tenant's token never gets that far.
            let id = found.or_else(|| self.is_admin().then_some("01890000-0000-7000-8000-000000000000"));
            let id = id.unwrap_or_else(|| {
                panic!(
                    "{}: the matrix has no object for `{{{name}}}` of `{of}`. Make one for each tenant in \
                     `Party::new` of tests/it/support/matrix.rs, and give its id the name `{of}/{name}`.",
                    self.name()
                )
            });
            path = path.replacen(&format!("{{{name}}}"), id, 1);
        }
        path
    }
}
