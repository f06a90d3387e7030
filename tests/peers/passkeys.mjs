// Drives a real browser with a device that keeps passkeys: on a page of the application's own, and on pages of others.
import { app, ask, at, browser, context, given } from './page.mjs';

const { url, login } = given;
const KEYS = '/api/v1/auth/passkeys';
const SECOND = '/api/v1/auth/mfa/webauthn';
const seen = {};

const device = await context.newCDPSession(app);
await device.send('WebAuthn.enable');
const options = {
  protocol: 'ctap2',
  transport: 'internal',
  hasResidentKey: true,
  hasUserVerification: true,
  isUserVerified: true,
  automaticPresenceSimulation: true,
};
const { authenticatorId } = await device.send('WebAuthn.addVirtualAuthenticator', { options });
const unlock = (isUserVerified) => device.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified });

const create = (asked) =>
  app.evaluate(async (asked) => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(asked);
    return (await navigator.credentials.create({ publicKey })).toJSON();
  }, asked);

// What the page's script gets, or why it gets nothing.
const get = (asked) =>
  app.evaluate(async (asked) => {
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked);
      return { credential: (await navigator.credentials.get({ publicKey })).toJSON() };
    } catch (error) {
      return { refused: error.name };
    }
  }, asked);

const { tenant } = login;
const question = async () => (await ask('POST', `${KEYS}/login/options`, { tenant })).data;
const enter = ({ ceremonyId }, { credential }) => ask('POST', `${KEYS}/login`, { tenant, ceremonyId, credential });
const me = async () => {
  const { status, data } = await ask('GET', '/api/v1/users/me');
  return { status, email: data.email };
};
const leave = () => ask('POST', '/api/v1/auth/logout', {});

// Added to an account, and then all that it takes.
await ask('POST', '/api/v1/auth/login', login);
const { ceremonyId, publicKey } = (await ask('POST', `${KEYS}/options`, {})).data;
const credential = await create(publicKey);
seen.added = (await ask('POST', KEYS, { ceremonyId, name: 'Laptop', credential })).status;
await leave();
seen.out = await me();
let asked = await question();
const signedIn = await enter(asked, await get(asked.publicKey));
seen.login = { status: signedIn.status, tokenType: signedIn.data.tokenType };
seen.me = await me();
seen.policy = (await ask('PATCH', '/api/v1/security-policy', { mfaRequiredRoles: ['admin'] })).status;
await leave();

// Nobody unlocks the device: nor does a script help that does not ask for it.
await unlock(false);
asked = await question();
seen.locked = await get(asked.publicKey);
const lowered = await get({ ...asked.publicKey, userVerification: 'discouraged' });
seen.lowered = lowered.credential ? await enter(asked, lowered) : lowered;
await unlock(true);

// A page of another site; and one of the same name at another port, where the browser has no objection.
asked = await question();
await at(app, `${url.replace('localhost', 'evil.localhost')}/`);
seen.evil = await get(asked.publicKey);
await at(app, 'http://localhost:9/');
const elsewhere = await get(asked.publicKey);
await app.goto(`${url}/app`);
seen.elsewhere = { given: 'credential' in elsewhere, status: (await enter(asked, elsewhere)).status };
seen.still = await me();

// The second half of a login.
const { mfaToken, methods } = (await ask('POST', '/api/v1/auth/login', login)).data;
asked = (await ask('POST', `${SECOND}/options`, { mfaToken })).data;
const answer = { mfaToken, ceremonyId: asked.ceremonyId, ...(await get(asked.publicKey)) };
seen.second = { methods, status: (await ask('POST', SECOND, answer)).status, me: await me() };

console.log(JSON.stringify(seen));
await browser.close();
