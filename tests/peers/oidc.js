// Two certified OpenID providers, with consent by script: whoever comes is signed in as `login_hint` says, which is JSON of
// `{sub, email, verified, name}`, and consents to everything. Prints its issuers as one line of JSON once it listens.
import http from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

async function start(name) {
  const server = http.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const people = new Map();
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  const key = { ...(await exportJWK(privateKey)), kid: name, alg: 'RS256', use: 'sig' };
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: 'tenantry',
        client_secret: 'a secret of thirty-two characters',
        redirect_uris: ['https://app.example.com/callback'],
        response_types: ['code'],
        grant_types: ['authorization_code'],
      },
    ],
    jwks: { keys: [key] },
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['given_name', 'family_name'] },
    features: { devInteractions: { enabled: false } },
    pkce: { required: () => true },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    async findAccount(_, id) {
      const { email, verified, name } = people.get(id) ?? {};
      const [given, family] = (name ?? 'Ada Lovelace').split(' ');
      return {
        accountId: id,
        claims: () => ({ sub: id, email, email_verified: verified, given_name: given, family_name: family }),
      };
    },
  });
  const handle = provider.callback();
  server.on('request', async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return handle(request, response);
    const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
    if (prompt.name === 'login') {
      const person = JSON.parse(params.login_hint);
      people.set(person.sub, person);
      return provider.interactionFinished(request, response, { login: { accountId: person.sub } });
    }
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    grant.addOIDCScope(params.scope);
    const consent = { grantId: await grant.save() };
    return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
  });
  return issuer;
}

// The tests hold the other end: when they are gone, so is this.
process.stdin.resume().on('end', () => process.exit());
console.log(JSON.stringify([await start('one'), await start('two')]));
