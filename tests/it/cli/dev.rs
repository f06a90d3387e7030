//! `tenantry dev`: one command, a working installation; Ctrl-C leaves nothing running; the data is there next time.

use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use tenantry::testing::{TestApp, TestCluster};
use tokio::process::Command;
use url::Url;

use crate::support::binary::{free_port, run_with};
use crate::support::dev::{interrupt, start, start_with};
use crate::support::{eventually, seconds, shared};

/// Lets the port of metrics be: others want to have it, or see who has.
fn aside() -> [(String, String); 1] {
    [("TENANTRY_MANAGEMENT_LISTEN".into(), "127.0.0.1:0".into())]
}

#[actix_web::test]
async fn dev_works_stops_and_comes_back() {
    let app = TestApp::shared().await;
    let directory = TestCluster::scratch_dir();
    let (child, ready) = start(&directory).await;
    for field in ["url", "managementUrl", "databaseUrl", "clusterAdminUrl"] {
        assert!(ready[field].is_string(), "{field}: {ready}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(directory.join("ready.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let nobody = app.anonymous().at(ready["url"].as_str().unwrap());
    let tenants = ready["tenants"].as_array().unwrap().clone();
    let slugs: Vec<_> = tenants.iter().map(|tenant| tenant["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["acme", "globex"]);
    let log_in = async |tenant: &Value| {
        let body =
            json!({"tenant": tenant["slug"], "email": tenant["adminEmail"], "password": tenant["adminPassword"]});
        let answer = nobody.post("/api/v1/auth/login", body).await.expect(200);
        nobody.bearing(answer.data()["accessToken"].as_str().unwrap())
    };
    let mut first_rows = Vec::new();
    for tenant in &tenants {
        let list = log_in(tenant).await.get("/api/v1/contacts?includeTotal=true").await.expect(200);
        assert!(list.body["meta"]["pagination"]["total"].as_i64().is_some_and(|total| total >= 200), "{list:?}");
        first_rows.push(list.data()[0]["id"].clone());
    }
    assert_ne!(first_rows[0], first_rows[1]);
    let operator = json!({"email": ready["operator"]["email"], "password": ready["operator"]["password"]});
    nobody.post("/api/v1/admin/auth/login", operator).await.expect(200);
    let id = log_in(&tenants[0]).await.contact("Kept over night").await;
    // Other commands find the installation by its directory; one at a time may run it.
    let at = directory.to_string_lossy().into_owned();
    let list = run_with(&[], &["tenant", "list", "--data-dir", &at, "--output", "json"]).await.expect(0);
    assert_eq!(list.json().as_array().map(Vec::len), Some(2));
    // Whatever its port is; but who says where to look is not contradicted.
    run_with(&[], &["healthcheck", "--data-dir", &at]).await.expect(0);
    let elsewhere = ["TENANTRY_LISTEN", "TENANTRY_MANAGEMENT_LISTEN"]
        .map(|variable| (variable.to_owned(), format!("127.0.0.1:{}", free_port())));
    run_with(&elsewhere, &["healthcheck", "--data-dir", &at]).await.expect(1);
    let second = run_with(&aside(), &["dev", "--port", "0", "--data-dir", &at]).await;
    assert!(second.code.is_some_and(|code| code != 0) && second.stderr.contains("in use"), "{second:#?}");
    // Without a mail server, mails are in the log.
    let forgotten = json!({"tenant": "acme", "email": tenants[0]["adminEmail"]});
    nobody.post("/api/v1/auth/forgot-password", forgotten).await.expect(202);
    let mailed = async || {
        let log = std::fs::read_to_string(directory.with_extension("log")).unwrap();
        log.lines().any(|line| line.contains("admin@acme.example") && line.contains("/reset-password"))
    };
    eventually(seconds(20), "the link is in the log", mailed).await;
    // Sign-ups are open: it is the name that is refused.
    let founder = json!({"email": "founder@acme.test", "password": "a password of some length", "firstName": "Fae", "lastName": "Founder"});
    let sign_up = json!({"slug": "acme", "name": "Another Acme", "admin": founder});
    nobody.post("/api/v1/tenants", sign_up).await.refused(409, "already_exists");
    // And people's: the demo tenants let anybody in.
    let someone = json!({"tenant": "acme", "email": "someone@acme.test", "password": "an uncommon sentence of five words", "firstName": "Sam", "lastName": "Someone"});
    let registered = nobody.post("/api/v1/auth/register", someone).await.expect(201);
    assert!(registered.data()["accessToken"].is_string(), "{registered:?}");
    interrupt(child, &ready).await;
    let settings = run_with(&[], &["config", "show", "--data-dir", &at]).await.expect(0);
    let mode = settings.stdout.lines().find(|line| line.trim_start().starts_with("signup.mode")).unwrap_or_default();
    assert!(mode.contains("open"), "the directory is still dev's: {mode}");

    let begun = std::time::Instant::now();
    let (child, ready) = start(&directory).await;
    assert!(begun.elapsed() < shared(seconds(30)), "{:?}", begun.elapsed());
    let nobody = app.anonymous().at(ready["url"].as_str().unwrap());
    let body = json!({"tenant": "acme", "email": tenants[0]["adminEmail"], "password": tenants[0]["adminPassword"]});
    let answer = nobody.post("/api/v1/auth/login", body).await.expect(200);
    let admin = nobody.bearing(answer.data()["accessToken"].as_str().unwrap());
    admin.get(&format!("/api/v1/contacts/{id}")).await.expect(200);
    interrupt(child, &ready).await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[actix_web::test]
async fn dev_prints_commands_that_work_and_killed_leaves_nothing() {
    let directory = TestCluster::scratch_dir();
    let said = directory.with_extension("out");
    let (mut child, ready) = start_with(&directory, std::fs::File::create(&said).unwrap()).await;
    let greeted = async || std::fs::read_to_string(&said).is_ok_and(|text| text.contains("Ctrl-C stops everything"));
    eventually(seconds(10), "it has said everything", greeted).await;
    let printed = std::fs::read_to_string(&said).unwrap();
    let commands = printed[printed.find("TOKEN=").unwrap()..].split("\n\n").next().unwrap();
    let output = Command::new("sh").args(["-ec", commands]).output().await.unwrap();
    let answers: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
    let answers = answers.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(answers[0]["data"].as_array().map(Vec::len), Some(3), "{answers:?}");
    assert_eq!(answers[1]["data"]["lastName"], "Lovelace", "{answers:?}");

    // Whoever comes second, even to begin anew, leaves the first alone.
    let at = directory.to_string_lossy().into_owned();
    for more in [&["dev", "--port", "0", "--data-dir", &at][..], &["dev", "--reset", "--port", "0", "--data-dir", &at]]
    {
        let second = run_with(&aside(), more).await.expect(4);
        assert!(second.stderr.contains("in use"), "{second:#?}");
        assert!(directory.join("ready.json").exists());
    }

    child.kill().await.unwrap();
    let url: Url = ready["databaseUrl"].as_str().unwrap().parse().unwrap();
    let silent = async || TcpStream::connect(("127.0.0.1", url.port().unwrap())).is_err();
    eventually(seconds(30), "PostgreSQL has stopped by itself", silent).await;
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::remove_file(said).unwrap();
}

#[actix_web::test]
async fn dev_takes_no_directory_of_somebody_else() {
    let directory = TestCluster::scratch_dir();
    std::fs::create_dir(&directory).unwrap();
    let at = directory.to_string_lossy().into_owned();
    let kept = [("master.key", "the key of a server in production"), ("registry.redb", "its snapshot")];
    for (name, content) in kept {
        std::fs::write(directory.join(name), content).unwrap();
    }
    for more in [&["dev", "--port", "0", "--data-dir", &at][..], &["dev", "--reset", "--port", "0", "--data-dir", &at]]
    {
        let said = run_with(&aside(), more).await.expect(4);
        assert!(said.stderr.contains("name a new directory with --data-dir"), "{said:#?}");
        for (name, content) in kept {
            assert_eq!(std::fs::read_to_string(directory.join(name)).unwrap(), content, "{name}");
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), kept.len(), "nothing is written either");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[actix_web::test]
async fn dev_listens_where_the_environment_says() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let directory = TestCluster::scratch_dir();
    let at = directory.to_string_lossy().into_owned();
    // Its demo tenants are open: of an address that others reach, it takes the port alone.
    for (ip, is_moved) in [("127.0.0.1", false), ("0.0.0.0", true), ("[::]", true)] {
        let listen = format!("{ip}:{}", address.port());
        let environment = [("TENANTRY_LISTEN", &*listen), ("TENANTRY_MANAGEMENT_LISTEN", "127.0.0.1:0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let said = run_with(&environment, &["dev", "--data-dir", &at]).await.expect(4);
        assert!(said.stderr.contains(&format!("cannot listen on {address}")), "{said:#?}");
        assert_eq!(said.stderr.contains(&format!("{address} instead of {listen}")), is_moved, "{said:#?}");
        assert!(!directory.exists(), "refused before anything is made");
    }
}
