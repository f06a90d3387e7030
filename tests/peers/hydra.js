// Ory Hydra's admin API as it is documented, as far as a login and consent app meets it: it keeps to its own rules, and
// refuses what Hydra refuses. Prints its address as one line of JSON once it listens. Who asks needs `Bearer of the tests`.
//
//   POST /test/{kind}   a browser came: {challenge} of a new question with these members
//   POST /test/answers  what was answered so far, by challenge
import http from 'node:http';
import { randomUUID } from 'node:crypto';

const questions = new Map();
const answers = {};

const read = async (request) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text === '' ? {} : JSON.parse(text);
};

function judge(kind, verb, question, body) {
  if (verb === 'reject') return null;
  if (kind === 'login') {
    if (typeof body.subject !== 'string' || body.subject === '') return "Field 'subject' must not be empty.";
    if (question.skip && body.subject !== question.subject) return "The subject does not match the one that is remembered.";
  }
  if (kind === 'consent' && (body.grant_scope ?? []).some((scope) => !question.requested_scope.includes(scope)))
    return 'A scope was granted that was not requested.';
  return null;
}

const server = http.createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(body === undefined ? '' : JSON.stringify(body));
  };
  const url = new URL(request.url, 'http://hydra');
  const [, first, ...rest] = url.pathname.split('/');
  if (first === 'test' && rest[0] === 'answers') return answer(200, answers);
  if (first === 'test') {
    const challenge = randomUUID();
    questions.set(challenge, { kind: rest[0], used: false, ...(await read(request)), challenge });
    return answer(200, { challenge });
  }
  if (request.headers.authorization !== 'Bearer of-the-tests') return answer(401, { error: 'unauthorized' });
  const [kind, verb] = rest.slice(3);
  if (url.pathname !== `/admin/oauth2/auth/requests/${kind}${verb ? `/${verb}` : ''}`) return answer(404, { error: 'not_found' });
  const question = questions.get(url.searchParams.get(`${kind}_challenge`));
  if (question?.kind !== kind) return answer(404, { error: 'Not Found', error_description: 'Unable to locate the requested resource' });
  const to = { redirect_to: `http://hydra.test/oauth2/${kind}?verifier=${question.challenge}` };
  if (request.method !== (verb ? 'PUT' : 'GET')) return answer(405, { error: 'method_not_allowed' });
  if (question.used) return answer(410, to);
  if (!verb) return answer(200, question);
  const body = await read(request);
  const wrong = judge(kind, verb, question, body);
  if (wrong) return answer(400, { error: 'invalid_request', error_description: wrong });
  question.used = true;
  answers[question.challenge] = { verb, body };
  return kind === 'logout' && verb === 'reject' ? answer(204) : answer(200, to);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
console.log(JSON.stringify(`http://127.0.0.1:${server.address().port}`));
// It ends with whoever started it.
process.stdin.on('end', () => process.exit()).resume();
