//! A feature's routes behind one look at the address.
//!
//! actix tries one route after the other, and an address with a parameter in it is a regular expression there. With some
//! two hundred routes that was a seventh of what a request cost the server; a request is now matched by expressions only
//! within the feature that it is for. What is offered, and which of two routes comes first, is as it was.

use std::cell::RefCell;

use actix_web::dev::{AppService, HttpServiceFactory, Url};
use actix_web::guard;
use actix_web::guard::GuardContext;
use utoipa::openapi::path::Paths;
use utoipa::openapi::{RefOr, Schema};
use utoipa_actix_web::OpenApiFactory;
use utoipa_actix_web::scope::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use super::surface::Surface;

/// Registers the endpoints of a feature.
type Routes = fn(&mut ServiceConfig);

/// A feature's service, and what is said of it.
struct Feature<S> {
    service: S,
    /// Whoever asks for them takes them along: a service tells of its paths once.
    paths: RefCell<Paths>,
}

/// All endpoints of a feature as one service.
pub(super) fn feature(routes: Routes) -> impl HttpServiceFactory + OpenApiFactory + 'static {
    let service = scope("").configure(routes);
    let paths = service.paths();
    let own = Surface::of(&paths);
    let service = service.guard(guard::fn_guard(move |request| is_for(&own, request)));
    Feature { service, paths: RefCell::new(paths) }
}

impl<S: HttpServiceFactory> HttpServiceFactory for Feature<S> {
    fn register(self, config: &mut AppService) {
        self.service.register(config);
    }
}

impl<S: OpenApiFactory> OpenApiFactory for Feature<S> {
    fn paths(&self) -> Paths {
        self.paths.take()
    }

    fn schemas(&self, schemas: &mut Vec<(String, RefOr<Schema>)>) {
        self.service.schemas(schemas);
    }
}

fn is_for(own: &Surface, request: &GuardContext<'_>) -> bool {
    let head = request.head();
    match head.uri.path() {
        // As the routes see it: decoded.
        path if path.contains('%') => own.offers(&head.method, Url::new(head.uri.clone()).path()),
        path => own.offers(&head.method, path),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service};
    use actix_web::{Responder, delete, get, web};
    use utoipa_actix_web::AppExt as _;

    use super::*;

    #[utoipa::path]
    #[get("/things/{id}")]
    async fn thing(id: web::Path<String>) -> impl Responder {
        format!("thing {id}")
    }

    #[utoipa::path]
    #[delete("/things/{id}")]
    async fn drop_thing(id: web::Path<String>) -> impl Responder {
        format!("dropped {id}")
    }

    #[utoipa::path]
    #[get("/things/me")]
    async fn me() -> impl Responder {
        "me"
    }

    #[tokio::test]
    async fn two_features_share_a_beginning() {
        let (app, document) = App::new()
            .into_utoipa_app()
            .configure(|config| {
                config.service(feature(|config| {
                    config.service(me).service(drop_thing);
                }));
                config.service(feature(|config| {
                    config.service(thing);
                }));
            })
            .split_for_parts();
        assert_eq!(document.paths.paths.keys().collect::<Vec<_>>(), ["/things/me", "/things/{id}"]);
        assert!(
            document.paths.paths["/things/{id}"].get.is_some() && document.paths.paths["/things/{id}"].delete.is_some()
        );
        let app = init_service(app).await;
        for (method, uri, answer) in [
            ("GET", "/things/me", Ok("me")),
            ("GET", "/things/m%65", Ok("me")),
            ("GET", "/things/7", Ok("thing 7")),
            ("GET", "/%74hings/7", Ok("thing 7")),
            ("DELETE", "/things/7", Ok("dropped 7")),
            ("POST", "/things/7", Err(StatusCode::NOT_FOUND)),
            ("GET", "/things/", Err(StatusCode::NOT_FOUND)),
            ("GET", "/things/7/parts", Err(StatusCode::NOT_FOUND)),
            ("GET", "//things/7", Err(StatusCode::NOT_FOUND)),
        ] {
            let request = TestRequest::with_uri(uri).method(method.parse().unwrap()).to_request();
            let response = call_service(&app, request).await;
            let (status, body) = (response.status(), actix_web::test::read_body(response).await);
            match answer {
                Ok(text) => assert_eq!((status, &*body), (StatusCode::OK, text.as_bytes()), "{method} {uri}"),
                Err(refused) => assert_eq!(status, refused, "{method} {uri}"),
            }
        }
    }
}
