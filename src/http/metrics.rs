//! What is measured of requests, and `/metrics` on the listener of management.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, Accept, Header as _, VARY};
use actix_web::{HttpRequest, HttpResponse, Responder, get, web};
use metrics::{Histogram, Unit};

use crate::telemetry::{Format, Metrics};

const DURATION: &str = "http.server.request.duration";

/// Says what is recorded here.
pub(super) fn describe() {
    metrics::describe_histogram!(DURATION, Unit::Seconds, "Duration of requests, by route, method and status.");
}

/// One worker's handles: looked up once for each route, method and status, so that a request takes no shared lock.
/// Bounded by the application's own routes.
#[derive(Clone, Default)]
pub(super) struct Durations(Rc<RefCell<HashMap<String, Vec<Answered>>>>);

/// Answers of one route.
struct Answered {
    method: &'static str,
    status: StatusCode,
    histogram: Histogram,
}

impl Durations {
    /// The routes of which something was recorded.
    #[cfg(test)]
    pub(super) fn routes(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    /// A request has been answered.
    pub(super) fn record(&self, route: &str, method: &'static str, status: StatusCode, duration: Duration) {
        let mut routes = self.0.borrow_mut();
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), Vec::new());
        }
        let Some(known) = routes.get_mut(route) else { return };
        if let Some(answered) = known.iter().find(|known| known.method == method && known.status == status) {
            return answered.histogram.record(duration);
        }
        let histogram = metrics::histogram!(
            DURATION,
            "http.route" => route.to_owned(),
            "http.request.method" => method,
            "http.response.status_code" => status.as_str().to_owned(),
        );
        histogram.record(duration);
        known.push(Answered { method, status, histogram });
    }
}

/// All metrics: OpenMetrics for whoever prefers it, else the classic text of Prometheus.
#[get("/metrics")]
pub(super) async fn show(request: HttpRequest, metrics: web::Data<Metrics>) -> impl Responder {
    let format = format_for(&request);
    HttpResponse::Ok()
        .content_type(format.content_type())
        .insert_header((VARY, ACCEPT.as_str()))
        .body(metrics.render(format))
}

fn format_for(request: &HttpRequest) -> Format {
    let ranked = Accept::parse(request).map(|accept| accept.ranked()).unwrap_or_default();
    let first = ranked.iter().find_map(|kind| match (kind.type_().as_str(), kind.subtype().as_str()) {
        ("application", "openmetrics-text") => Some(Format::OpenMetrics),
        ("text", "plain" | "*") | ("*", "*") => Some(Format::Classic),
        _ => None,
    });
    first.unwrap_or(Format::Classic)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn openmetrics_for_whoever_prefers_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("application/openmetrics-text", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.1", Format::Classic),
            ("text/html, */*", Format::Classic),
            ("nonsense", Format::Classic),
        ] {
            let request = TestRequest::default().insert_header((ACCEPT, accept)).to_http_request();
            assert_eq!(format_for(&request), format, "{accept}");
        }
        assert_eq!(format_for(&TestRequest::default().to_http_request()), Format::Classic);
    }
}
