//! Two tenants of the proof's own, made for it and removed after it, whatever happens in between.

use hyper::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::CANARY;
use super::forge::Forge;
use super::report::Fault;
use crate::control::signing_keys;
use crate::control::tenants::TenantRecord;
use crate::error::{ApiError, ApiResult, Code};
use crate::fleet::lock::{self, Lock};
use crate::fleet::provision::Asked;
use crate::fleet::web::{Ask, Client};
use crate::fleet::{
    AdminPassword, CreateTenant, DeleteTenant, FirstAdmin, Fleet, OperationOptions, Silent, refused, scram,
};
use crate::kernel::crypto::{hex, random};
use crate::kernel::{Slug, TenantId};
use crate::router::MainConn;

const EMAIL: &str = "canary@tenantry.example";

/// A canary that has signed in.
pub(super) struct Canary {
    pub(super) id: TenantId,
    pub(super) slug: Slug,
    pub(super) password: SecretString,
    pub(super) forge: Forge,
    pub(super) refresh: String,
    /// A contact of its own.
    pub(super) contact: String,
    /// Its administrator.
    pub(super) user: String,
}

/// A name that no other tenant has, and the right to whoever will have it: a canary that nobody holds is left over.
pub(super) async fn hold(fleet: &Fleet) -> ApiResult<Held> {
    let slug: Slug = format!("{CANARY}{}", hex(&random::<6>())).parse().map_err(ApiError::internal)?;
    let lock = try_hold(fleet, &slug).await?;
    let lock = lock.ok_or_else(|| refused("Another proof has a canary of this name; verify again."))?;
    Ok(Held { slug, lock })
}

/// A canary that is needed, or was.
pub(super) struct Held {
    pub(super) slug: Slug,
    lock: Lock,
}

async fn try_hold(fleet: &Fleet, slug: &Slug) -> ApiResult<Option<Lock>> {
    Lock::named(&fleet.locks, &fleet.control, &lock::canary_name(slug)).await
}

/// Makes one, and lets its administrator sign in at the server.
pub(super) async fn make(fleet: &Fleet, client: &Client, slug: &Slug) -> ApiResult<Canary> {
    let password = scram::generate_password();
    let admin = FirstAdmin {
        email: EMAIL.to_owned(),
        password: AdminPassword::Given(password.clone()),
        first_name: String::new(),
        last_name: String::new(),
    };
    let wanted = CreateTenant { admin: Some(admin), ..CreateTenant::named(slug.clone()) };
    let asked = Asked { canary: true, ..Asked::default() };
    let made = fleet.create_for(&wanted, asked, None, &OperationOptions::default(), &Silent).await?;
    let id = made.tenant.id;
    let answer = say(client, &login(slug, &password), 200).await?;
    let text =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| refused("The server answers otherwise."));
    let token = text(&answer["accessToken"])?;
    let refresh = text(&answer["refreshToken"])?;
    let user = text(&answer["user"]["id"])?;
    let contact = Ask::post("/api/v1/contacts", json!({"lastName": "Canary"})).bearing(&token);
    let contact = text(&say(client, &contact, 201).await?["id"])?;
    let keys = fleet.control.keys.clone();
    let key = fleet.control.db.read(async move |conn: &mut MainConn| signing_keys::in_use(conn, id).await).await?;
    let private = key.private(&keys).map_err(ApiError::internal)?;
    let forge = Forge::new(&private, key.public, token).ok_or_else(|| {
        refused("The server's tokens are not as this release makes them; verify with its own release.")
    })?;
    Ok(Canary { id, slug: slug.clone(), password, forge, refresh, contact, user })
}

/// Removes those of earlier proofs that came to no end. Gives how many those were, and a fault for each that stays.
pub(super) async fn sweep(fleet: &Fleet, canaries: &[TenantRecord]) -> ApiResult<(usize, Vec<Fault>)> {
    let (mut swept, mut faults) = (0, Vec::new());
    for canary in canaries {
        // Another proof that runs right now holds its own.
        let Some(lock) = try_hold(fleet, &canary.slug).await? else { continue };
        faults.extend(remove(fleet, Held { slug: canary.slug.clone(), lock }).await);
        swept += 1;
    }
    Ok((swept, faults))
}

/// Removes one, as far as it was made; a fault if it stays.
pub(super) async fn remove(fleet: &Fleet, held: Held) -> Option<Fault> {
    let Held { slug, lock } = held;
    let done = gone(fleet, &slug).await;
    lock.release().await;
    let error = done.err()?;
    tracing::warn!(%slug, %error, cause = ?error.cause(), "a canary was not removed");
    let said = format!(
        "a canary, with an administrator, was not removed: {} Remove it: tenantry tenant delete {slug} --now --yes",
        error.client_detail()
    );
    Some(Fault::new("canary_left", &slug, said))
}

async fn gone(fleet: &Fleet, slug: &Slug) -> ApiResult<()> {
    let Some(tenant) = find(fleet, slug).await? else { return Ok(()) };
    let how = DeleteTenant { now: true, ..DeleteTenant::default() };
    let Err(error) = fleet.delete(tenant.id, how, &Silent).await else { return Ok(()) };
    // Somebody else may have removed it meanwhile.
    if find(fleet, slug).await?.is_some() { Err(error) } else { Ok(()) }
}

/// None if there is no such tenant: what does not answer does not say that.
async fn find(fleet: &Fleet, slug: &Slug) -> ApiResult<Option<TenantRecord>> {
    match fleet.get(slug.as_str()).await {
        Ok(tenant) => Ok(Some(tenant)),
        Err(error) if error.code() == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Signing in there.
pub(super) fn login(slug: &Slug, password: &SecretString) -> Ask {
    let body = json!({"tenant": slug.as_str(), "email": EMAIL, "password": password.expose_secret()});
    Ask::post("/api/v1/auth/login", body)
}

/// `data` of the answer, which has to be of this status.
async fn say(client: &Client, ask: &Ask, status: u16) -> ApiResult<Value> {
    let mut heard = client.ask(ask).await.map_err(|error| {
        refused(format!("The server at {} does not answer. Start it, or name another with --url.", client.url()))
            .caused_by(error)
    })?;
    if heard.status == status {
        return Ok(heard.body["data"].take());
    }
    let code = heard.body["error"]["code"].as_str().unwrap_or("no code").to_owned();
    Err(refused(format!(
        "The server at {} answered a canary with {} {code}. Is it a node of this installation?",
        client.url(),
        heard.status
    )))
}

impl Canary {
    /// A question in the name of its administrator.
    pub(super) fn ask(&self, method: Method, path: impl Into<String>) -> Ask {
        Ask::new(method, path).bearing(&self.forge.token)
    }
}
