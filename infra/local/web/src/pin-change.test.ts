/** The client with stand-ins for the API and Circle's SDK, and a clock that moves only if a test says so. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiError } from './pin-change.ts'
import {
  api,
  challenge,
  CHALLENGE_ID,
  client,
  clock,
  frameIsOpen,
  listeners,
  locks,
  newSession,
  POLL,
  POST,
  sdk,
  sent,
  SESSION,
  settled,
  started,
  watched,
} from './stand-ins.ts'

test('the callback ends the wait for the next poll', async () => {
  const { outcome } = await started()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.deepEqual(await outcome, { kind: 'ended', challenge: challenge('COMPLETE') })
  assert.deepEqual(sent(), [POST, POLL])
  assert.equal(api.requests[1]?.headers['x-user-token'], 'token-1')
  assert.deepEqual(sdk.runs, [{ challengeId: CHALLENGE_ID, userToken: 'token-1' }])
  assert.equal(localStorage.length, 0)
})

test('a callback that comes twice is asked about twice', async () => {
  const { outcome } = await started()
  api.challenge = challenge('IN_PROGRESS')
  sdk.fail(155112)
  await settled()
  assert.deepEqual(sent(), [POST, POLL])
  assert.ok(frameIsOpen())
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
  assert.equal(sdk.runs.length, 1)
})

test('the result needs no callback', async () => {
  const { outcome } = await started()
  await clock.advance(7)
  assert.deepEqual(api.requests.map(({ at }) => at - (api.requests[0]?.at ?? 0)), [0, 3, 6])
  api.challenge = challenge('FAILED', { failure: { reason: 'pin_locked', message: 'Locked' } })
  await clock.advance(3)
  assert.equal((await outcome).kind, 'ended')
  assert.equal(frameIsOpen(), false)
})

test('a frame that reports success is followed until the record says so', async () => {
  const { outcome } = await started()
  sdk.complete()
  await clock.advance(30)
  api.challenge = challenge('COMPLETE')
  await clock.advance(3)
  assert.equal((await outcome).kind, 'ended')
})

test('a user who closes the page can go on, also after a reload', async () => {
  const { outcome } = await started()
  sdk.close()
  await clock.advance(4)
  assert.equal((await outcome).kind, 'closed')
  assert.deepEqual(sent(), [POST, POLL, POLL])
  const stored = JSON.stringify({ ...localStorage })
  assert.ok(stored.includes(CHALLENGE_ID) && !stored.includes('token') && !stored.includes('bearer'))

  const resumed = client().resume()
  await settled()
  assert.deepEqual(sent().slice(3), [SESSION, POLL])
  assert.equal(sdk.runs.at(-1)?.userToken, 'token-2')
  sdk.show()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await resumed)?.kind, 'ended')
  assert.equal(await client().resume(), undefined)
})

test('a page that the SDK does not show is abandoned, also after an earlier good run', async () => {
  for (let run = 0; run < 2; run += 1) {
    const outcome = client().start('CHANGE_PIN')
    await clock.advance(19)
    assert.ok(frameIsOpen())
    await clock.advance(1)
    assert.equal((await outcome).kind, 'unreachable')
    assert.equal(frameIsOpen(), false)
  }
})

test('a page that was shown may take as long as the user does', async () => {
  const { outcome } = await started()
  await clock.advance(600)
  assert.ok(frameIsOpen())
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('the network error of the SDK ends the attempt', async () => {
  for (const [isShown, seconds] of [[false, 10], [true, 1]] as const) {
    const outcome = client().start('CHANGE_PIN')
    await settled()
    if (isShown) sdk.show()
    await clock.advance(seconds)
    sdk.fail(155706)
    assert.equal((await outcome).kind, 'unreachable')
    assert.equal(frameIsOpen(), false)
  }
})

test('a network error of an earlier run does not end this one', async () => {
  const abort = new AbortController()
  const aborted = assert.rejects(client().start('CHANGE_PIN', abort.signal), { name: 'AbortError' })
  await clock.advance(8)
  abort.abort()
  await aborted
  const outcome = client().start('CHANGE_PIN')
  // The SDK's timer of ten seconds calls whatever callback is the latest.
  await clock.advance(2)
  sdk.fail(155706)
  await settled()
  assert.ok(frameIsOpen())
  sdk.show()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('a session that ended is replaced, and the challenge runs with the new one', async () => {
  for (const end of [() => sdk.fail(155104), () => sdk.fail(155103)]) {
    const { outcome } = await started()
    end()
    await settled()
    assert.equal(sdk.runs.at(-1)?.userToken, `token-${api.sessions}`)
    assert.equal(document.querySelectorAll('#sdkIframe').length, 1)
    sdk.show()
    api.challenge = challenge('COMPLETE')
    sdk.complete()
    assert.equal((await outcome).kind, 'ended')
    api.challenge = challenge('PENDING')
  }
  assert.equal(sdk.runs.length, 4)
})

test('a session that the service cannot use any more is replaced a few times only', async () => {
  const { outcome } = await started()
  const failed = assert.rejects(outcome, (error: ApiError) => error.message === 'Your session has ended.')
  const checkError = { code: 'invalid_user_token', userMessage: 'Your session has ended.' }
  api.challenge = challenge('PENDING', { checkError })
  await clock.advance(10)
  await failed
  assert.equal(sent().filter((call) => call === SESSION).length, 3)
  assert.equal(frameIsOpen(), false)
})

test('the user says that the PIN is forgotten', async () => {
  const { outcome } = await started()
  sdk.forgotPin()
  assert.equal((await outcome).kind, 'forgotPin')
  assert.equal(frameIsOpen(), false)
})

test('a creation whose response is lost is retried with the same key', async () => {
  api.first = ['no response', { status: 503, body: { code: 'circle_unavailable' }, retryAfter: 7 }]
  const outcome = client().start('CHANGE_PIN')
  await clock.advance(2 + 7)
  assert.deepEqual(sent(), [POST, POST, POST])
  assert.deepEqual(api.requests.map(({ at }) => at - (api.requests[0]?.at ?? 0)), [0, 2, 9])
  assert.equal(new Set(api.requests.map(({ headers }) => headers['idempotency-key'])).size, 1)
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
})

test('the key outlives a reload until there is a response', async () => {
  api.first = Array.from({ length: 6 }, () => 'no response' as const)
  const failed = assert.rejects(client().start('CHANGE_PIN'), { status: 0 })
  await clock.advance(30)
  await failed
  const outcome = client().start('CHANGE_PIN')
  await settled()
  assert.equal(new Set(api.requests.map(({ headers }) => headers['idempotency-key'])).size, 1)
  sdk.show()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
  const another = client().start('CHANGE_PIN')
  await settled()
  assert.equal(new Set(api.requests.filter(({ path }) => path === '/challenges').map((one) => one.headers['idempotency-key'])).size, 2)
  await another
})

test('an error for the user is not retried', async () => {
  const body = { code: 'pin_locked', userMessage: 'Locked until 12:30 UTC.', lockedUntil: '2026-01-01T12:30:00Z' }
  api.first = [{ status: 423, body, retryAfter: 1800 }]
  await assert.rejects(client().start('CHANGE_PIN'), (error: ApiError) => {
    assert.equal(error.message, 'Locked until 12:30 UTC.')
    assert.equal(error.problem.lockedUntil, '2026-01-01T12:30:00Z')
    return !error.isTemporary
  })
  assert.deepEqual(sent(), [POST])
  assert.equal(localStorage.length, 0)
})

test('errors that last are not retried', async () => {
  const lasting = [
    { status: 503, body: { code: 'challenges_stopped' }, retryAfter: 60 },
    { status: 502, body: { code: 'circle_error' } },
    { status: 500, body: { code: 'misconfigured' } },
    { status: 401, body: { message: 'Unauthorized' } },
  ]
  for (const response of lasting) {
    api.first = [response]
    await assert.rejects(client().pin(), { status: response.status })
  }
  assert.equal(api.requests.length, lasting.length)
})

test('a repeated key whose challenge has ended opens no frame', async () => {
  api.challenge = challenge('COMPLETE')
  assert.equal((await client().start('CHANGE_PIN')).kind, 'ended')
  assert.equal(sdk.runs.length, 0)
})

test('only one attempt runs in a page', async () => {
  const { outcome } = await started()
  assert.deepEqual(await client().start('CHANGE_PIN'), { kind: 'otherTab' })
  assert.deepEqual(await client().resume(), { kind: 'otherTab' })
  assert.deepEqual(sent(), [POST])
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
})

test('only one tab runs an attempt', async () => {
  locks.add('pin-change:user-1')
  assert.deepEqual(await client().start('CHANGE_PIN'), { kind: 'otherTab' })
  assert.deepEqual(sent(), [])
  locks.clear()
  const { outcome } = await started()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
  assert.equal(locks.size, 0)
})

test('an attempt can follow at once on one that was aborted', async () => {
  const abort = new AbortController()
  const { outcome: first } = await started(client(), abort.signal)
  const aborted = assert.rejects(first, { name: 'AbortError' })
  abort.abort()
  const second = client().start('CHANGE_PIN')
  await aborted
  await settled()
  assert.equal(sdk.runs.length, 2)
  assert.equal(document.querySelectorAll('#sdkIframe').length, 1)
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await second).kind, 'ended')
})

test('an aborted creation is retried with the same key', async () => {
  const abort = new AbortController()
  let respond = () => {}
  api.gate = new Promise((resolve) => (respond = resolve))
  const aborted = assert.rejects(client().start('CHANGE_PIN', abort.signal), { name: 'AbortError' })
  await settled()
  abort.abort()
  respond()
  await aborted
  const { outcome } = await started()
  assert.equal(new Set(api.requests.map(({ headers }) => headers['idempotency-key'])).size, 1)
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
})

test('a key that is an hour old is not used again', async () => {
  api.first = Array.from({ length: 6 }, () => 'no response' as const)
  const failed = assert.rejects(client().start('CHANGE_PIN'), { status: 0 })
  await clock.advance(30)
  await failed
  await clock.advance(3600)
  const { outcome } = await started()
  const keys = new Set(api.requests.map(({ headers }) => headers['idempotency-key']))
  assert.equal(keys.size, 2)
  for (const key of keys) assert.match(key!, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
})

test('a challenge that is older than a session is not run again, but its result is shown', async () => {
  for (const status of ['PENDING', 'COMPLETE']) {
    api.challenge = challenge('PENDING')
    const { outcome } = await started()
    sdk.close()
    await clock.advance(4)
    assert.equal((await outcome).kind, 'closed')
    await clock.advance(3600)
    api.challenge = challenge(status)
    const expected = status === 'COMPLETE' ? { kind: 'ended', challenge: api.challenge } : undefined
    assert.deepEqual(await client().resume(), expected)
    assert.equal(frameIsOpen(), false)
    assert.equal(localStorage.length, 0)
  }
})

test('a challenge that the service does not know any more is forgotten', async () => {
  const { outcome } = await started()
  sdk.close()
  await clock.advance(4)
  await outcome
  api.first = [{ status: 201, body: newSession() }, { status: 404, body: { code: 'challenge_not_found' } }]
  assert.equal(await client().resume(), undefined)
  assert.equal(localStorage.length, 0)
})

test('a challenge that needs its first session is not resumed again', async () => {
  const { outcome } = await started()
  sdk.fail(155719)
  await settled()
  sdk.close()
  await clock.advance(4)
  assert.equal((await outcome).kind, 'closed')
  assert.equal(await client().resume(), undefined)
})

test('what happens during a poll is followed by another poll', async () => {
  const { outcome } = await started()
  let respond = () => {}
  api.gate = new Promise((resolve) => (respond = resolve))
  await clock.advance(3)
  assert.deepEqual(sent(), [POST, POLL])
  sdk.complete()
  respond()
  await settled()
  // The first response was on its way when the user finished.
  assert.deepEqual(sent(), [POST, POLL, POLL])
  api.challenge = challenge('COMPLETE')
  await clock.advance(3)
  assert.equal((await outcome).kind, 'ended')
})

test('nothing is left behind', async () => {
  const abort = new AbortController()
  watched(abort.signal)
  const { outcome } = await started(client(), abort.signal)
  for (let change = 0; change < 5; change += 1) {
    window.dispatchEvent(new window.Event('online'))
    // jsdom has timers of its own, which are due at once.
    await clock.advance(0)
  }
  assert.deepEqual([...listeners].sort(), ['abort', 'online', 'visibilitychange'])
  assert.equal(clock.timers.size, 1)
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
  await clock.advance(0)
  assert.deepEqual(listeners, [])
  assert.equal(clock.timers.size, 0)
})

test('a page without https has no locks and needs none', async () => {
  Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true })
  Object.defineProperty(crypto, 'randomUUID', { value: undefined, configurable: true })
  const { outcome } = await started()
  assert.deepEqual(await client().start('CHANGE_PIN'), { kind: 'otherTab' })
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('a browser that blocks its storage remembers the challenge until a reload', async () => {
  const get = () => {
    throw new Error('SecurityError')
  }
  Object.defineProperty(globalThis, 'localStorage', { get, configurable: true })
  const { outcome } = await started()
  sdk.close()
  await clock.advance(4)
  assert.equal((await outcome).kind, 'closed')
  const resumed = client().resume()
  await settled()
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await resumed)?.kind, 'ended')
  assert.equal(await client().resume(), undefined)
})

test('an aborted attempt closes the frame and asks no more', async () => {
  const abort = new AbortController()
  const { outcome } = await started(client(), abort.signal)
  const failed = assert.rejects(outcome, { name: 'AbortError' })
  abort.abort()
  await failed
  await clock.advance(60)
  assert.equal(frameIsOpen(), false)
  assert.deepEqual(sent(), [POST])
})

test('a poll that fails for the moment does not close the frame', async () => {
  const { outcome } = await started()
  api.first = ['no response', { status: 504, body: { code: 'timeout' }, retryAfter: 1 }]
  await clock.advance(3 + 2 + 1)
  assert.ok(frameIsOpen())
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('the frame stays open while the service cannot be reached', async () => {
  const { outcome } = await started()
  const throttled = { status: 429, body: { message: 'Too Many Requests' } }
  api.first = [...Array.from({ length: 6 }, () => 'no response' as const), throttled]
  await clock.advance(30)
  assert.equal(api.first.length, 0)
  assert.ok(frameIsOpen())
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('the frame stays open while the issuer cannot be reached', async () => {
  let issuer = async () => 'bearer'
  const { outcome } = await started(client({ bearerToken: () => issuer() }))
  issuer = () => Promise.reject(new TypeError('Failed to fetch'))
  await clock.advance(30)
  assert.ok(frameIsOpen())
  assert.deepEqual(sent(), [POST])
  issuer = async () => 'bearer'
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await clock.advance(10)
  assert.equal((await outcome).kind, 'ended')
})

test('a user who has to sign in again learns so at once', async () => {
  const bearerToken = () => Promise.reject(new ApiError(401))
  await assert.rejects(client({ bearerToken }).start('CHANGE_PIN'), { status: 401 })
  assert.deepEqual(sent(), [])
  assert.equal(localStorage.length, 0)
})

test('once the frame is closed, a service that cannot be reached ends the attempt', async () => {
  const { outcome } = await started()
  api.first = Array.from({ length: 6 }, () => 'no response' as const)
  sdk.close()
  const failed = assert.rejects(outcome, { status: 0 })
  await clock.advance(30)
  await failed
  assert.equal(sent().length, 1 + 6)
})

test('an error that lasts closes the frame', async () => {
  const { outcome } = await started()
  api.first = [{ status: 401, body: { message: 'Unauthorized' } }]
  const failed = assert.rejects(outcome, { status: 401 })
  await clock.advance(3)
  await failed
  assert.equal(frameIsOpen(), false)
})

test('a response that breaks off is no response', async () => {
  api.first = ['half a response']
  const outcome = client().start('CHANGE_PIN')
  await clock.advance(2)
  assert.deepEqual(sent(), [POST, POST])
  assert.deepEqual(sdk.runs.map(({ challengeId }) => challengeId), [CHALLENGE_ID])
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  assert.equal((await outcome).kind, 'ended')
})

test('each response about the challenge is passed on', async () => {
  const updates: string[] = []
  const { outcome } = await started(client({ onUpdate: ({ status }) => updates.push(status) }))
  api.challenge = challenge('COMPLETE')
  sdk.complete()
  await outcome
  assert.deepEqual(updates, ['PENDING', 'COMPLETE'])
})
