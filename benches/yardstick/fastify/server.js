// What most people write: Fastify in cluster mode, a map of pools by tenant, an HS256 check per request.
// Reads its order as JSON from standard input; says where it listens in one line of JSON.

import cluster from 'node:cluster'
import { text } from 'node:stream/consumers'
import jwt from '@fastify/jwt'
import fastify from 'fastify'
import pg from 'pg'

const PROCESSES = 2

const QUERY = {
  name: 'contacts',
  text: `SELECT id, first_name AS "firstName", last_name AS "lastName", company, title, emails, phones, addresses, notes,
                tags, created_at AS "createdAt", updated_at AS "updatedAt", version
         FROM contacts ORDER BY created_at DESC, id DESC LIMIT 21`
}

if (cluster.isPrimary) {
  const order = JSON.parse(await text(process.stdin))
  let port
  for (let n = 0; n < PROCESSES; n++) {
    const worker = cluster.fork()
    const said = () => new Promise((resolve) => worker.once('message', resolve))
    await said() // that it listens to us: what comes earlier is lost
    worker.send(order)
    port = await said()
  }
  console.log(JSON.stringify({ url: `http://127.0.0.1:${port}/contacts` }))
} else {
  process.once('message', async ({ databases, cap, secret }) => {
    const pools = new Map()
    for (const [tenant, connectionString] of Object.entries(databases)) {
      pools.set(tenant, new pg.Pool({ connectionString, max: cap, idleTimeoutMillis: 600_000 }))
    }
    const app = fastify({ logger: false })
    app.register(jwt, { secret })
    app.addHook('onRequest', (request) => request.jwtVerify())
    app.get('/contacts', async (request, reply) => {
      const pool = pools.get(request.user.tenant)
      if (!pool) return reply.code(404).send()
      const { rows } = await pool.query(QUERY)
      return rows.slice(0, 20)
    })
    // Any free port, which is the same in all workers of a cluster.
    await app.listen({ host: '127.0.0.1', port: 0 })
    process.send(app.server.address().port)
  })
  process.send('ready')
}
