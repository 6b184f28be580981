import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decode } from './jsonwebtoken.ts'

const encode = (claims: object) => Buffer.from(JSON.stringify(claims)).toString('base64url')

test('the claims of a token are decoded', () => {
  // The encoded text has `-`, `_` and letters outside ASCII.
  const claims = { nonce: '>>>???', name: 'Zoë' }
  assert.match(encode(claims), /[-_]/)
  assert.deepEqual(decode(`header.${encode(claims)}.signature`), claims)
})

test('a text that is not a token has no claims', () => {
  for (const text of ['', 'token', 'a.b.c', 'a.*.c', `a.${Buffer.from('{').toString('base64url')}.c`]) {
    assert.equal(decode(text), null)
  }
})
