// An OAuth client of somebody else's making, run through all that an app does. Takes its orders as one line of JSON in its
// environment, and prints what came of it as one line of JSON. What is not as the standards have it, the library refuses.
//
//   issuer   the tenant's issuer; `at` where it really listens
//   client   {id, secret}, of an app with all grants; `open` {id}, of one without a secret
//   redirect where people are sent back to; `person` the access token of somebody who agrees
import * as oauth from 'oauth4webapi';

const { issuer, at, client: confidential, open, redirect, person } = JSON.parse(process.env.ORDERS);
const here = (url) => String(url).replace(new URL(issuer).origin, at);
const options = {
  [oauth.allowInsecureRequests]: true,
  [oauth.customFetch]: (url, init) => fetch(here(url), init),
};

async function describe(algorithm) {
  const found = await oauth.discoveryRequest(new URL(issuer), { ...options, algorithm });
  return oauth.processDiscoveryResponse(new URL(issuer), found);
}

// The browser and the person in front of it.
async function agree(url) {
  const sent = await fetch(here(url), { redirect: 'manual' });
  const page = new URL(sent.headers.get('location'));
  const path = `${at}/api/v1/oauth/requests/${page.searchParams.get('request')}`;
  const headers = { authorization: `Bearer ${person}` };
  const asked = await (await fetch(path, { headers })).json();
  const answer = await (await fetch(`${path}/accept`, { method: 'POST', headers })).json();
  return { asked: asked.data, url: new URL(answer.data.redirectTo) };
}

async function signIn(as, client, proof, scope) {
  const verifier = oauth.generateRandomCodeVerifier();
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
  const url = new URL(as.authorization_endpoint);
  const challenge = await oauth.calculatePKCECodeChallenge(verifier);
  const parameters = { client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope, state, nonce };
  for (const [name, value] of Object.entries({ ...parameters, code_challenge: challenge, code_challenge_method: 'S256' }))
    url.searchParams.set(name, value);
  const { asked, url: back } = await agree(url);
  const answer = oauth.validateAuthResponse(as, client, back, state);
  const request = await oauth.authorizationCodeGrantRequest(as, client, proof, answer, redirect, verifier, options);
  const tokens = await oauth.processAuthorizationCodeResponse(as, client, request, { expectedNonce: nonce, requireIdToken: true });
  await oauth.validateApplicationLevelSignature(as, request, options);
  return { asked, tokens, claims: oauth.getValidatedIdTokenClaims(tokens) };
}

async function verified(as, token) {
  const request = new Request(`${issuer}/api`, { headers: { authorization: `Bearer ${token}` } });
  return oauth.validateJwtAccessToken(as, request, issuer, options);
}

const as = await describe('oidc');
const same = await describe('oauth2');
const report = { described: as.token_endpoint === same.token_endpoint };

const client = { client_id: confidential.id };
const proof = oauth.ClientSecretBasic(confidential.secret);
const { asked, tokens, claims } = await signIn(as, client, proof, 'openid email contacts:read');
report.asked = asked.scopes;
report.sub = claims.sub;
const access = await verified(as, tokens.access_token);
report.scope = access.scope;
const info = await oauth.userInfoRequest(as, client, tokens.access_token, options);
report.email = (await oauth.processUserInfoResponse(as, client, claims.sub, info)).email;
const contacts = new URL(`${at}/api/v1/contacts`);
const read = await oauth.protectedResourceRequest(tokens.access_token, 'GET', contacts, undefined, undefined, options);
report.read = read.status;

const refresh = async (token, how) =>
  oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, how, token, options));
const next = await refresh(tokens.refresh_token, oauth.ClientSecretPost(confidential.secret));
report.rotated = next.refresh_token !== tokens.refresh_token;
const introspect = async (token) => {
  const asked = await oauth.introspectionRequest(as, client, proof, token, options);
  return oauth.processIntrospectionResponse(as, client, asked);
};
report.active = [(await introspect(next.access_token)).active, (await introspect(next.refresh_token)).active];
await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, proof, next.refresh_token, options));
report.revoked = [(await introspect(next.access_token)).active, (await introspect(next.refresh_token)).active];

const own = await oauth.clientCredentialsGrantRequest(as, client, proof, { scope: 'contacts:read' }, options);
const given = await oauth.processClientCredentialsResponse(as, client, own);
report.own = (await verified(as, given.access_token)).sub === confidential.id;

const bare = { client_id: open.id };
const second = await signIn(as, bare, oauth.None(), 'openid');
report.open = second.claims.sub === claims.sub;
console.log(JSON.stringify(report));
