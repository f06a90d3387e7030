//! The control plane may be away for a moment: a run over the fleet does not end for that.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::{ApiError, ApiResult, Code};

/// How long it may be away before the run is left where it is.
const LONGEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// An answer that comes sooner after a failure may be none: progress is not written down as often as it is said.
const SOONEST: Duration = Duration::from_millis(300);

/// For how long the control plane has not answered.
#[derive(Debug, Default)]
pub(super) struct Away {
    /// The first failure in a row, and the last.
    since: Option<(Instant, Instant)>,
}

impl Away {
    /// Bears a failure.
    ///
    /// # Errors
    /// If there was nothing else for too long.
    pub(super) fn bear(&mut self, error: ApiError) -> ApiResult<()> {
        self.bear_at(error, Instant::now())
    }

    /// It answered.
    pub(super) fn is_back(&mut self) {
        self.is_back_at(Instant::now());
    }

    fn bear_at(&mut self, error: ApiError, now: Instant) -> ApiResult<()> {
        let Some((first, last)) = &mut self.since else {
            tracing::warn!(%error, cause = ?error.cause(), "the control plane does not answer; the run waits for it");
            self.since = Some((now, now));
            return Ok(());
        };
        *last = now;
        if now.duration_since(*first) < LONGEST {
            return Ok(());
        }
        Err(if error.code() == Code::ControlPlaneUnavailable { left_open(error) } else { error })
    }

    fn is_back_at(&mut self, now: Instant) {
        self.since = self.since.filter(|(_, last)| now.duration_since(*last) < SOONEST);
    }
}

/// What a run ends with that whoever comes next goes on with.
fn left_open(cause: ApiError) -> ApiError {
    let said = format!(
        "The control plane has not answered for {} seconds. The run is left where it is: `tenantry fleet migrate` goes on \
         with it, and a worker if it was left to one.",
        LONGEST.as_secs()
    );
    ApiError::new(Code::ControlPlaneUnavailable).detail(said).caused_by(cause)
}

/// Asks until there is an answer, or none for too long. What is refused is an answer.
///
/// # Errors
/// As `ask`.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> ApiResult<T>
where
    F: Future<Output = ApiResult<T>>,
{
    let mut away = Away::default();
    loop {
        match ask().await {
            Err(error) if error.code().status() >= 500 => away.bear(error)?,
            answer => return answer,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_borne_and_a_long_time_is_not() {
        let (begun, mut away) = (Instant::now(), Away::default());
        let after = |seconds: u64| begun + Duration::from_secs(seconds);
        let lost = || ApiError::new(Code::ControlPlaneUnavailable);
        for seconds in [0, 15, 29] {
            assert!(away.bear_at(lost(), after(seconds)).is_ok(), "{seconds}");
        }
        away.is_back_at(after(29));
        let ended = away.bear_at(lost(), after(30)).expect_err("what was said too soon was no answer");
        assert!(ended.code() == Code::ControlPlaneUnavailable && ended.client_detail().contains("goes on with it"));
        away.is_back_at(after(31));
        assert!(away.bear_at(lost(), after(50)).is_ok(), "from here on it is reckoned anew");
        assert!(away.bear_at(lost(), after(79)).is_ok());
        let broken = away.bear_at(ApiError::internal("broken"), after(80)).expect_err("as long");
        assert!(broken.code() != Code::ControlPlaneUnavailable, "named as what it is");
    }
}
