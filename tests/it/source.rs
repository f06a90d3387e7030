//! What can be read off the source itself: with what it seals, and how it starts other programs.

use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::arrows::rust_files;

/// Each file under `src/`, by its name there.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let read = |path: std::path::PathBuf| {
        let name = path.strip_prefix(&src).expect("found under src").to_string_lossy().replace('\\', "/");
        (name, fs::read_to_string(path).expect("a readable source file"))
    };
    files.into_iter().map(read).collect()
}

/// The names of ciphers in a text.
fn ciphers(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["AES_", "CHACHA20"].iter().any(|start| word.starts_with(start)) || *word == "symm")
}

#[test]
fn one_cipher_seals_everything_in_one_place() {
    let mut seen = 0;
    for (name, text) in sources() {
        for cipher in ciphers(&text) {
            assert_eq!(cipher, "AES_256_GCM", "{name}");
            assert!(name.starts_with("kernel/"), "{name} seals by itself");
            seen += 1;
        }
    }
    assert!(seen > 0, "is the reader broken?");
    assert_eq!(ciphers("&AES_128_CBC, &CHACHA20_POLY1305").count(), 2);
}

/// An embedder gets a tenant's database as a request does, or not at all: what leads past that is the server's own.
#[test]
fn what_only_the_server_may_do_is_not_in_the_embedder_s_crate() {
    let files = sources();
    let (_, text) = files.iter().find(|(name, _)| name == "router/mod.rs").expect("the router");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let doors = [
        "pub use conn::AdminConn;",
        "pub(crate) async fn for_maker(",
        "pub(crate) async fn at_schema(",
        "pub(crate) async fn ring(",
        "pub(crate) fn rings_at(",
        "pub(crate) fn keep_schemas_by(",
        "pub(crate) fn forget(",
    ];
    for door in doors {
        let at = lines.iter().position(|line| line.starts_with(door)).unwrap_or_else(|| panic!("no `{door}`"));
        assert_eq!(lines[at - 1], r#"#[cfg(feature = "server")]"#, "{door}");
    }
    assert!(!text.contains("PoolSettings"), "with settings of its own a pool need not check the stamp");
}

/// The scripts of a file that are given to a shell, and how many of them were made: each should be a text that stands there, and takes what it needs as arguments.
#[derive(Default)]
struct Scripts {
    seen: usize,
    made: usize,
}

impl Scripts {
    fn judge(&mut self, script: Option<&syn::Expr>) {
        self.seen += 1;
        let fixed = match script {
            Some(syn::Expr::Lit(_)) => true,
            Some(syn::Expr::Path(named)) => {
                !named.path.get_ident().is_none_or(|name| name.to_string().contains(char::is_lowercase))
            }
            _ => false,
        };
        self.made += usize::from(!fixed);
    }
}

fn is_script_option(argument: &syn::Expr) -> bool {
    matches!(argument, syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) if text.value() == "-c")
}

impl<'ast> Visit<'ast> for Scripts {
    fn visit_expr_array(&mut self, array: &'ast syn::ExprArray) {
        let mut rest = array.elems.iter().skip_while(|argument| !is_script_option(argument));
        if rest.next().is_some() {
            self.judge(rest.next());
        }
        visit::visit_expr_array(self, array);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "arg" && call.args.first().is_some_and(is_script_option) {
            // The script would be somewhere else.
            self.judge(None);
        }
        visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn no_shell_is_given_a_script_that_was_made() {
    let read = |text: &str| {
        let mut scripts = Scripts::default();
        scripts.visit_file(&syn::parse_file(text).expect("it parses"));
        scripts
    };
    let mut seen = 0;
    for (name, text) in sources() {
        let scripts = read(&text);
        assert_eq!(scripts.made, 0, "{name}");
        seen += scripts.seen;
    }
    assert!(seen > 0, "is the reader broken?");
    for wrong in ["x.args([\"-c\", &format!(\"rm {y}\")])", "x.args([\"-c\", script])", "x.arg(\"-c\").arg(y)"] {
        assert_eq!(read(&format!("fn f() {{ {wrong}; }}")).made, 1, "{wrong}");
    }
}

/// What is shipped stops at a sum that is too large, and at nothing else than the program itself.
#[test]
fn what_is_shipped_checks_its_sums_and_has_nothing_beside() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name);
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    assert_eq!(manifest["profile"]["release"]["overflow-checks"].as_bool(), Some(true));
    let dockerfile = read("Dockerfile");
    let (_, shipped) = dockerfile.rsplit_once("\nFROM ").expect("stages");
    let copied: Vec<&str> =
        shipped.lines().filter(|line| line.starts_with("COPY") || line.starts_with("ADD")).collect();
    let program = "COPY --from=build /build/target/release/tenantry /usr/local/bin/tenantry";
    assert_eq!(copied, [program, "COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/tenantry/"]);
}
