//! The document says what validation holds bodies to: read off the rules at the fields, so that the two cannot differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use syn::punctuated::Punctuated;
use syn::{Expr, Field, GenericArgument, Item, ItemStruct, Lit, Meta, MetaList, PathArguments, Token, Type};
use tenantry::testing::TestApp;

use crate::arrows::rust_files;

/// No control characters.
const NAME: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// And something to see.
const SHOWN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

/// What a rule of our own means in JSON Schema.
fn own(rule: &str) -> Value {
    match rule {
        "email_shape" => json!({"format": "email", "maxLength": 254}),
        "name_shape" => json!({"pattern": NAME}),
        "not_blank" => json!({"pattern": SHOWN}),
        "language_shape" => json!({"pattern": "^[a-z]{2}$"}),
        "client_secret_shape" => json!({"maxLength": 4000}),
        "slug_shape" => json!({"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}),
        other => panic!("say what the rule `{other}` means in JSON Schema, here in tests/it/http/bounds.rs"),
    }
}

/// What stands in the angle brackets of a type with this name.
fn inside<'t>(kind: &'t Type, names: &[&str]) -> Option<&'t Type> {
    let Type::Path(path) = kind else { return None };
    let last = path.path.segments.last().filter(|last| names.iter().any(|name| last.ident == name))?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    })
}

fn present(kind: &Type) -> &Type {
    inside(kind, &["Option", "Patch"]).unwrap_or(kind)
}

fn member(kind: &Type) -> Option<&Type> {
    inside(kind, &["Vec", "BTreeSet", "HashSet"])
}

fn rules(list: &MetaList) -> Vec<Meta> {
    let all = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    all.map(|all| all.into_iter().collect()).unwrap_or_default()
}

/// The numbers of `length(chars, min = 1, max = 64)`.
fn numbers(list: &MetaList) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for rule in rules(list) {
        if let Meta::NameValue(pair) = rule
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Int(number) = &literal.lit
        {
            let name = pair.path.get_ident().map(ToString::to_string).unwrap_or_default();
            found.insert(name, number.base10_parse().expect("a number"));
        }
    }
    found
}

/// What rules say of a value of this type.
fn bounds(kind: &Type, all: &[Meta]) -> Map<String, Value> {
    let mut said = Map::new();
    for rule in all {
        let name = rule.path().get_ident().map(ToString::to_string).unwrap_or_default();
        let Meta::List(list) = rule else {
            if name == "email" {
                said.insert("format".into(), json!("email"));
            }
            continue;
        };
        match name.as_str() {
            "length" => {
                let of = if member(present(kind)).is_some() { "Items" } else { "Length" };
                said.extend(numbers(list).into_iter().map(|(which, number)| (format!("{which}{of}"), json!(number))));
            }
            "range" => {
                said.extend(numbers(list).into_iter().map(|(which, number)| (format!("{which}imum"), json!(number))));
            }
            "custom" => said.extend(own(&list.tokens.to_string()).as_object().expect("an object").clone()),
            "inner" => match member(kind) {
                Some(member) => {
                    said.insert("items".into(), Value::Object(bounds(member, &rules(list))));
                }
                None => said.extend(bounds(present(kind), &rules(list))),
            },
            other => panic!("say what the rule `{other}` means in JSON Schema, here in tests/it/http/bounds.rs"),
        }
    }
    said
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(1.min(word.len()));
        name + &head.to_uppercase() + tail
    })
}

fn of_field(field: &Field) -> Map<String, Value> {
    let garde = field.attrs.iter().filter(|attribute| attribute.path().is_ident("garde"));
    let lists = garde.filter_map(|attribute| attribute.meta.require_list().ok());
    lists.flat_map(|list| bounds(&field.ty, &rules(list))).collect()
}

fn derives(found: &ItemStruct, name: &str) -> bool {
    let derive = found.attrs.iter().filter(|attribute| attribute.path().is_ident("derive"));
    derive
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .any(|list| rules(list).iter().any(|meta| meta.path().segments.last().is_some_and(|last| last.ident == name)))
}

fn of_struct(found: &ItemStruct) -> Map<String, Value> {
    let mut properties = Map::new();
    for field in &found.fields {
        let said = of_field(field);
        if let Some(name) = field.ident.as_ref().filter(|_| !said.is_empty()) {
            properties.insert(camel(&name.to_string()), Value::Object(said));
        }
    }
    properties
}

/// By schema and property.
fn written_at_the_fields() -> Map<String, Value> {
    let mut files = Vec::new();
    rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut schemas = Map::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable source file");
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for item in parsed.items {
            if let Item::Struct(found) = item
                && derives(&found, "Validate")
                && derives(&found, "ToSchema")
            {
                let properties = of_struct(&found);
                if !properties.is_empty() {
                    let before = schemas.insert(found.ident.to_string(), Value::Object(properties));
                    assert_eq!(before, None, "two schemas are called {}", found.ident);
                }
            }
        }
    }
    // In the order of their names, whatever the order of the files is.
    schemas.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn holds(said: &Value, bound: &Value) -> bool {
    match bound.as_object() {
        Some(members) => members.iter().all(|(member, value)| holds(&said[member], value)),
        None => said == bound,
    }
}

#[actix_web::test]
async fn the_document_says_what_validation_asks() {
    let bounds = written_at_the_fields();
    assert!(bounds.len() > 30, "only {} schemas have bounds: is the reader broken?", bounds.len());
    let written = format!("{}\n", serde_json::to_string_pretty(&bounds).expect("JSON"));
    let kept = include_str!("../../../src/http/openapi_bounds.json");
    if written != kept {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi_bounds.json");
        fs::write(&fresh, &written).expect("a file of the test's own");
        panic!("the rules have changed: cp {} src/http/openapi_bounds.json", fresh.display());
    }
    let document = TestApp::shared().await.anonymous().get("/openapi.json").await.expect(200).body;
    let schemas = &document["components"]["schemas"];
    let mut wrong = Vec::new();
    for (schema, properties) in &bounds {
        for (property, bound) in properties.as_object().expect("properties") {
            let said = &schemas[schema]["properties"][property];
            if !holds(said, bound) {
                wrong.push(format!("{schema}.{property}: {said} does not say {bound}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
