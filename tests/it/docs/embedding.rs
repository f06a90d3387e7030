//! `docs/embedding.md`: what an application of one's own writes into its manifest.

use std::fs;

use toml::{Table, Value};

use super::root;

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The version that a dependency names.
fn version(dependency: &Value) -> Option<&str> {
    dependency.as_str().or_else(|| dependency.get("version").and_then(Value::as_str))
}

fn features(dependency: &Value) -> Vec<&str> {
    let listed = dependency.get("features").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn an_embedder_is_told_the_dependencies_that_the_example_has() {
    let document = read("docs/embedding.md");
    let block = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of TOML");
    let told: Table = block.parse().expect("TOML");
    let told = told.get("dependencies").and_then(Value::as_table).expect("dependencies");
    let manifest: Table = read("Cargo.toml").parse().expect("TOML");
    let ours = manifest.get("dependencies").and_then(Value::as_table).expect("our dependencies");

    let unpublished =
        manifest.get("package").and_then(|package| package.get("publish")) == Some(&Value::Boolean(false));
    for (name, dependency) in told {
        if name == "tenantry" {
            assert_eq!(version(dependency).is_none(), unpublished, "a version is for what is on crates.io");
            continue;
        }
        let own = ours.get(name).unwrap_or_else(|| panic!("{name} is no dependency of ours"));
        assert_eq!(version(dependency), version(own), "{name}: two versions are two crates");
        let own = features(own);
        let more: Vec<_> = features(dependency).into_iter().filter(|feature| !own.contains(feature)).collect();
        assert!(more.is_empty(), "{name}: {more:?} is not what the example is built with");
    }

    let example = read("examples/embed.rs");
    let used = example.lines().filter_map(|line| line.strip_prefix("use ")?.split("::").next());
    let used: Vec<_> = used.filter(|name| *name != "std").map(|name| name.replace('_', "-")).collect();
    assert!(used.len() >= 5, "only {used:?}: is the reader broken?");
    assert!(used.iter().all(|name| told.contains_key(name)), "the example uses {used:?}");
    let rust = manifest.get("package").and_then(|package| package.get("rust-version")).and_then(Value::as_str);
    assert!(document.contains(&format!("Rust {}", rust.expect("a rust-version"))), "which Rust?");
}
