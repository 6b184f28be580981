// Circle's SDK for the simulator, the simulator's control API, and a receiver of webhooks.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { initiateUserControlledWalletsClient } from '@circle-fin/user-controlled-wallets'

const baseUrl = process.env.CIRCLE_URL
const apiKey = process.env.CIRCLE_API_KEY
if (!baseUrl || !apiKey) throw new Error('set CIRCLE_URL and CIRCLE_API_KEY, or start the tests with ../run')

export const clientWith = (key) => initiateUserControlledWalletsClient({ apiKey: key, baseUrl })
export const client = clientWith(apiKey)

export async function control(method, path, body) {
  const response = await fetch(`${baseUrl}/control${path}`, { method, body: body && JSON.stringify(body) })
  const json = await response.json()
  assert.equal(response.status, 200, JSON.stringify(json))
  return json
}

/** A new user, with a PIN and security questions unless a state is given. */
export async function newUser(state = { pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' }) {
  const userId = `node-${randomUUID()}`
  await control('PUT', `/users/${userId}`, state)
  return userId
}

/** A new user, and a token. */
export async function signedIn(state) {
  const userId = await newUser(state)
  const { data } = await client.createUserToken({ userId })
  return { userId, userToken: data.userToken }
}

/** Asserts that the SDK reports an error with this status and this Circle error code. */
export async function rejected(promise, status, code) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.status, status, error.message)
    assert.equal(error.code, code)
    assert.notEqual(error.message, '')
    return true
  })
}

/** An endpoint on the loopback interface that receives webhooks. `next(predicate)` waits for one. */
export async function receiver() {
  const received = []
  const waiting = []
  const server = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    if (request.method === 'POST') {
      const body = Buffer.concat(chunks)
      const message = { headers: request.headers, body, json: JSON.parse(body) }
      received.push(message)
      waiting.splice(0).forEach((arrived) => arrived())
    }
    response.writeHead(200).end()
  })
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
  return {
    endpoint: `http://127.0.0.1:${server.address().port}/webhooks`,
    async next(predicate) {
      for (;;) {
        const found = received.find((message) => predicate(message.json))
        if (found) return found
        await new Promise((arrived) => waiting.push(arrived))
      }
    },
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
