//! Lists: pages, cursors, filters, sorts.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, TestApp};

use crate::support::db;

fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.data().as_array().expect("a list");
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

fn pagination(answer: &Answer) -> &Value {
    &answer.body["meta"]["pagination"]
}

/// Contacts of equal names among them, so that order needs its tie-breaker.
async fn fill(admin: &Persona, count: usize) {
    for number in 0..count {
        let contact = json!({"lastName": format!("Name{}", number / 3), "company": format!("Company {}", number % 4), "tags": [format!("t{}", number % 2)]});
        admin.post("/api/v1/contacts", contact).await.expect(201);
    }
}

/// The calendar of PostgreSQL is not as wide as that of those who ask.
#[actix_web::test]
async fn moments_out_of_reach_narrow_lists_too() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    fill(&admin, 1).await;
    let lists = [("contacts", vec!["createdAfter", "createdBefore", "updatedAfter"])];
    let lists = lists.into_iter().chain([("users", vec!["createdAfter", "createdBefore"])]);
    for (list, parameters) in lists {
        for parameter in parameters {
            for (moment, past) in [
                ("-9999-01-01T00:00:00Z", true),
                ("-262000-01-01T00:00:00Z", true),
                ("0000-01-01T00:00:00Z", true),
                ("%2B10000-01-01T00:00:00Z", false),
                ("%2B262000-01-01T00:00:00Z", false),
            ] {
                let path = format!("/api/v1/{list}?includeTotal=true&{parameter}={moment}");
                let found = admin.get(&path).await.expect(200);
                let all = past == parameter.ends_with("After");
                assert_eq!(pagination(&found)["total"], u8::from(all), "{path}: {found:?}");
            }
        }
    }
}

#[actix_web::test]
async fn a_cursor_walks_there_and_back() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    fill(&admin, 23).await;
    for sort in [
        "",
        "&sort=createdAt",
        "&sort=lastName",
        "&sort=-lastName",
        "&sort=company",
        "&sort=-updatedAt",
        "&sort=lastName,-company",
        "&sort=-company,lastName,-createdAt",
    ] {
        let whole = ids(&admin.get(&format!("/api/v1/contacts?pageSize=100{sort}")).await.expect(200));
        assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 23);
        let mut pages = vec![admin.get(&format!("/api/v1/contacts?pageSize=5{sort}")).await.expect(200)];
        assert_eq!(pagination(&pages[0])["hasPrev"], false);
        while let Some(cursor) = pagination(&pages[pages.len() - 1])["nextCursor"].as_str() {
            let path = format!("/api/v1/contacts?pageSize=5{sort}&cursor={cursor}");
            pages.push(admin.get(&path).await.expect(200));
        }
        let forth: Vec<String> = pages.iter().flat_map(ids).collect();
        assert_eq!(forth, whole, "forth with {sort}");
        let last = pages.last().expect("a page");
        assert_eq!((&pagination(last)["hasNext"], ids(last).len()), (&json!(false), 3));
        let mut back = vec![last.clone()];
        while let Some(cursor) = pagination(&back[back.len() - 1])["prevCursor"].as_str() {
            let path = format!("/api/v1/contacts?pageSize=5{sort}&cursor={cursor}");
            back.push(admin.get(&path).await.expect(200));
        }
        let back: Vec<String> = back.iter().rev().flat_map(ids).collect();
        assert_eq!(back, whole, "back with {sort}");
    }
}

/// Every combination of two keys in either direction, item by item, against the same order made here.
#[actix_web::test]
async fn several_keys_sort_each_in_its_own_direction() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    for (last, company) in [("A", "Y"), ("B", "X"), ("A", "X"), ("B", "Y"), ("A", "X"), ("B", "X"), ("A", "Y")] {
        admin.post("/api/v1/contacts", json!({"lastName": last, "company": company})).await.expect(201);
    }
    for number in 0..4 {
        let email = format!("p{number}@acme.test");
        let person = json!({"email": email, "firstName": "P", "lastName": format!("L{}", number % 2)});
        admin.post("/api/v1/users", person).await.expect(201);
    }
    for (list, one, other) in [("contacts", "lastName", "company"), ("users", "lastName", "email")] {
        for (down, also_down) in [(false, false), (false, true), (true, false), (true, true)] {
            let sign = |down: bool| if down { "-" } else { "" };
            let sort = format!("{}{one},{}{other}", sign(down), sign(also_down));
            let whole = admin.get(&format!("/api/v1/{list}?pageSize=100&sort={sort}")).await.expect(200);
            let turned = |ordering: Ordering, down: bool| if down { ordering.reverse() } else { ordering };
            let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_lowercase();
            let items = whole.data().as_array().unwrap();
            let sorted = items.is_sorted_by(|a, b| {
                let first = turned(text(a, one).cmp(&text(b, one)), down);
                first.then(turned(text(a, other).cmp(&text(b, other)), also_down)) != Ordering::Greater
            });
            assert!(sorted && items.len() > 4, "{sort}: {items:?}");
            let (mut walked, mut further) = (Vec::new(), Some(String::new()));
            while let Some(cursor) = further.filter(|_| walked.len() <= items.len()) {
                let page = admin.get(&format!("/api/v1/{list}?pageSize=1&sort={sort}{cursor}")).await.expect(200);
                walked.extend(ids(&page));
                further = pagination(&page)["nextCursor"].as_str().map(|next| format!("&cursor={next}"));
            }
            assert_eq!(walked, ids(&whole), "{list} by {sort}");
        }
    }
    // A cursor is of its order.
    let page = admin.get("/api/v1/contacts?pageSize=1&sort=lastName,-company").await.expect(200);
    let cursor = pagination(&page)["nextCursor"].as_str().unwrap();
    for sort in ["lastName", "lastName,company", "-company,lastName"] {
        admin.get(&format!("/api/v1/contacts?sort={sort}&cursor={cursor}")).await.refused(400, "cursor_invalid");
    }
}

#[actix_web::test]
async fn rows_that_come_meanwhile_neither_repeat_nor_hide_others() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    fill(&admin, 6).await;
    let first = admin.get("/api/v1/contacts?pageSize=3").await.expect(200);
    admin.contact("Newcomer").await;
    admin.delete(&format!("/api/v1/contacts/{}", ids(&first)[2])).await.expect(204);
    let cursor = pagination(&first)["nextCursor"].as_str().unwrap();
    let second = admin.get(&format!("/api/v1/contacts?pageSize=3&cursor={cursor}")).await.expect(200);
    assert_eq!(ids(&second).len(), 3);
    assert!(ids(&second).iter().all(|id| !ids(&first).contains(id)));
}

#[actix_web::test]
async fn a_cursor_is_good_for_its_own_list_alone() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    fill(&acme.admin(), 4).await;
    fill(&globex.admin(), 4).await;
    let page = acme.admin().get("/api/v1/contacts?pageSize=2&sort=lastName").await.expect(200);
    let cursor = pagination(&page)["nextCursor"].as_str().unwrap().to_owned();
    acme.admin().get(&format!("/api/v1/contacts?pageSize=2&sort=lastName&cursor={cursor}")).await.expect(200);
    let mut damaged = cursor.clone().into_bytes();
    damaged[3] = if damaged[3] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).unwrap();
    let refused = [
        (globex.admin(), format!("/api/v1/contacts?sort=lastName&cursor={cursor}")),
        (acme.admin(), format!("/api/v1/contacts?sort=-lastName&cursor={cursor}")),
        (acme.admin(), format!("/api/v1/contacts?cursor={cursor}")),
        (acme.admin(), format!("/api/v1/contacts?sort=lastName&tag=t1&cursor={cursor}")),
        (acme.admin(), format!("/api/v1/contacts?sort=lastName&q=name&cursor={cursor}")),
        (acme.admin(), format!("/api/v1/users?cursor={cursor}")),
        (acme.admin(), format!("/api/v1/contacts?sort=lastName&cursor={damaged}")),
        (acme.admin(), "/api/v1/contacts?cursor=x".to_owned()),
        (acme.admin(), "/api/v1/contacts?cursor=eyJpZCI6MX0".to_owned()),
    ];
    for (who, path) in refused {
        let answer = who.get(&path).await;
        assert_eq!((answer.status, answer.code()), (400, "cursor_invalid"), "{path}: {answer:?}");
    }
}

#[actix_web::test]
async fn bad_parameters_are_400() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for query in [
        "pageSize=0",
        "pageSize=101",
        "pageSize=-1",
        "pageSize=ten",
        "pageSize=",
        "page=0",
        "page=x",
        "unknown=1",
        "sort=password",
        "sort=",
        "sort=lastName,",
        "sort=lastName,password",
        "sort=lastName,-lastName",
        "sort=lastName,company,createdAt,updatedAt",
        "createdAfter=yesterday",
        "includeTotal=maybe",
        "pagesize=5",
        "limit=5",
    ] {
        let answer = admin.get(&format!("/api/v1/contacts?{query}")).await;
        assert_eq!((answer.status, answer.code()), (400, "invalid_query"), "{query}: {answer:?}");
    }
    for path in ["/api/v1/users?x=1", "/api/v1/roles?x=1", "/api/v1/permissions?x=1", "/api/v1/users?pageSize=1000"] {
        admin.get(path).await.refused(400, "invalid_query");
    }
}

/// What is searched for is bounded as what is found is.
#[actix_web::test]
async fn a_search_has_at_most_two_hundred_characters() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let searches = [
        (&admin, "/api/v1/contacts", "q"),
        (&admin, "/api/v1/contacts", "company"),
        (&admin, "/api/v1/users", "q"),
        (&admin, "/api/v1/users", "role"),
        (&app.operator(), "/api/v1/admin/tenants", "q"),
    ];
    for (who, path, parameter) in searches {
        let search = |length: usize| format!("{path}?{parameter}={}", "%C3%A9".repeat(length));
        who.get(&search(200)).await.expect(200);
        let refused = who.get(&search(201)).await.refused(400, "invalid_query");
        assert_eq!(refused.body["error"]["errors"][0]["field"], parameter, "{path}");
    }
}

/// Twenty, though there are no more than a few and all of them were read.
#[actix_web::test]
async fn no_list_comes_whole() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let id = acme.admin().user_id().await;
    let insert = format!(
        "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, amr, auth_time) \
         SELECT gen_random_uuid(), '{id}', now(), now(), now() + interval '20 days', '{{pwd}}', now() \
         FROM generate_series(1, 24)"
    );
    db::execute(acme.database(), &insert).await;
    for path in ["/api/v1/auth/sessions".to_owned(), format!("/api/v1/users/{id}/sessions")] {
        let first = acme.admin().get(&format!("{path}?includeTotal=true")).await.expect(200);
        let p = pagination(&first);
        assert_eq!((&p["pageSize"], &p["total"], &p["totalPages"]), (&json!(20), &json!(25), &json!(2)), "{path}");
        assert_eq!((ids(&first).len(), &p["hasNext"]), (20, &json!(true)), "{path}");
        let next = p["nextCursor"].as_str().expect("a cursor");
        let rest = acme.admin().get(&format!("{path}?cursor={next}")).await.expect(200);
        assert_eq!((ids(&rest).len(), &pagination(&rest)["hasNext"]), (5, &json!(false)), "{path}");
        let all: BTreeSet<_> = ids(&first).into_iter().chain(ids(&rest)).collect();
        assert_eq!(all.len(), 25, "{path}");
    }
}

/// Pages of a list of few things come to the same, of whatever size.
#[actix_web::test]
async fn pages_of_any_size_come_to_the_same() {
    let app = TestApp::shared().await;
    let (acme, other) = (app.tenant("acme").await, app.tenant("other").await);
    let path = "/api/v1/mail-templates";
    let all = acme.admin().get(&format!("{path}?includeTotal=true")).await.expect(200);
    let count = all.data().as_array().map_or(0, Vec::len);
    assert!(count > 6, "{all:?}");
    assert_eq!((&pagination(&all)["total"], &pagination(&all)["nextCursor"]), (&json!(count), &Value::Null));
    let (mut read, mut at) = (Vec::new(), String::new());
    loop {
        let page = acme.admin().get(&format!("{path}?pageSize=5{at}")).await.expect(200);
        read.extend(page.data().as_array().cloned().unwrap_or_default());
        let Some(next) = pagination(&page)["nextCursor"].as_str() else { break };
        other.admin().get(&format!("{path}?cursor={next}")).await.refused(400, "cursor_invalid");
        at = format!("&cursor={next}");
    }
    assert_eq!(&Value::Array(read), all.data());
}

#[actix_web::test]
async fn numbered_pages_and_totals() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    fill(&admin, 7).await;
    let plain = admin.get("/api/v1/contacts").await.expect(200);
    let p = pagination(&plain);
    assert_eq!(
        (&p["pageSize"], &p["total"], &p["totalPages"], &p["hasNext"]),
        (&json!(20), &Value::Null, &Value::Null, &json!(false))
    );
    let third = admin.get("/api/v1/contacts?page=3&pageSize=3&includeTotal=true").await.expect(200);
    let p = pagination(&third);
    assert_eq!((ids(&third).len(), &p["page"], &p["total"], &p["totalPages"]), (1, &json!(3), &json!(7), &json!(3)));
    assert_eq!((&p["hasNext"], &p["hasPrev"]), (&json!(false), &json!(true)));
    let beyond = admin.get("/api/v1/contacts?page=9&pageSize=3").await.expect(200);
    assert!(ids(&beyond).is_empty() && pagination(&beyond)["hasNext"] == json!(false));
}

#[actix_web::test]
async fn filters_and_search_narrow_the_list() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    fill(&admin, 8).await;
    let odd = json!({"firstName": "Grace", "lastName": "O'Brien 100%_", "company": "Navy", "emails": [{"label": "work", "value": "grace@navy.example"}]});
    let id = admin.post("/api/v1/contacts", odd).await.expect(201).id();
    let count =
        async |query: &str| ids(&admin.get(&format!("/api/v1/contacts?pageSize=100&{query}")).await.expect(200));
    assert_eq!(count("tag=t1").await.len(), 4);
    assert_eq!(count("company=company%202").await.len(), 2);
    for query in ["q=grace", "q=GRACE%20navy", "q=grace@navy.example", "q=o%27brien", "q=100%25_"] {
        assert_eq!(count(query).await, std::slice::from_ref(&id), "{query}");
    }
    for query in ["q=%25", "q=_ame", "q=nobody", "tag=none", "createdAfter=2099-01-01T00:00:00Z"] {
        let found = count(query).await;
        assert!(found.is_empty() || query == "q=%25" && found == [id.clone()], "{query}: {found:?}");
    }
}

/// Operators sort and narrow tenants as people do contacts.
#[actix_web::test]
async fn operators_sort_tenants_and_narrow_them_by_age() {
    let app = TestApp::builder().start().await;
    let (operator, path) = (app.operator(), "/api/v1/admin/tenants");
    let mut made = Vec::new();
    for (slug, name) in [("mill", "Beta"), ("arch", "Beta"), ("well", "Alpha")] {
        made.push(operator.post(path, json!({"slug": slug, "name": name})).await.expect(201));
    }
    let slugs = |answer: &Answer| -> Vec<String> {
        let items = answer.data().as_array().expect("a list");
        items.iter().map(|item| item["slug"].as_str().expect("a slug").to_owned()).collect()
    };
    for (sort, wanted) in [
        ("", ["arch", "mill", "well"]),
        ("&sort=-slug", ["well", "mill", "arch"]),
        ("&sort=createdAt", ["mill", "arch", "well"]),
        ("&sort=-createdAt", ["well", "arch", "mill"]),
        ("&sort=name,-createdAt", ["well", "arch", "mill"]),
        ("&sort=-name,slug", ["arch", "mill", "well"]),
    ] {
        let mut pages = vec![operator.get(&format!("{path}?pageSize=1{sort}")).await.expect(200)];
        while let Some(cursor) = pagination(&pages[pages.len() - 1])["nextCursor"].as_str() {
            let next = format!("{path}?pageSize=1{sort}&cursor={cursor}");
            pages.push(operator.get(&next).await.expect(200));
        }
        assert_eq!(pages.iter().flat_map(&slugs).collect::<Vec<_>>(), wanted, "{sort}");
        let back = pagination(&pages[2])["prevCursor"].as_str().expect("a cursor");
        let before = operator.get(&format!("{path}?pageSize=2{sort}&cursor={back}")).await.expect(200);
        assert_eq!(slugs(&before), wanted[..2], "back with {sort}");
        let elsewhere = format!("{path}?pageSize=1&sort=-slug,name&cursor={back}");
        operator.get(&elsewhere).await.refused(400, "cursor_invalid");
    }
    let at = made[1].data()["createdAt"].as_str().expect("a time");
    for (filter, wanted) in [("createdAfter", "well"), ("createdBefore", "mill")] {
        let found = operator.get(&format!("{path}?includeTotal=true&{filter}={at}")).await.expect(200);
        assert_eq!((slugs(&found), &pagination(&found)["total"]), (vec![wanted.to_owned()], &json!(1)), "{filter}");
    }
    for query in ["sort=status", "sort=", "sort=slug,-slug", "createdAfter=yesterday"] {
        operator.get(&format!("{path}?{query}")).await.refused(400, "invalid_query");
    }
}
