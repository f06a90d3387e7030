//! The trace that a request belongs to, for whatever runs within it: exemplars of metrics point to it.

use std::fmt;

/// The trace of a W3C `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    /// Whether its caller keeps the trace: only then is there something to point to.
    pub sampled: bool,
}

tokio::task_local! {
    static CURRENT: Option<Trace>;
}

impl Trace {
    /// Reads a `traceparent`; `None` if it is none, which the standard has us ignore.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (version, id) = (hex(version, 2)?, hex(id, 32)?);
        let (parent, flags) = (hex(parent, 16)?, hex(flags, 2)?);
        let known = version != 0xff && (version > 0 || parts.next().is_none());
        (known && id != 0 && parent != 0).then_some(Self { id, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

fn hex(text: &str, length: usize) -> Option<u128> {
    let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if text.len() == length && lower { u128::from_str_radix(text, 16).ok() } else { None }
}

/// The trace of the request that the current task works for. A few nanoseconds.
#[must_use]
pub fn current() -> Option<Trace> {
    CURRENT.try_with(|trace| *trace).ok().flatten()
}

/// Does `work` as part of a trace, or of none.
pub async fn within<F: Future>(trace: Option<Trace>, work: F) -> F::Output {
    CURRENT.scope(trace, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn reads_what_the_standard_says() {
        let trace = Trace::parse(&format!("00-{ID}-00f067aa0ba902b7-01")).unwrap();
        assert_eq!((trace.to_string().as_str(), trace.sampled), (ID, true));
        assert!(!Trace::parse(&format!("00-{ID}-00f067aa0ba902b7-02")).unwrap().sampled);
        assert!(Trace::parse(&format!("cc-{ID}-00f067aa0ba902b7-01-what-comes-later")).is_some());
        let zero = "0".repeat(32);
        for bad in [
            "nonsense".to_owned(),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{ID}-00f067aa0ba902b7"),
            format!("00-{ID}-00f067aa0ba902b7-01-more"),
            format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
        ] {
            assert_eq!(Trace::parse(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn is_known_inside_and_nowhere_else() {
        let trace = Trace::parse(&format!("00-{ID}-00f067aa0ba902b7-01"));
        assert_eq!(within(trace, async { current() }).await, trace);
        assert_eq!(within(None, async { current() }).await, None);
        assert_eq!(current(), None);
    }
}
