//! Configuration faults are one line, and secrets are nowhere.

use tenantry::testing::TestApp;

use crate::support::binary::{run, run_with};
use crate::support::dir::Dir;

/// The usual ones may be taken on this machine.
fn free_ports() -> [(String, String); 2] {
    ["TENANTRY_LISTEN", "TENANTRY_MANAGEMENT_LISTEN"].map(|name| (name.to_owned(), "127.0.0.1:0".to_owned()))
}

#[actix_web::test]
async fn a_fault_is_one_line_with_variable_and_remedy() {
    let app = TestApp::shared().await;
    let faults = [
        ("TENANTRY_ROUTER__CLUSTER_BUDGET", "many"),
        ("TENANTRY_ROUTER__CLUSTER_BUDGET", "0"),
        ("TENANTRY_LISTEN", "nowhere"),
        ("TENANTRY_AUTH__REFRESH_GRACE", "30"),
        ("TENANTRY_NO_SUCH__SETTING", "1"),
        ("TENANTRY_SMTP_URL", "gopher://mail.example.com"),
        ("TENANTRY_MAIL__FROM", "nobody"),
        ("TENANTRY_STORAGE_URL", "ftp://files.example.com"),
        ("TENANTRY_PASSWORD_PEPPER", "abc"),
    ];
    for (variable, value) in faults {
        let mut environment = app.environment();
        environment.extend(free_ports());
        environment.push((variable.to_owned(), value.to_owned()));
        for arguments in [&["config", "check"][..], &["tenant", "list"], &["serve"]] {
            let said = run_with(&environment, arguments).await;
            assert!(said.code.is_some_and(|code| code != 0), "{variable}: {said:#?}");
            assert_eq!(said.stderr.trim().lines().count(), 1, "{variable}: {said:#?}");
            assert!(said.stderr.contains(variable) && said.stderr.contains(';'), "{said:#?}");
        }
    }
    let mut short = vec![("TENANTRY_DATABASE_URL".to_owned(), "postgres://u:hunter2hunter2@127.0.0.1:9/x".to_owned())];
    short.extend(free_ports());
    let said = run_with(&short, &["serve"]).await;
    assert!(said.code.is_some_and(|code| code != 0) && said.stderr.contains("TENANTRY_MASTER_KEY"), "{said:#?}");
    assert!(!said.all().contains("hunter2"), "{said:#?}");
}

/// A command that migrates nothing does without them.
#[actix_web::test]
async fn migrations_that_are_not_there_stop_the_start() {
    let app = TestApp::shared().await;
    let mut environment = app.environment();
    environment.extend(free_ports());
    environment.push(("TENANTRY_TENANT_MIGRATIONS".into(), "/nonexistent/migrations".into()));
    for arguments in [&["config", "check"][..], &["serve"], &["serve", "--no-worker"], &["worker"]] {
        let said = run_with(&environment, arguments).await.expect(4);
        let wanted = "TENANTRY_TENANT_MIGRATIONS names /nonexistent/migrations, which is no directory; make it";
        assert!(said.stderr.contains(wanted) && said.stderr.trim().lines().count() == 1, "{arguments:?}: {said:#?}");
    }
    run_with(&environment, &["operator", "list"]).await.expect(0);
}

/// Said by file and line, before the first tenant fails of it.
#[actix_web::test]
async fn migrations_that_no_server_could_read_stop_the_start() {
    let app = TestApp::shared().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("V1__orders.sql");
    std::fs::write(&file, "CREATE TABLE orders (id int);\nCOMMENT ON TABLE orders IS 'what is sold;\n").unwrap();
    let mut environment = app.environment();
    environment.extend(free_ports());
    environment.push(("TENANTRY_TENANT_MIGRATIONS".into(), directory.path().to_string_lossy().into_owned()));
    let place = format!("{}, line 2: ", file.display());
    for arguments in [&["config", "check"][..], &["serve"], &["worker"], &["fleet", "migrate", "--dry-run"]] {
        let said = run_with(&environment, arguments).await.expect(4);
        assert!(said.stderr.contains(&place), "{arguments:?}: {said:#?}");
    }
    let said = run_with(&environment, &["doctor", "--output", "json"]).await.expect(3).json();
    let finding = said["findings"].as_array().unwrap().iter().find(|one| one["code"] == "migrations_unusable");
    assert!(finding.is_some_and(|one| one["said"].as_str().unwrap().starts_with(&place)), "{said}");
}

#[actix_web::test]
async fn show_masks_every_secret_and_says_where_values_come_from() {
    let app = TestApp::shared().await;
    let mut environment = app.environment();
    environment.push(("TENANTRY_LOG__FORMAT".into(), "json".into()));
    for output in ["table", "json"] {
        let said = run_with(&environment, &["config", "show", "--output", output]).await.expect(0);
        for (name, value) in &app.environment() {
            let shown = ["TENANTRY_PUBLIC_URL", "TENANTRY_FLEET__READY_TENANTS"].contains(&&**name);
            assert!(shown || !said.all().contains(value), "{name}: {said:#?}");
        }
        assert!(said.stdout.contains("TENANTRY_LOG__FORMAT") && said.stdout.contains("default"), "{said:#?}");
    }
    run(app, &["config", "check"]).await.expect(0);
}

#[actix_web::test]
async fn only_a_directory_of_dev_opens_sign_ups_and_this_machine() {
    let dir = Dir::new();
    let at = dir.path().to_str().unwrap();
    let settings = async || {
        let variables = [("TENANTRY_DATA_DIR".to_owned(), at.to_owned())];
        let said = run_with(&variables, &["config", "show", "--output", "json"]).await.expect(0).json();
        ["signup.mode", "signup.unlimited", "outbound.allow", "mail.allowed_networks"].map(|key| {
            let found = said.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap();
            (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
        })
    };
    // As in the image: a directory that is there, and empty.
    for (value, source) in settings().await {
        assert!(["closed", "[]"].contains(&&*value) && source == "default", "{value} of {source}");
    }
    std::fs::write(dir.path().join("dev.json"), "{}").unwrap();
    for (value, source) in settings().await {
        assert!(["open", "[127.0.0.0/8, ::1/128]"].contains(&&*value) && source.ends_with("dev.json"), "{value}");
    }
}

#[actix_web::test]
async fn help_has_an_example_for_every_command_and_completions_for_every_shell() {
    let app = TestApp::shared().await;
    for shell in ["bash", "zsh", "fish"] {
        let said = run(app, &["completions", shell]).await.expect(0);
        assert!(said.stdout.contains("tenantry"), "{shell}");
    }
    let mut open = vec![Vec::<String>::new()];
    let mut leaves = 0;
    while let Some(command) = open.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let said = run(app, &arguments).await.expect(0);
        let commands =
            said.stdout.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
        let names: Vec<_> = commands
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        if names.is_empty() {
            leaves += 1;
            assert!(said.stdout.contains("Example") && said.stdout.contains("tenantry "), "{command:?} has no example");
        }
        open.extend(names.iter().map(|name| [command.clone(), vec![(*name).to_owned()]].concat()));
    }
    assert!(leaves >= 20, "only {leaves} commands");
    run(app, &[]).await.expect(2);
    run(app, &["tenant", "destroy-all"]).await.expect(2);
    run(app, &["--version"]).await.expect(0);
}
