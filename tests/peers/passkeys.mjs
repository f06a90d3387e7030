// Drives a real browser with a virtual authenticator: a passkey is made, and signs in, once.
import http from 'node:http';
import { chromium } from 'playwright-core';

const { browser: executablePath, url, port, login } = JSON.parse(process.argv[2]);
const seen = {};

const serve = (port) =>
  new Promise((resolve) => {
    const server = http.createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<title>page</title>'));
    server.listen(port, 'localhost', () => resolve(server));
  });
const server = await serve(port);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--no-proxy-server'] });
const context = await browser.newContext();
const app = await context.newPage();
await app.goto(`http://localhost:${port}/`);
const protocol = await context.newCDPSession(app);
await protocol.send('WebAuthn.enable');
const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true };
await protocol.send('WebAuthn.addVirtualAuthenticator', {
  options: { ...options, isUserVerified: true, automaticPresenceSimulation: true },
});

Object.assign(
  seen,
  await app.evaluate(
    async ([url, login]) => {
      const ask = async (path, body, token) => {
        const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
        const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
        return { status: answer.status, data: (await answer.json()).data };
      };
      const token = (await ask('/api/v1/auth/login', login)).data.accessToken;
      const making = (await ask('/api/v1/auth/passkeys/options', {}, token)).data;
      const made = await navigator.credentials.create({
        publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(making.publicKey),
      });
      const body = { ceremonyId: making.ceremonyId, name: 'Browser', credential: made.toJSON() };
      const added = await ask('/api/v1/auth/passkeys', body, token);
      const asked = (await ask('/api/v1/auth/passkeys/login/options', { tenant: login.tenant })).data;
      const got = await navigator.credentials.get({
        publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(asked.publicKey),
      });
      const answer = { tenant: login.tenant, ceremonyId: asked.ceremonyId, credential: got.toJSON() };
      const signedIn = await ask('/api/v1/auth/passkeys/login', answer);
      const again = await ask('/api/v1/auth/passkeys/login', answer);
      return { added: added.status, signedIn: signedIn.status, email: signedIn.data.user.email, again: again.status };
    },
    [url, login],
  ),
);

console.log(JSON.stringify(seen));
await browser.close();
server.close();
