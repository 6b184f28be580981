// The quick start of the README, exactly as it stands there, with Circle's Web SDK and the local stack.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { beforeEach, test } from 'node:test'
import { frames, openFrame } from './frame.js'
import { API_URL, CIRCLE_APP_ID, control, page, stack, until, whileTimePasses, window } from './page.js'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
const blocks = [...readme.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code)
assert.equal(blocks.length, 1, 'the README has one block of JavaScript')
const generated = new URL('generated/quick-start.js', import.meta.url)
mkdirSync(new URL('.', generated), { recursive: true })
writeFileSync(
  generated,
  `import { API_URL, CIRCLE_APP_ID, bearerToken, fetch, setTimeout } from '../page.js'\n${blocks[0]}`,
)
const { changePin, resume } = await import(generated)

const PIN = stack.pin
const NEW_PIN = '445566'

// Each test has an hour of its own, because a user may ask for ten challenges in an hour.
beforeEach(async () => {
  await control('POST', '/clock/advance', { seconds: 3600 })
  await control('PUT', `/users/${stack.userId}`, {
    pin: PIN,
    pinStatus: 'ENABLED',
    securityQuestionStatus: 'ENABLED',
  })
  window.document.body.replaceChildren()
  frames.length = 0
  Object.assign(page, { token: stack.bearerToken, requests: [], isOffline: false, pendingWait: null })
})

const limits = { timeout: 60_000 }

/** Waits until the record has a status, without asking Circle. */
async function recorded(challengeId, status) {
  const headers = { authorization: `Bearer ${stack.bearerToken}` }
  await until(async () => {
    const response = await fetch(`${API_URL}/challenges/${challengeId}`, { headers })
    return (await response.json()).status === status
  })
}

const sent = () => page.requests.map(({ method, path }) => `${method} ${path}`)

test('the right PIN completes the challenge', limits, async () => {
  const result = changePin()
  const frame = await openFrame()
  assert.equal(frame.url, 'https://pw-auth.circle.com/?origin=https://app.example')
  const created = await page.requests[0].response.json()
  const { userToken, encryptionKey } = created.session
  assert.deepEqual(frame.task.auth, { userToken, encryptionKey })
  assert.deepEqual(frame.task.appSettings, { appId: CIRCLE_APP_ID })
  assert.deepEqual(frame.task.challenge, { challengeId: created.challengeId })

  await frame.enterPin(PIN, NEW_PIN)
  await recorded(created.challengeId, 'COMPLETE')
  frame.complete()
  // No time passes: the SDK's callback ends the wait.
  await until(() => page.requests.length === 2)
  const challenge = await result
  assert.equal(challenge.status, 'COMPLETE')
  assert.equal(challenge.challengeId, created.challengeId)
  assert.deepEqual(sent(), ['POST /challenges', `GET /challenges/${created.challengeId}`])
  assert.equal(page.requests[1].headers['x-user-token'], userToken)
  assert.equal(frame.isOpen, false)
})

test('a wrong PIN leaves the frame open, and the right one completes the challenge', limits, async () => {
  const result = changePin()
  const frame = await openFrame()
  const { status } = await frame.enterPin('000000')
  assert.equal(status, 'IN_PROGRESS')
  frame.rejectPin()
  await until(() => page.requests.length === 2)
  assert.equal(frame.isOpen, true)

  await frame.enterPin(PIN, NEW_PIN)
  frame.complete()
  assert.equal((await whileTimePasses(result)).status, 'COMPLETE')
  assert.equal(frames.length, 1)
})

test('a user who cancels gets the reason', limits, async () => {
  const result = changePin()
  const frame = await openFrame()
  await frame.cancel()
  const { status, failure } = await whileTimePasses(result)
  assert.equal(status, 'FAILED')
  assert.equal(failure.reason, 'cancelled')
  assert.ok(failure.message)
  assert.equal(frame.isOpen, false)
})

test('the result needs neither the callback nor a webhook', limits, async () => {
  await control('PATCH', '/knobs', { loseWebhooks: 1_000_000 })
  const result = changePin()
  const frame = await openFrame()
  await frame.enterPin(PIN, NEW_PIN)
  assert.equal((await whileTimePasses(result)).status, 'COMPLETE')
  await control('PATCH', '/knobs', { loseWebhooks: 0 })
})

test('a key whose challenge has ended opens no frame', limits, async () => {
  const key = randomUUID()
  const first = changePin(key)
  await (await openFrame()).enterPin(PIN, NEW_PIN)
  const { challengeId } = await whileTimePasses(first)

  page.requests = []
  const again = await whileTimePasses(changePin(key))
  assert.equal(again.challengeId, challengeId)
  assert.equal(again.status, 'COMPLETE')
  assert.equal(again.session, undefined)
  assert.deepEqual(sent(), ['POST /challenges'])
  assert.equal(page.requests[0].response.status, 200)
  assert.equal(frames.length, 1)
})

test('a key whose challenge is open runs the same challenge', limits, async () => {
  const headers = { authorization: `Bearer ${stack.bearerToken}`, 'idempotency-key': randomUUID() }
  const lost = await fetch(`${API_URL}/challenges`, { method: 'POST', headers })
  const { challengeId } = await lost.json()

  const result = changePin(headers['idempotency-key'])
  const frame = await openFrame()
  assert.equal(frame.task.challenge.challengeId, challengeId)
  await frame.enterPin(PIN, NEW_PIN)
  assert.equal((await whileTimePasses(result)).status, 'COMPLETE')
})

test('a challenge goes on after a reload, with a new session', limits, async () => {
  const headers = { authorization: `Bearer ${stack.bearerToken}` }
  const before = await fetch(`${API_URL}/challenges`, { method: 'POST', headers })
  const { challengeId, session } = await before.json()

  const result = resume(challengeId)
  const frame = await openFrame()
  assert.deepEqual(sent().slice(0, 2), ['POST /session-tokens', `GET /challenges/${challengeId}`])
  assert.equal(frame.task.challenge.challengeId, challengeId)
  const { userToken, encryptionKey } = await page.requests[0].response.json()
  assert.deepEqual(frame.task.auth, { userToken, encryptionKey })
  assert.notEqual(userToken, session.userToken)
  await frame.enterPin(PIN, NEW_PIN)
  assert.equal((await whileTimePasses(result)).status, 'COMPLETE')

  // Once it has ended, there is nothing to go on with.
  assert.equal((await whileTimePasses(resume(challengeId))).status, 'COMPLETE')
  assert.equal(frames.length, 1)
})

test('a locked PIN is an error with a text for the user', limits, async () => {
  await control('PATCH', `/users/${stack.userId}`, { pinStatus: 'LOCKED' })
  await assert.rejects(changePin(), (error) => {
    const { code, status, userMessage } = error.cause
    assert.deepEqual([code, status], ['pin_locked', 423])
    assert.match(userMessage, /locked until/)
    assert.equal(error.message, userMessage)
    return true
  })
  assert.deepEqual(sent(), ['POST /challenges'])
  assert.equal(frames.length, 0)
})

test('an error of the gateway has a text for the user too', limits, async () => {
  page.token = 'not-a-token'
  await assert.rejects(changePin(), {
    message: 'Please try again later.',
    cause: { message: 'Unauthorized', status: 401 },
  })
  assert.equal(frames.length, 0)
})

test('Retry-After sets the pace, until the session ends', limits, async () => {
  const result = changePin()
  await openFrame()
  const waits = []
  const { status, checkError } = await whileTimePasses(result, waits)
  assert.equal(status, 'PENDING')
  assert.equal(checkError.code, 'invalid_user_token')
  assert.ok(checkError.userMessage)

  const paces = page.requests.map(({ response }) => Number(response.headers.get('retry-after')))
  assert.deepEqual(waits, paces.slice(0, -1))
  assert.equal(waits[0], 3)
  assert.equal(waits.at(-1), 60)
  const total = waits.reduce((sum, wait) => sum + wait)
  // The stack's clock also runs by itself, so the waits need not add up to the whole hour of a session.
  assert.ok(total > 3540 && total < 3720, `${total} s`)
})

test('requests that fail while the user is busy do not end it', limits, async () => {
  const result = changePin()
  const frame = await openFrame()
  page.isOffline = true
  frame.rejectPin()
  page.pendingWait = null
  await until(() => page.pendingWait)
  page.isOffline = false
  await frame.enterPin(PIN, NEW_PIN)
  assert.equal((await whileTimePasses(result)).status, 'COMPLETE')
})

test('requests that keep failing end it', limits, async () => {
  const result = changePin()
  await openFrame()
  page.isOffline = true
  const waits = []
  await assert.rejects(whileTimePasses(result, waits), { message: 'Failed to fetch' })
  assert.equal(waits.length, 6)
})
