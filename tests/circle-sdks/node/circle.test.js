// Circle's Node SDK, unmodified, against the simulator: success and errors of every call that the functions make.

import assert from 'node:assert/strict'
import { createPublicKey, randomUUID, verify } from 'node:crypto'
import { describe, test } from 'node:test'
import { client, clientWith, control, newUser, receiver, rejected, signedIn } from './stage.js'

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

describe('createUserToken', () => {
  test('returns a token and an encryption key', async () => {
    const userId = await newUser()
    const { status, data } = await client.createUserToken({ userId })
    assert.equal(status, 200)
    const claims = JSON.parse(Buffer.from(data.userToken.split('.')[1], 'base64url'))
    assert.equal(claims.sub, userId)
    assert.equal(claims.exp - claims.iat, 3600)
    assert.equal(Buffer.from(data.encryptionKey, 'base64').length, 32)
  })

  test('rejects an unknown user', () => rejected(client.createUserToken({ userId: 'nobody' }), 404, 155102))
  test('rejects a user id that is too short', () => rejected(client.createUserToken({ userId: 'abc' }), 400, 2))
  test('rejects a missing user id', () => rejected(client.createUserToken({}), 400, 1))

  test('rejects a wrong and a malformed API key', async () => {
    const userId = await newUser()
    await rejected(clientWith('TEST_API_KEY:a:b').createUserToken({ userId }), 401, 4)
    await rejected(clientWith('nonsense').createUserToken({ userId }), 401, 401)
  })

  test('returns the request id that was sent', async () => {
    const userId = await newUser()
    const xRequestId = randomUUID()
    const { headers } = await client.createUserToken({ userId, xRequestId })
    assert.equal(headers['x-request-id'], xRequestId)
  })
})

describe('createUser and getUser', () => {
  test('create and read a user without a PIN', async () => {
    const userId = `node-${randomUUID()}`
    const created = await client.createUser({ userId })
    assert.equal(created.status, 201)
    assert.equal(created.data.id, userId)
    assert.equal(created.data.pinStatus, 'UNSET')
    const { status, data } = await client.getUser({ userId })
    assert.equal(status, 200)
    assert.deepEqual(data.user, created.data)
    await rejected(client.createUser({ userId }), 409, 155101)
  })

  test('reject invalid and unknown user ids', async () => {
    await rejected(client.createUser({ userId: 'x'.repeat(51) }), 400, 2)
    await rejected(client.getUser({ userId: 'nobody' }), 404, 155102)
    await rejected(client.getUser({ userId: 'abc' }), 400, 2)
  })
})

describe('getUserStatus', () => {
  test('shows when the lock of a PIN ends', async () => {
    const { userToken } = await signedIn({ pinStatus: 'LOCKED', securityQuestionStatus: 'UNSET' })
    const { status, data } = await client.getUserStatus({ userToken })
    assert.equal(status, 200)
    assert.equal(data.status, 'ENABLED')
    assert.equal(data.pinStatus, 'LOCKED')
    assert.equal(data.securityQuestionStatus, 'UNSET')
    assert.equal(data.pinDetails.failedAttempts, 3)
    const lock = Date.parse(data.pinDetails.lockedExpiryDate) - Date.parse(data.pinDetails.lockedDate)
    assert.equal(lock, 30 * 60 * 1000)
  })

  test('has an error for each kind of unusable token', async () => {
    const { userId, userToken } = await signedIn()
    await rejected(client.getUserStatus({ userToken: 'nonsense' }), 403, 155105)
    await control('POST', `/users/${userId}/forget-tokens`)
    await rejected(client.getUserStatus({ userToken }), 401, 155103)
    const later = await signedIn()
    await control('POST', '/clock/advance', { seconds: 3600 })
    await rejected(client.getUserStatus({ userToken: later.userToken }), 403, 155104)
  })
})

describe('updateUserPin', () => {
  test('creates one challenge for one idempotency key', async () => {
    const { userToken } = await signedIn()
    const idempotencyKey = randomUUID()
    const first = await client.updateUserPin({ userToken, idempotencyKey })
    const again = await client.updateUserPin({ userToken, idempotencyKey })
    const other = await client.updateUserPin({ userToken })
    assert.deepEqual([first.status, again.status, other.status], [201, 200, 201])
    assert.match(first.data.challengeId, uuid)
    assert.equal(again.data.challengeId, first.data.challengeId)
    assert.notEqual(other.data.challengeId, first.data.challengeId)
  })

  test('accepts the user id instead of a token', async () => {
    const { status } = await client.updateUserPin({ userId: await newUser() })
    assert.equal(status, 201)
  })

  for (const [state, status, code] of [
    [{ pinStatus: 'UNSET' }, 403, 155110],
    [{ pinStatus: 'LOCKED' }, 403, 155119],
  ]) {
    test(`rejects a user with ${JSON.stringify(state)}`, async () => {
      const { userToken } = await signedIn(state)
      await rejected(client.updateUserPin({ userToken }), status, code)
    })
  }

  test('rejects a user who was disabled after the token was created, and creates no new token', async () => {
    const { userId, userToken } = await signedIn()
    await control('PATCH', `/users/${userId}`, { status: 'DISABLED' })
    await rejected(client.updateUserPin({ userToken }), 403, 155109)
    await rejected(client.createUserToken({ userId }), 403, 155109)
    await rejected(client.getUserStatus({ userToken }), 403, 155109)
    assert.equal((await client.getUser({ userId })).data.user.status, 'DISABLED')
  })

  test('rejects a key that is not a UUID', async () => {
    const { userToken } = await signedIn()
    await rejected(client.updateUserPin({ userToken, idempotencyKey: 'abc' }), 400, 2)
  })

  test('does not retry after a rate limit or a lost response', async () => {
    const { userToken } = await signedIn()
    const call = { method: 'PUT', path: '/v1/w3s/user/pin' }
    await control('POST', '/faults', { ...call, status: 429, retryAfter: '1' })
    await rejected(client.updateUserPin({ userToken }), 429, 429)
    await control('POST', '/faults', { ...call, drop: true, afterEffect: true })
    const idempotencyKey = randomUUID()
    await assert.rejects(client.updateUserPin({ userToken, idempotencyKey }), (error) => {
      assert.equal(error.status, undefined)
      return true
    })
    const { status } = await client.updateUserPin({ userToken, idempotencyKey })
    assert.equal(status, 200)
  })
})

describe('restoreUserPin', () => {
  test('creates a challenge even if the PIN is locked', async () => {
    const { userToken } = await signedIn({ pinStatus: 'LOCKED', securityQuestionStatus: 'ENABLED' })
    const idempotencyKey = randomUUID()
    const first = await client.restoreUserPin({ userToken, idempotencyKey })
    const again = await client.restoreUserPin({ userToken, idempotencyKey })
    assert.deepEqual([first.status, again.status], [201, 200])
    assert.equal(again.data.challengeId, first.data.challengeId)
  })

  for (const [securityQuestionStatus, code] of [['UNSET', 155111], ['LOCKED', 155120]]) {
    test(`rejects a user whose security questions are ${securityQuestionStatus}`, async () => {
      const { userToken } = await signedIn({ pinStatus: 'ENABLED', securityQuestionStatus })
      await rejected(client.restoreUserPin({ userToken }), 403, code)
    })
  }
})

describe('getUserChallenge and listUserChallenges', () => {
  test('follow a challenge to its final status', async () => {
    const { userToken } = await signedIn()
    const challengeId = (await client.updateUserPin({ userToken })).data.challengeId
    const read = async () => (await client.getUserChallenge({ userToken, challengeId })).data.challenge
    const listed = async (challengeStatus) => {
      const { status, data } = await client.listUserChallenges({ userToken, challengeStatus })
      assert.equal(status, 200)
      return data.challenges.map((challenge) => challenge.id)
    }
    const pending = { id: challengeId, type: 'CHANGE_PIN', status: 'PENDING', correlationIds: [] }
    assert.deepEqual(await read(), pending)
    assert.deepEqual(await listed('PENDING'), [challengeId])
    await control('POST', `/challenges/${challengeId}/pin`, { correct: false })
    assert.equal((await read()).status, 'IN_PROGRESS')
    assert.deepEqual(await listed('PENDING'), [])
    assert.deepEqual(await listed('IN_PROGRESS'), [challengeId])
    await control('POST', `/challenges/${challengeId}/pin`, { correct: true })
    assert.equal((await read()).status, 'COMPLETE')
    assert.deepEqual(await listed(undefined), [])
  })

  test('show why a challenge failed', async () => {
    const { userToken } = await signedIn()
    const challengeId = (await client.updateUserPin({ userToken })).data.challengeId
    for (let wrong = 0; wrong < 3; wrong++) {
      await control('POST', `/challenges/${challengeId}/pin`, { correct: false })
    }
    const { challenge } = (await client.getUserChallenge({ userToken, challengeId })).data
    assert.equal(challenge.status, 'FAILED')
    assert.equal(challenge.errorCode, 155119)
    assert.equal(typeof challenge.errorMessage, 'string')
  })

  test('reject unknown challenges and statuses', async () => {
    const { userToken } = await signedIn()
    await rejected(client.getUserChallenge({ userToken, challengeId: randomUUID() }), 404, 155116)
    await rejected(client.getUserChallenge({ userToken, challengeId: 'abc' }), 400, 2)
    await rejected(client.listUserChallenges({ userToken, challengeStatus: 'COMPLETE' }), 400, 2)
    const challengeId = (await client.updateUserPin({ userToken })).data.challengeId
    const other = await signedIn()
    await rejected(client.getUserChallenge({ userToken: other.userToken, challengeId }), 404, 155116)
  })
})

describe('subscriptions', () => {
  test('are created, listed, read, changed and deleted', async (context) => {
    const here = await receiver()
    context.after(here.close)
    const { endpoint } = here
    const created = await client.createSubscription({ endpoint, notificationTypes: ['challenges.*'] })
    assert.equal(created.status, 200)
    const { id } = created.data
    assert.equal(created.data.endpoint, endpoint)
    assert.equal(created.data.enabled, true)
    assert.equal(created.data.restricted, true)
    assert.deepEqual(created.data.notificationTypes, ['challenges.*'])

    const listed = await client.listSubscriptions()
    assert.deepEqual(listed.data.find((one) => one.id === id), created.data)
    const read = await client.getSubscription(id)
    assert.deepEqual(read.data, created.data)
    const changed = await client.updateSubscription({ id, name: 'renamed', enabled: false })
    assert.equal(changed.status, 200)
    assert.deepEqual([changed.data.name, changed.data.enabled], ['renamed', false])
    const deleted = await client.deleteSubscription(id)
    assert.equal(deleted.status, 204)
    await rejected(client.getSubscription(id), 404, 2)
    await rejected(client.updateSubscription({ id, name: 'x', enabled: true }), 404, 2)
    await rejected(client.deleteSubscription(id), 404, 2)
  })

  test('reject invalid endpoints, types and changes', async (context) => {
    const here = await receiver()
    context.after(here.close)
    const { endpoint } = here
    await rejected(client.createSubscription({ endpoint: 'http://example.com/webhooks' }), 400, 2)
    await rejected(client.createSubscription({ endpoint: 'http://127.0.0.1:1/' }), 400, 2)
    await rejected(client.createSubscription({ endpoint, notificationTypes: ['nonsense'] }), 400, 2)
    await rejected(client.createSubscription({}), 400, 1)
    const { id } = (await client.createSubscription({ endpoint })).data
    await rejected(client.updateSubscription({ id, name: 'x' }), 400, 1)
    await client.deleteSubscription(id)
  })

  test('cannot be listed with a wrong or a malformed API key', async () => {
    await rejected(clientWith('TEST_API_KEY:a:b').listSubscriptions(), 401, 4)
    await rejected(clientWith('nonsense').listSubscriptions(), 401, 401)
  })
})

describe('getNotificationSignature', () => {
  test('returns the public key that verifies a webhook', async (context) => {
    const here = await receiver()
    context.after(here.close)
    const { endpoint } = here
    const { id } = (await client.createSubscription({ endpoint })).data
    const { userToken } = await signedIn()
    const { challengeId } = (await client.updateUserPin({ userToken })).data
    const message = await here.next((json) => json.notification.id === challengeId)
    assert.equal(message.json.notificationType, 'challenges.changePin')
    assert.equal(message.json.notification.status, 'PENDING')

    const { status, data } = await client.getNotificationSignature(message.headers['x-circle-key-id'])
    assert.equal(status, 200)
    assert.equal(data.algorithm, 'ECDSA_SHA_256')
    const key = createPublicKey({ key: Buffer.from(data.publicKey, 'base64'), format: 'der', type: 'spki' })
    assert.equal(key.asymmetricKeyDetails.namedCurve, 'prime256v1')
    const signature = Buffer.from(message.headers['x-circle-signature'], 'base64')
    assert.ok(verify('sha256', message.body, key, signature))
    await client.deleteSubscription(id)
  })

  test('rejects unknown and malformed key ids', async () => {
    await rejected(client.getNotificationSignature(randomUUID()), 404, 2)
    await rejected(client.getNotificationSignature('abc'), 400, 2)
  })
})
