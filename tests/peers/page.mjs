// A real browser with a page of the application's own: answered here, so that it is of the very origin of the API.
import { chromium } from 'playwright-core';

export const given = JSON.parse(process.argv[2]);
export const blank = '<!doctype html><title>a page</title>';

export const browser = await chromium.launch({
  executablePath: given.browser,
  args: ['--no-sandbox', '--no-proxy-server'],
});
export const context = await browser.newContext();

// Has a tab show a page of some address, whether anybody listens there or not.
export const at = async (tab, address) => {
  await tab.route(address, (route) => route.fulfill({ contentType: 'text/html', body: blank }));
  await tab.goto(address);
};

export const app = await context.newPage();
await at(app, `${given.url}/app`);

// Asks the API as a page of ours does.
export const ask = (method, path, body) =>
  app.evaluate(
    async ([method, path, body]) => {
      const headers = { 'x-session-mode': 'cookie', 'content-type': 'application/json' };
      const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
      const said = await answer.json().catch(() => null);
      return { status: answer.status, data: said?.data ?? {}, code: said?.error?.code };
    },
    [method, path, body],
  );
