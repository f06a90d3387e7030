// A provider that does what it is told: the code itself says which ID token it is exchanged for. Prints its address as one
// line of JSON once it listens.
//
//   /{name}/…            an issuer with keys of its own
//   code                 base64url of JSON: {claims, alg, key, kid, userinfo}: `claims` over the good ones, null removes
//   POST /rotate/{name}  other keys from here on; POST /sign signs what a code would say; POST /seen tells what was asked
//   /github/…            GitHub's OAuth and API; the code says {id, name, emails}
import http from 'node:http';
import { createHmac, randomUUID } from 'node:crypto';
import { SignJWT, UnsecuredJWT, exportJWK, exportSPKI, generateKeyPair } from 'jose';

const server = http.createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const base = `http://127.0.0.1:${server.address().port}`;
const seen = [];
const asked = {};
const stranger = await pair();
// Keys by the name of the issuer, so that a test rotates its own alone.
const rings = new Map();

async function ring(name) {
  if (!rings.has(name)) rings.set(name, { now: pair(), old: null });
  const { now, old } = rings.get(name);
  return { now: await now, old: await old };
}

async function pair() {
  const kid = randomUUID();
  return { kid, rs: await generateKeyPair('RS256', { extractable: true }), es: await generateKeyPair('ES256', { extractable: true }) };
}

async function jwks(name) {
  const { now: keys } = await ring(name);
  const one = async (key, alg) => ({ ...(await exportJWK(key)), kid: `${keys.kid}-${alg}`, alg, use: 'sig' });
  return { keys: [await one(keys.rs.publicKey, 'RS256'), await one(keys.es.publicKey, 'ES256')] };
}

async function sign(name, wish, good) {
  const { now: keys, old } = await ring(name);
  const claims = { ...good, ...wish.claims };
  for (const name of Object.keys(claims)) if (claims[name] === null) delete claims[name];
  const from = { stranger, old }[wish.key] ?? keys;
  const alg = wish.alg ?? 'RS256';
  if (alg === 'none') return new UnsecuredJWT(claims).encode();
  const kid = wish.kid ?? `${keys.kid}-${alg === 'ES256' ? 'ES256' : 'RS256'}`;
  if (alg === 'HS256') {
    // With a secret, or with the public key as if it were one.
    const secret = wish.secret ?? (await exportSPKI(keys.rs.publicKey));
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const content = `${part({ alg, kid })}.${part(claims)}`;
    return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`;
  }
  const key = alg === 'ES256' ? from.es.privateKey : from.rs.privateKey;
  return new SignJWT(claims).setProtectedHeader({ alg, kid, ...wish.header }).sign(key);
}

const read = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
};
const wishOf = (code) => JSON.parse(Buffer.from(code, 'base64url').toString());

async function answer(request) {
  const [, name, ...rest] = new URL(request.url, base).pathname.split('/');
  const path = rest.join('/');
  const issuer = `${base}/${name}`;
  const now = Math.floor(Date.now() / 1000);
  const bearer = () => wishOf(request.headers.authorization.split(' ')[1]);
  if (name === 'rotate') {
    rings.set(path, { now: pair(), old: rings.get(path).now });
    return {};
  }
  if (name === 'seen') return { seen, asked };
  if (name === 'sign') {
    const wish = JSON.parse(await read(request));
    return { token: await sign(wish.ring ?? 'foreign', wish, { iat: now, exp: now + 300 }) };
  }
  if (name === 'github') {
    if (path === 'login/oauth/access_token') {
      const form = new URLSearchParams(await read(request));
      const good = form.get('client_secret') === 'github secret' && form.get('code_verifier')?.length === 43;
      return good ? { access_token: form.get('code'), token_type: 'bearer' } : { error: 'bad_verification_code' };
    }
    if (path === 'api/v3/user') return { id: bearer().id, name: bearer().name, login: 'x' };
    if (path === 'api/v3/user/emails') return bearer().emails;
  }
  switch (path) {
    case '.well-known/openid-configuration':
      return {
        issuer: name === 'liar' ? `${base}/honest` : issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        userinfo_endpoint: `${issuer}/userinfo`,
        authorization_response_iss_parameter_supported: name === 'named',
      };
    case 'jwks':
      asked[name] = (asked[name] ?? 0) + 1;
      return jwks(name);
    case 'token': {
      const form = new URLSearchParams(await read(request));
      const code = form.get('code');
      seen.push(`${name} ${code}`);
      const wish = wishOf(code);
      const good = {
        iss: issuer, aud: 'tenantry', sub: 'evil', iat: now, exp: now + 300,
        email: 'evil@example.com', email_verified: true,
      };
      return { access_token: code, token_type: 'Bearer', id_token: await sign(name, wish, good) };
    }
    case 'userinfo':
      return bearer().userinfo ?? {};
  }
  return null;
}

server.on('request', async (request, response) => {
  const body = await answer(request).catch((error) => ({ error: String(error) }));
  response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
});
// The tests hold the other end: when they are gone, so is this.
process.stdin.resume().on('end', () => process.exit());
console.log(JSON.stringify(base));
