// The generated types, and what a client that is made from them does with the local stack. `tsc` checks the types.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import createClient from 'openapi-fetch'
import type { components, paths } from './generated/schema.js'

type Schemas = components['schemas']

const { API_URL: baseUrl, TOKEN: token, CONTROL_URL: controlUrl } = process.env
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } })

async function control(method: string, path: string, body: unknown): Promise<void> {
  const response = await fetch(controlUrl + path, { method, body: JSON.stringify(body) })
  assert.equal(response.status, 200)
}

/** A client that gets this response to every request. */
function responding(status: number, contentType: string, body: unknown) {
  const response = () => new Response(JSON.stringify(body), { status, headers: { 'content-type': contentType } })
  return createClient<paths>({ baseUrl: 'http://api', fetch: async () => response() })
}

/** The problem document of an error, or undefined if API Gateway sent the error itself. */
function problemOf(error: Schemas['ErrorBody'] | undefined): Schemas['Problem'] | undefined {
  return error && 'code' in error ? error : undefined
}

const challengeId = 'c4d1da72-111e-4d52-bdbf-2e74a2d803d5'
const byId = { params: { path: { challengeId } } }

test('a challenge from its creation to its status', async () => {
  const { data: created, response } = await client.POST('/challenges', { body: { type: 'RESTORE_PIN' } })
  assert.ok(created?.session)
  assert.equal(response.headers.get('location'), `/challenges/${created.challengeId}`)

  const { data: asked, response: polled } = await client.GET('/challenges/{challengeId}', {
    params: {
      path: { challengeId: created.challengeId },
      header: { 'X-User-Token': created.session.userToken },
    },
  })
  assert.equal(asked?.status, 'PENDING')
  assert.equal(asked.checkError, undefined)
  assert.ok(Number(polled.headers.get('retry-after')) >= 3)

  const { data: listed } = await client.GET('/challenges', { params: { query: { limit: 1 } } })
  assert.deepEqual(
    listed?.challenges.map((challenge) => challenge.challengeId),
    [created.challengeId],
  )
})

test('the body is optional', async () => {
  const withoutBody = await client.POST('/challenges')
  const withEmptyBody = await client.POST('/challenges', { body: {} })
  for (const { data } of [withoutBody, withEmptyBody]) assert.equal(data?.type, 'CHANGE_PIN')
})

test('an error of a function keeps everything', async () => {
  const missing = await client.GET('/challenges/{challengeId}', { params: { path: { challengeId: randomUUID() } } })
  assert.equal(problemOf(missing.error)?.code, 'challenge_not_found')

  await control('POST', '/clock/advance', { seconds: 3600 })
  for (let count = 1; count <= 10; count += 1) assert.ok((await client.POST('/challenges')).data)
  const { error, response } = await client.POST('/challenges')
  const problem = problemOf(error)
  assert.equal(problem?.code, 'too_many_challenges')
  assert.ok(problem.userMessage)
  assert.equal(problem.retryAfterSeconds, Number(response.headers.get('retry-after')))
})

test('an error of the gateway is its message', async () => {
  const stranger = createClient<paths>({ baseUrl, headers: { authorization: 'Bearer not-a-token' } })
  const { error } = await stranger.POST('/session-tokens')
  assert.ok(error && !('code' in error))
  assert.equal(error.message, 'Unauthorized')

  const throttled = await responding(429, 'application/json', { message: 'Too Many Requests' }).GET('/pin')
  assert.equal(problemOf(throttled.error), undefined)
})

test('values that a later version adds are kept', async () => {
  // These assignments compile only if the lists of values are open.
  const later: Schemas['Challenge'] = {
    challengeId,
    type: 'SET_PIN',
    status: 'PAUSED',
    createdAt: '2026-01-01T12:00:00Z',
    updatedAt: '2026-01-01T12:00:00Z',
    checkedAt: '2026-01-01T12:00:00Z',
    failure: { reason: 'device_lost', message: 'Text' },
    checkError: { code: 'circle_asleep' },
  }
  const { data } = await responding(200, 'application/json', { ...later, colour: 'blue' }).GET(
    '/challenges/{challengeId}',
    byId,
  )
  assert.deepEqual(data, { ...later, colour: 'blue' })

  const problem: Schemas['Problem'] = {
    type: 'urn:circle-pin-reset:problem:user_asleep',
    title: 'User asleep',
    status: 403,
    detail: 'Text',
    code: 'user_asleep',
    requestId: '1',
    userMessage: 'Text',
  }
  const { error } = await responding(403, 'application/problem+json', problem).GET('/challenges/{challengeId}', byId)
  assert.deepEqual(problemOf(error), problem)
})

test('an app gets no operation for webhooks', () => {
  // This compiles only if there is no such path.
  const path: '/webhooks/circle' extends keyof paths ? never : string = '/webhooks/circle'
  assert.ok(path)
})
