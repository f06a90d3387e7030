//! What is broken or left over, for operators.

use actix_web::{get, web};

use super::Refusals;
use crate::control::operators::{Operator, Survey};
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::fleet::doctor::Diagnosis;
use crate::rest::{Envelope, NoQuery, Reply};

/// The most findings that are answered.
const MOST: usize = 1000;

/// What is broken or left over in the fleet, the worst first, each with the command that mends it. At most 1000.
#[utoipa::path(
    tag = "admin",
    operation_id = "adminDiagnoseFleet",
    responses((status = 200, description = "The findings; none if all is well", body = Envelope<Diagnosis>), Refusals),
    security(("operator" = [])),
)]
#[get("/api/v1/admin/fleet/doctor")]
pub async fn diagnose_fleet(_: NoQuery, _: Operator<Survey>, fleet: web::Data<Fleet>) -> ApiResult<Reply<Diagnosis>> {
    let mut diagnosis = fleet.diagnose().await?;
    diagnosis.findings.truncate(MOST);
    Ok(Reply(diagnosis))
}
