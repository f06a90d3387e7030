// Drives a real browser: a page of the application's own origin, and one of another origin that attacks it.
import http from 'node:http';
import { app, ask, blank, browser, context, given } from './page.mjs';

const { url, login } = given;
const seen = { attacks: {} };

// Another origin of the same site (a site has no port), so that the browser sends the cookies along.
const other = http.createServer((_, answer) => answer.setHeader('content-type', 'text/html').end(blank));
await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
const evil = `http://127.0.0.1:${other.address().port}/`;

const signedIn = await ask('POST', '/api/v1/auth/login', login);
const { data } = signedIn;
seen.login = { status: signedIn.status, tokenType: data.tokenType, tokens: 'accessToken' in data || 'refreshToken' in data };
seen.scriptsSee = await app.evaluate(() => document.cookie);
const jar = await context.cookies();
seen.jar = jar.map(({ name, httpOnly, secure, sameSite }) => ({ name, httpOnly, secure, sameSite }));
seen.me = (await ask('GET', '/api/v1/users/me')).status;
seen.made = (await ask('POST', '/api/v1/contacts', { lastName: 'Lovelace' })).status;
seen.refresh = (await ask('POST', '/api/v1/auth/refresh', {})).status;
const values = async () => (await context.cookies()).map((cookie) => cookie.value).join();
seen.refreshed = (await values()) !== jar.map((cookie) => cookie.value).join();
seen.after = (await ask('GET', '/api/v1/users/me')).status;

const attack = async (name, run, argument) => {
  const tab = await context.newPage();
  const heard = [];
  tab.on('response', async (response) => {
    if (!response.url().startsWith(url)) return;
    heard.push(response.status());
    const headers = await response.request().allHeaders();
    if ((headers.cookie ?? '').includes('__Host-tenantry-access')) seen.bore = true;
  });
  await tab.goto(evil);
  await tab.evaluate(run, argument).catch(() => {});
  await tab.waitForLoadState('networkidle');
  seen.attacks[name] = heard;
  await tab.close();
};
await attack('form', (target) => {
  document.body.innerHTML = `<form method="post" enctype="text/plain" action="${target}"><input name='{"lastName":"Evil","x' value='":1}'></form>`;
  document.forms[0].submit();
}, `${url}/api/v1/contacts`);
await attack('fetch', (target) =>
  fetch(target, { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"lastName":"Evil"}' }).then(() => {}),
  `${url}/api/v1/contacts`);
await attack('header', (target) => {
  const headers = { 'x-session-mode': 'cookie', 'content-type': 'application/json' };
  return fetch(target, { method: 'POST', credentials: 'include', headers, body: '{"lastName":"Evil"}' }).then(() => {});
}, `${url}/api/v1/contacts`);
await attack('loginForm', ([target, body]) => {
  const headers = { 'x-session-mode': 'cookie', 'content-type': 'application/json' };
  return fetch(target, { method: 'POST', credentials: 'include', headers, body: JSON.stringify(body) }).then(() => {});
}, [`${url}/api/v1/auth/login`, login]);

const contacts = await ask('GET', '/api/v1/contacts');
seen.contacts = contacts.data.length;
seen.logout = (await ask('POST', '/api/v1/auth/logout', {})).status;
seen.left = (await context.cookies()).length;
console.log(JSON.stringify(seen));
await browser.close();
other.close();
