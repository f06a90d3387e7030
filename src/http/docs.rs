//! Documents for developers: `/openapi.json`, Swagger UI at `/docs` (its files are compiled in), and the page that the
//! `type` of every error points to.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, LOCATION};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::error::Code;

/// Swagger UI brings its own scripts, styles and images, and calls this API.
const UI_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                         img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
                         form-action 'none'; frame-ancestors 'none'";
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// The addresses of [`routes`] that take no parameters.
pub(super) fn addresses(document: bool) -> &'static [&'static str] {
    if document { &["/docs/errors", "/openapi.json", "/docs"] } else { &["/docs/errors"] }
}

/// Registers the documents; without `document` the page of errors alone.
pub(super) fn routes(config: &mut web::ServiceConfig, document: Option<web::Bytes>) {
    let page = web::Bytes::from(errors_page());
    let errors = web::get().to(move || {
        let page = page.clone();
        async move {
            HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY))
                .insert_header((CACHE_CONTROL, "public, max-age=3600"))
                .body(page)
        }
    });
    config.route("/docs/errors", errors);
    let Some(json) = document else { return };
    let document = web::get().to(move || {
        let json = json.clone();
        async move { HttpResponse::Ok().content_type("application/json").body(json) }
    });
    let moved = web::get().to(async || HttpResponse::MovedPermanently().insert_header((LOCATION, "/docs/")).finish());
    let ui = SwaggerUi::new("/{_:.*}").config(Config::from("/openapi.json").validator_url("none"));
    config.route("/openapi.json", document).route("/docs", moved).service(
        web::scope("/docs")
            .wrap(DefaultHeaders::new().add((CONTENT_SECURITY_POLICY, HeaderValue::from_static(UI_POLICY))))
            .service(ui),
    );
}

fn errors_page() -> String {
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Errors</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:45rem;margin:2rem auto;\
         padding:0 1rem}code{font-size:1rem}h2{margin:2rem 0 0}dt{font-weight:600}dd{margin:0 0 .5rem}</style>\
         <h1>Errors</h1><p>The <code>code</code> of an error is stable: program against it.</p>",
    );
    for code in Code::ALL {
        let (word, status, title) = (code.as_str(), code.status(), code.title());
        let (cause, fix) = (with_code(code.default_detail()), with_code(code.fix()));
        page.push_str(&format!(
            "<h2 id=\"{word}\"><code>{word}</code></h2><p>{status} {title}</p>\
             <dl><dt>Cause</dt><dd>{cause}</dd><dt>What to do</dt><dd>{fix}</dd></dl>"
        ));
    }
    page
}

/// Markdown's backticks as HTML.
fn with_code(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let parts = escaped.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service};

    use super::*;

    const ERRORS: &str = include_str!("../../docs/errors.md");

    #[test]
    fn the_table_in_docs_is_that_of_the_code() {
        for code in Code::ALL {
            let row =
                format!("| `{}` | {} | {} | {} |", code.as_str(), code.status(), code.default_detail(), code.fix());
            assert!(ERRORS.contains(&row), "docs/errors.md lacks the row\n{row}");
        }
        let rows = ERRORS.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Code::ALL.len(), "docs/errors.md lists a code that is gone");
    }

    #[test]
    fn the_page_has_an_anchor_for_every_code() {
        let page = errors_page();
        assert!(Code::ALL.iter().all(|code| page.contains(&format!("id=\"{}\"", code.as_str()))));
        assert_eq!(with_code("send `A: <b>` once"), "send <code>A: &lt;b></code> once");
    }

    #[actix_web::test]
    async fn the_documents_can_be_turned_off() {
        let document = web::Bytes::from_static(b"{}");
        let on = init_service(App::new().configure(|config| routes(config, Some(document)))).await;
        let off = init_service(App::new().configure(|config| routes(config, None))).await;
        for (path, with, without) in
            [("/openapi.json", 200, 404), ("/docs", 301, 404), ("/docs/", 200, 404), ("/docs/errors", 200, 200)]
        {
            let ask = || TestRequest::get().uri(path).to_request();
            assert_eq!(call_service(&on, ask()).await.status(), with, "{path}");
            assert_eq!(call_service(&off, ask()).await.status(), without, "{path}");
        }
        let ui = call_service(&on, TestRequest::get().uri("/docs/").to_request()).await;
        assert_eq!(ui.headers().get(CONTENT_SECURITY_POLICY).unwrap(), UI_POLICY);
        let body = String::from_utf8(actix_web::test::read_body(ui).await.to_vec()).unwrap();
        assert!(!body.contains("https://"), "the page must not load anything from elsewhere");
        let script = call_service(&on, TestRequest::get().uri("/docs/swagger-initializer.js").to_request()).await;
        let script = String::from_utf8(actix_web::test::read_body(script).await.to_vec()).unwrap();
        assert!(script.contains("/openapi.json"));
    }
}
